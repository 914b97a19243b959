//! The AWS-shaped face: Amazon's own clients (boto3, the aws command line, the SDKs) work against Rouse as they are.
//!
//! ```text
//!   client ─▶ server ─▶ auth: whose key ─▶ body ─▶ sigv4: is it true ─┬─▶ lambda: protocol ─▶ validate ─▶ operation
//!                ├─▶ s3: passed on unread, checked there              └─▶ sqs, sts, iam, logs
//!                └─▶ url: a function's own address, for anyone or for who signs
//!                                      operation ─▶ state (own records) ─▶ platform: control deploys, gateways run
//! ```
//!
//! What is said of the Lambda API (paths, members, constraints, errors) is said by botocore's model: see [`model`].
//!
//! Invariant: nothing of a request is parsed before the key that it claims is known, and nothing of its body before
//! its signature is proven. Calls need no control process.

mod access;
mod audit;
mod auth;
mod error;
mod face;
mod function_keys;
mod header_case;
mod iam;
mod lambda;
mod logs;
pub mod model;
mod names;
mod platform;
mod protocol;
mod query;
mod s3;
mod server;
mod sigv4;
mod sqs;
mod state;
mod sts;
mod url;
mod validate;

use std::{fmt, net::TcpListener, path::PathBuf, sync::Arc};

use rouse_tls::Door;
use rouse_types::Clock;
use tokio_util::sync::CancellationToken;

/// An answer's body.
pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::io::Error>;

/// What the face is told at its start.
pub struct Config {
    /// The state folder.
    pub state: PathBuf,
    /// Where it listens.
    pub listener: TcpListener,
    /// Whether it answers HTTPS there, with the certificates of the state folder; plain HTTP is for this machine then.
    pub https: bool,
    /// Whether callers from this machine may use any key: for development only.
    pub any_key: bool,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("state", &self.state)
            .field("any_key", &self.any_key)
            .finish_non_exhaustive()
    }
}

/// Why the face could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[from] rouse_store::Error),
}

/// Runs the face until it is told to stop.
///
/// # Errors
/// It could not start. What goes wrong later is answered to whoever asked, and logged.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let io = |action| move |source| Error::Io { action, source };
    let listener = config.listener.try_clone().map_err(io("take the listener"))?;
    listener.set_nonblocking(true).map_err(io("take the listener"))?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(io("take the listener"))?;
    let door = if config.https {
        Door::secure(&config.state, &["http/1.1"]).map_err(io("set up TLS"))?
    } else {
        Door::plain()
    };
    let face = face::Face::open(config)?;
    let unix = server::bind(&face.config.state).map_err(io("listen on the socket for functions"))?;
    face.tasks.spawn(lambda::activate::resume(Arc::clone(&face), stop.clone()));
    face.tasks.spawn(lambda::mappings::resume(Arc::clone(&face), stop.clone()));
    server::serve(&face, (listener, door), unix, stop).await;
    face.tasks.close();
    // What does not end in time is taken up at the next start.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), face.tasks.wait()).await;
    Ok(())
}
