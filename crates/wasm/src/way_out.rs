//! The way out of a component: requests to the destinations that its function was given, and to no other.
//!
//! ```text
//!  request ─▶ is it allowed? ─▶ the operator's names, or resolve and check ─▶ connect to that address ─▶ TLS ─▶ send
//! ```
//!
//! Where a name may not lead, `rouse_types::egress::address` says, for containers as for components. The address that
//! was checked is the one that is connected to; TLS is spoken with the name that the request has.

mod send;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::uri::Scheme;
use rouse_types::{
    Egress,
    egress::{
        PLATFORM_HOST, PLATFORM_PORT,
        address::{self, Never},
    },
};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use crate::log::{LogSink, Stream};
use send::Sent;

/// How long a name may take to resolve, and each address to answer.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// More than an operator writes by hand.
const HOSTS_BYTES_MAX: u64 = 1 << 20;
/// The name of the machine itself: whoever writes it as a destination means it.
const LOCALHOST: &str = "localhost";

/// What all components of an engine share to get out.
pub(crate) struct Outside {
    /// The operator's names, in the form of `hosts(5)`.
    hosts: PathBuf,
    /// That file as it was read last, and when it had been written.
    read: Mutex<Option<(SystemTime, Arc<str>)>>,
    /// The platform's own socket for AWS' clients.
    platform: PathBuf,
    tls: TlsConnector,
    /// Who resolves names in a test, instead of this machine.
    #[cfg(test)]
    names: Option<std::collections::HashMap<String, Vec<IpAddr>>>,
}

