//! Dialling a destination from the node: what its name resolves to at this moment, less what no name may lead to.
//!
//! Where that is, `rouse_types::egress::address` says. The address that was checked is the address that is dialled. What
//! is meant to be reached there is written as it is: the address itself, `localhost`, or a name in the operator's own
//! file.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use rouse_sandbox::Stream;
use rouse_types::egress::{
    PLATFORM_HOST, PLATFORM_PORT,
    address::{self, Never},
};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};

use super::plan::{LOCALHOST, Target};

/// How long a name may take to resolve, and each address to answer.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// The operator's names, in the state folder, in the form of `hosts(5)`.
const HOSTS_FILE: &str = "hosts";
/// More than an operator writes by hand.
const HOSTS_BYTES_MAX: u64 = 1 << 20;

/// Why a destination was not reached. Told in the function's log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The name system said no.
    #[error("its name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// It leads nowhere, or where no name may lead.
    #[error(transparent)]
    Never(#[from] Never),
    /// Nobody answers there.
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// The platform has no address for AWS' clients, or its process is away.
    #[error("the platform does not answer AWS' clients at the moment (`rouse serve --aws`): {0}")]
    Platform(io::Error),
}

/// Dials for all sandboxes of a node.
#[derive(Debug)]
pub struct Dialer {
    hosts: PathBuf,
    /// The platform's own socket for AWS' clients.
    platform: PathBuf,
    names: Names,
}

/// Who resolves names.
#[derive(Debug)]
pub(super) enum Names {
    /// This machine, as for its other programs.
    System,
    /// A test.
    #[cfg(test)]
    These(std::collections::HashMap<String, Vec<IpAddr>>),
}

impl Dialer {
    /// A dialer with the operator's names of this state folder.
    #[must_use]
    pub fn new(state: &std::path::Path) -> Self {
        Self { hosts: state.join(HOSTS_FILE), platform: state.join("run/aws.sock"), names: Names::System }
    }

    #[cfg(test)]
    pub(super) fn with(state: &std::path::Path, names: Names) -> Self {
        Self { names, ..Self::new(state) }
    }

    /// Connects to a destination that is allowed.
    pub(super) async fn dial(&self, target: &Target, port: u16) -> Result<Stream, Error> {
        if matches!(target, Target::Name(name) if name == PLATFORM_HOST) && port == PLATFORM_PORT {
            return UnixStream::connect(&self.platform).await.map(Stream::Unix).map_err(Error::Platform);
        }
        let addresses = match target {
            Target::Address(address) => vec![*address],
            Target::Name(name) => self.addresses(name).await?,
        };
        let mut last = Error::Never(Never::NoAddress);
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(address, port);
            match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // As for the code's own socket: small messages must not wait.
                    let _ = stream.set_nodelay(true);
                    return Ok(Stream::Tcp(stream));
                }
                Ok(Err(error)) => last = Error::Connect(address, error),
                Err(_) => last = Error::Connect(address, io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    /// What a name leads to, less what it may not lead to.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        if name == LOCALHOST {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // The operator's word stands, wherever it leads.
        if let Some(meant) = self.operators(name).await {
            return Ok(vec![meant]);
        }
        let resolved: Vec<IpAddr> = match &self.names {
            Names::System => {
                // The port matters not.
                let looked_up = timeout(RESOLVE_MAX, lookup_host((name, 0))).await;
                let looked_up = looked_up.map_err(|_| Error::Resolve(io::ErrorKind::TimedOut.into()))?;
                looked_up.map_err(Error::Resolve)?.map(|address| address.ip()).collect()
            }
            #[cfg(test)]
            Names::These(names) => names.get(name).cloned().unwrap_or_default(),
        };
        Ok(address::allowed(resolved, address::is_own)?)
    }

    async fn operators(&self, name: &str) -> Option<IpAddr> {
        let metadata = tokio::fs::metadata(&self.hosts).await.ok()?;
        if metadata.len() > HOSTS_BYTES_MAX {
            tracing::warn!(file = %self.hosts.display(), "too large to be read");
            return None;
        }
        let text = tokio::fs::read_to_string(&self.hosts).await.ok()?;
        address::in_hosts(&text, name)
    }
}
