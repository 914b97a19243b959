//! Outcomes that are posted to a URL, each as a CloudEvent in binary mode.
//!
//! A URL leads nowhere that its function itself could not go: its egress must name host and port, and a name leads neither
//! to this machine nor to its cloud's metadata, unless the operator's `hosts` say so. The address that was checked is the
//! one that is dialled. Redirects are not followed, since nobody checked where they lead.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rouse_triggers::{
    cloud_event::{self, Event as CloudEvent},
    retry::Failure,
    target::Address,
};
use rouse_types::{Chain, Egress, chain::CHAIN_HEADER, egress::address};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::decide::Verdict;

/// How long one delivery may take in all: what senders of webhooks allow is 5 to 30 s.
const WHOLE: Duration = Duration::from_secs(30);
/// How long one address may take to take a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// What is read of an answer, so that the receiver is not cut off while it writes; none of it is kept.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// More than an operator writes by hand.
const HOSTS_BYTES_MAX: u64 = 1 << 20;
/// Where hosts keep the authorities that they trust: Debian, Fedora, openSUSE.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Posts to URLs.
pub(crate) struct Outgoing {
    /// The operator's names.
    hosts: PathBuf,
    tls: TlsConnector,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Why nothing was sent, or no answer came.
enum Why {
    /// It may not go there, now or later.
    Forbidden(String),
    Failed(String),
}

impl Outgoing {
    pub(crate) fn new(hosts: PathBuf) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities())
            .with_no_client_auth();
        Ok(Self { hosts, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Posts an event, once.
    pub(crate) async fn post(&self, url: &str, egress: &Egress, chain: &Chain, event: &[u8]) -> Verdict {
        match timeout(WHOLE, self.posted(url, egress, chain, event)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(Why::Forbidden(why))) => Verdict::failed(Failure::Permanent, why),
            Ok(Err(Why::Failed(why))) => Verdict::failed(Failure::Function, why),
            Err(_) => Verdict::failed(Failure::Timeout, format!("no answer within {} s", WHOLE.as_secs())),
        }
    }

    async fn posted(&self, url: &str, egress: &Egress, chain: &Chain, event: &[u8]) -> Result<Verdict, Why> {
        let to = Address::of(url).map_err(|error| Why::Forbidden(error.to_string()))?;
        if !egress.allows(&to.host, to.port) {
            let (host, port) = (&to.host, to.port);
            let why =
                format!("the function's egress does not name {host}:{port}: add \"{host}:{port}\" to it");
            return Err(Why::Forbidden(why));
        }
        let request = request(&to, chain, event)?;
        let stream = self.connect(&to, *egress != Egress::All).await?;
        if !to.tls {
            return send(stream, request).await;
        }
        let name = ServerName::try_from(to.host.clone());
        let name = name.map_err(|_| Why::Forbidden("its host is none that TLS knows".to_owned()))?;
        let shaken = timeout(CONNECT, self.tls.connect(name, stream)).await;
        let stream = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        send(stream.map_err(|error| Why::Failed(format!("no TLS with {}: {error}", to.host)))?, request).await
    }

    async fn connect(&self, to: &Address, written: bool) -> Result<TcpStream, Why> {
        let mut last = "no address".to_owned();
        for address in self.addresses(&to.host, written).await?.into_iter().take(ADDRESSES_MAX) {
            match timeout(CONNECT, TcpStream::connect(SocketAddr::new(address, to.port))).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "it does not answer".to_owned(),
            }
        }
        Err(Why::Failed(format!("cannot connect to {}:{}: {last}", to.host, to.port)))
    }

    /// Where a host leads, less where it may not. One that the egress names as it is written was meant.
    async fn addresses(&self, host: &str, written: bool) -> Result<Vec<IpAddr>, Why> {
        let forbidden = |never: address::Never| Why::Forbidden(format!("'{host}' is not called: {never}"));
        if let Ok(address) = host.parse::<IpAddr>() {
            if written {
                return Ok(vec![address]);
            }
            return address::allowed([address], address::is_own).map_err(forbidden);
        }
        if written && host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if let Some(meant) = self.operators(host) {
            return Ok(vec![meant]);
        }
        let found = lookup_host((host, 0)).await;
        let found = found.map_err(|error| Why::Failed(format!("the name {host} is not found: {error}")))?;
        let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        address::allowed(found, address::is_own).map_err(forbidden)
    }

    fn operators(&self, name: &str) -> Option<IpAddr> {
        std::fs::metadata(&self.hosts).ok().filter(|about| about.len() <= HOSTS_BYTES_MAX)?;
        address::in_hosts(&std::fs::read_to_string(&self.hosts).ok()?, name)
    }
}

/// The request: what was kept is the structured form, what is sent the binary one, whose body is the data alone.
fn request(to: &Address, chain: &Chain, event: &[u8]) -> Result<Request<Full<Bytes>>, Why> {
    let wrong = |what: String| Why::Forbidden(format!("the outcome is no request: {what}"));
    let structured = HeaderValue::from_static(cloud_event::STRUCTURED_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, structured)]);
    let events = cloud_event::read(&headers, event).map_err(|error| wrong(error.to_string()))?;
    let (headers, body) = events.first().map(CloudEvent::to_binary).unwrap_or_default();
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = to.path.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    *request.headers_mut() = headers;
    let host = HeaderValue::try_from(&to.authority).map_err(|error| wrong(error.to_string()))?;
    let chain = HeaderValue::try_from(chain.to_string()).map_err(|error| wrong(error.to_string()))?;
    request.headers_mut().insert(header::HOST, host);
    // An address that leads back to us is a loop, which shows by this.
    request.headers_mut().insert(HeaderName::from_static(CHAIN_HEADER), chain);
    let agent = HeaderValue::from_static(concat!("rouse/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(header::USER_AGENT, agent);
    Ok(request)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Verdict, Why>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| Why::Failed(format!("the exchange broke off: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with this call.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    // Whatever comes of it: the status has been told.
    let _ = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    if head.status.is_success() {
        return Ok(Verdict::Well);
    }
    let after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let reason = format!("the address answered {}", head.status);
    let retry_after = after.map(Duration::from_secs);
    Ok(Verdict::Failed { failure: Failure::Function, reason, retry_after })
}

/// Who is trusted: whom the host trusts, where it has a list, so that a company's own receivers work; else Mozilla's.
fn authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let named = std::env::var("SSL_CERT_FILE").ok();
    for path in named.iter().map(String::as_str).chain(AUTHORITIES) {
        let Ok(found) = CertificateDer::pem_file_iter(path) else { continue };
        // One that cannot be read is trusted by nobody.
        let (added, _) = store.add_parsable_certificates(found.filter_map(Result::ok));
        if added > 0 {
            return store;
        }
    }
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    store
}
