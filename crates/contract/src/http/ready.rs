//! When a server is ready: its port opens, or its health path answers 2xx.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use rouse_sandbox::{Error, Sandbox};
use tokio::time::{Instant, sleep, timeout};

use super::{
    StartError, Why,
    connections::{ADDRESS, Connections},
};

/// The pause between two tries: a small part of the time that has passed, so that a quick server is found at once and a
/// slow one is not held up by being asked.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);
const PAUSE_PART: u32 = 50;
/// How long one answer to a health check may take.
const HEALTH_MAX: Duration = Duration::from_secs(1);
/// What is read of one: it is thrown away.
const HEALTH_BYTES_MAX: usize = 64 << 10;
/// Where servers listen that do not look at `$PORT`.
const USUAL_PORTS: [u16; 9] = [80, 3000, 4000, 5000, 8000, 8081, 8888, 9000, 9090];

/// How far a server has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// What came of the last health check.
    unhealthy: Option<String>,
}

impl Progress {
    /// Waits until the server is ready. Ends with an error only when the sandbox cannot be dialled.
    pub(crate) async fn ready<S: Sandbox>(
        &mut self,
        sandbox: &S,
        connections: &Connections<S>,
        health: Option<&str>,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let tried = match health {
                None => open(sandbox, connections).await,
                Some(path) => timeout(HEALTH_MAX, check(connections, path))
                    .await
                    .unwrap_or_else(|_| Err(NotReady::Unhealthy("it did not answer".into()))),
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(NotReady::Closed) => {}
                Err(NotReady::Unhealthy(last)) => self.unhealthy = Some(last),
                Err(NotReady::Sandbox(Error::Gone)) => return std::future::pending().await,
                Err(NotReady::Sandbox(error)) => return Err(error),
            }
            sleep((begun.elapsed() / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX)).await;
        }
    }

    /// Why it took too long.
    pub(crate) async fn too_slow<S: Sandbox>(
        self,
        sandbox: &S,
        health: Option<&str>,
        after: Duration,
    ) -> StartError {
        if let (Some(path), Some(last)) = (health, self.unhealthy) {
            return StartError::Unhealthy { path: path.to_owned(), after, last, tail: Vec::new() };
        }
        let mut other = None;
        for port in USUAL_PORTS {
            let there = sandbox.dial(SocketAddr::new(ADDRESS.ip(), port));
            if matches!(timeout(PAUSE_MAX, there).await, Ok(Ok(_))) {
                other = Some(port);
                break;
            }
        }
        StartError::NotListening { after, other, tail: Vec::new() }
    }
}

/// What stands in the way.
enum NotReady {
    /// The port is not open yet.
    Closed,
    /// The health path did not answer as it should.
    Unhealthy(String),
    /// The sandbox cannot be dialled. If it has ended: how, its exit tells.
    Sandbox(Error),
}

async fn open<S: Sandbox>(sandbox: &S, connections: &Connections<S>) -> Result<(), NotReady> {
    match sandbox.dial(ADDRESS).await {
        Ok(stream) => {
            // It serves the first call; if it is no good, that makes another.
            drop(connections.adopt(stream).await);
            Ok(())
        }
        Err(Error::NotListening(_)) => Err(NotReady::Closed),
        Err(error) => Err(NotReady::Sandbox(error)),
    }
}

async fn check<S: Sandbox>(connections: &Connections<S>, path: &str) -> Result<(), NotReady> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let unhealthy = |what: &dyn std::fmt::Display| NotReady::Unhealthy(what.to_string());
    let uri = format!("http://localhost:{}{path}", super::PORT);
    let request = Request::get(uri).header("user-agent", "rouse-health").body(body);
    let mut request = request.map_err(|error| unhealthy(&error))?;
    super::headers::address(&mut request, connections.over_h2());
    let (response, lease) = connections.send(request, false).await.map_err(|failure| match failure.why {
        Why::NotListening => NotReady::Closed,
        why => unhealthy(&why),
    })?;
    let status = response.status();
    // Whatever it says: a connection can be used again once its answer was read.
    let read = Limited::new(response.into_body(), HEALTH_BYTES_MAX).collect().await;
    if let (Ok(_), Some(lease)) = (read, lease) {
        lease.give_back();
    }
    if status.is_success() { Ok(()) } else { Err(unhealthy(&format_args!("it answered {status}"))) }
}