impl Outside {
    /// With the operator's names in a file `hosts` of the state folder, which need not be there.
    pub(crate) fn new(state: &Path) -> Result<Self, tokio_rustls::rustls::Error> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        Self::with_roots(state, roots)
    }

    fn with_roots(state: &Path, roots: RootCertStore) -> Result<Self, tokio_rustls::rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self {
            hosts: state.join("hosts"),
            platform: state.join("run/aws.sock"),
            read: Mutex::default(),
            tls,
            #[cfg(test)]
            names: None,
        })
    }

    /// Where a host leads, less where it may not. One that is a destination as it is written was meant.
    async fn addresses(&self, host: &str, written: bool) -> Result<Vec<IpAddr>, Why> {
        if let Ok(address) = host.parse::<IpAddr>() {
            if written {
                return Ok(vec![address]);
            }
            return address::allowed([address], address::is_own).map_err(Why::Never);
        }
        if written && host.eq_ignore_ascii_case(LOCALHOST) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // The operator's word stands, wherever it leads.
        if let Some(meant) = self.operators(host) {
            return Ok(vec![meant]);
        }
        address::allowed(self.resolve(host).await?, address::is_own).map_err(Why::Never)
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Why> {
        #[cfg(test)]
        if let Some(names) = &self.names {
            return Ok(names.get(host).cloned().unwrap_or_default());
        }
        // The port matters not.
        let looked_up = timeout(RESOLVE_MAX, lookup_host((host, 0))).await;
        let looked_up = looked_up.map_err(|_| Why::Failed(Error::DnsTimeout))?;
        let found = looked_up.map_err(Why::Resolve)?;
        Ok(found.map(|address| address.ip()).collect())
    }

    /// Reads the operator's file when it has changed: a look at its date costs a microsecond or two.
    fn operators(&self, name: &str) -> Option<IpAddr> {
        let about = std::fs::metadata(&self.hosts).ok().filter(|about| about.len() <= HOSTS_BYTES_MAX)?;
        let written = about.modified().ok()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match &*read {
            Some((at, text)) if *at == written => Arc::clone(text),
            _ => {
                let text: Arc<str> = std::fs::read_to_string(&self.hosts).ok()?.into();
                *read = Some((written, Arc::clone(&text)));
                text
            }
        };
        address::in_hosts(&text, name)
    }

    async fn connect(&self, place: &Place) -> Result<TcpStream, Why> {
        let mut last = Why::Never(Never::NoAddress);
        for address in self.addresses(&place.host, place.written).await?.into_iter().take(ADDRESSES_MAX) {
            match timeout(CONNECT_MAX, TcpStream::connect(SocketAddr::new(address, place.port))).await {
                Ok(Ok(stream)) => {
                    // Small requests must not wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Why::Failed(Error::Connect(error)),
                Err(_) => last = Why::Failed(Error::ConnectionTimeout),
            }
        }
        Err(last)
    }

    async fn send(
        &self,
        place: &Place,
        request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Sent, Why> {
        if place.host == PLATFORM_HOST && place.port == PLATFORM_PORT && !place.tls {
            let stream = UnixStream::connect(&self.platform).await;
            let stream = stream.map_err(|error| Why::Failed(Error::Connect(error)))?;
            return send::send(stream, request, options).await.map_err(Why::Failed);
        }
        let connect = async {
            let stream = self.connect(place).await?;
            if !place.tls {
                return Ok((stream, None));
            }
            let name = ServerName::try_from(place.host.clone()).map_err(|_| Error::HttpRequestUriInvalid);
            Ok((stream, Some(name.map_err(Why::Failed)?)))
        };
        let (stream, name) = match options.connect_timeout {
            None => connect.await,
            Some(most) => timeout(most, connect).await.unwrap_or(Err(Why::Failed(Error::ConnectionTimeout))),
        }?;
        let Some(name) = name else { return send::send(stream, request, options).await.map_err(Why::Failed) };
        let shaken = timeout(CONNECT_MAX, self.tls.connect(name, stream)).await;
        let stream = shaken.map_err(|_| Why::Failed(Error::ConnectionTimeout))?;
        let stream = stream.map_err(|error| Why::Failed(Error::Tls(error)))?;
        send::send(stream, request, options).await.map_err(Why::Failed)
    }
}

/// Where a request wants to.
struct Place {
    host: String,
    port: u16,
    tls: bool,
    /// Whether it is a destination as it stands: then an address is meant, and `localhost` is.
    written: bool,
}

/// Why a request does not get out.
enum Why {
    /// Its name may not lead there. Told in the function's log.
    Never(Never),
    /// The name system said no.
    Resolve(io::Error),
    Failed(Error),
}

impl From<Why> for Error {
    fn from(why: Why) -> Self {
        match why {
            Why::Never(Never::NoAddress) => Self::DestinationNotFound,
            Why::Never(Never::Forbidden(..)) => Self::DestinationIpProhibited,
            Why::Resolve(error) => Self::DnsError { rcode: Some(error.to_string()), info_code: None },
            Why::Failed(error) => error,
        }
    }
}

/// The way out of one instance.
pub(crate) struct WayOut {
    allowed: Egress,
    outside: Arc<Outside>,
    pub(crate) sink: LogSink,
}

impl WayOut {
    pub(crate) fn new(allowed: Egress, outside: Arc<Outside>, sink: LogSink) -> Self {
        Self { allowed, outside, sink }
    }

    /// Whether a request may go where it wants to; if not, the log has the line that would allow it.
    fn check(&self, uri: &http::Uri) -> Result<Place> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = uri.scheme() != Some(&Scheme::HTTP);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if self.allowed.allows(host, port) {
            let written = self.allowed != Egress::All;
            return Ok(Place { host: host.to_owned(), port, tls, written });
        }
        let hint =
            format!("a request to {host}:{port} was refused; to allow it, add egress = [\"{host}:{port}\"]");
        (self.sink)(Stream::Platform, &hint);
        Err(Error::HttpRequestDenied)
    }
}

impl WasiHttpHooks for WayOut {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent>> + Send> {
        let checked = self.check(request.uri());
        let (outside, sink) = (Arc::clone(&self.outside), self.sink.clone());
        Box::new(async move {
            let place = checked?;
            let sent = outside.send(&place, request, options.unwrap_or_default()).await;
            sent.map_err(|why| {
                if let Why::Never(never) = &why {
                    let Place { host, port, .. } = &place;
                    sink(Stream::Platform, &format!("a request to {host}:{port} was refused: {never}"));
                }
                why.into()
            })
        })
    }
}

#[cfg(test)]
mod tests;
