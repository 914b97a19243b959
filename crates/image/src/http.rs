//! HTTPS to registries: one connection for each request, over the workspace's own hyper and rustls.
//!
//! Registries are asked a few dozen times for an image, so nothing is kept open. Trusted are the authorities that the
//! host trusts, where it has a list, so that a company's own registry works; else Mozilla's.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rouse_types::Refusal;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::{
    unavailable,
    url::{Plain, Url},
};

/// How long a registry may take to take a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may be silent: before its answer, and between two pieces of a body.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects in a row: to the store that holds the bytes, and within it.
const REDIRECTS_MAX: usize = 5;
/// Where hosts keep the authorities that they trust: Debian, Fedora, openSUSE.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It will not be otherwise the next time.
    Final(Refusal),
    /// The connection or the registry failed; trying again may help.
    Passing(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Final(refusal)
    }
}

/// A client.
#[derive(Clone)]
pub(crate) struct Http {
    tls: TlsConnector,
    pub(crate) plain: Arc<Plain>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("plain", &self.plain).finish_non_exhaustive()
    }
}

/// An answer whose body comes as it is asked for.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// Drives the connection; ends with the answer.
    _connection: JoinSet<()>,
}

impl Http {
    pub(crate) fn new(plain: Plain) -> Result<Self, Refusal> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unavailable(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(authorities())
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), plain: Arc::new(plain) })
    }

    /// Asks, and follows redirects. What authorises is told to the place that was asked first alone.
    pub(crate) async fn get(
        &self,
        first: &Url,
        headers: &[(HeaderName, String)],
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let mut url = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            url.check(&self.plain)?;
            let authorization = authorization.filter(|_| url.is_same_place(first));
            let answer = self.ask(&url, headers, authorization).await?;
            let moved = answer.status.is_redirection() && answer.status != StatusCode::NOT_MODIFIED;
            let Some(location) = answer.headers.get(header::LOCATION).filter(|_| moved) else {
                return Ok(answer);
            };
            url = url.follow(location.to_str().unwrap_or_default())?;
        }
        Err(unavailable(format!("{} redirects without end", first.authority())).into())
    }

    async fn ask(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let passing = |what: &str, error: &dyn std::fmt::Display| {
            Failure::Passing(format!("{what} {}: {error}", url.authority()))
        };
        let mut request = Request::get(&url.path)
            .header(header::HOST, host_header(url))
            .header(header::USER_AGENT, concat!("rouse/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| unavailable(format!("{} cannot be asked: {error}", url.authority())))?;
        let connect = async {
            let tcp = TcpStream::connect((url.name(), url.port)).await?;
            tcp.set_nodelay(true)?;
            let stream: Box<dyn Stream> = if url.tls {
                let name = ServerName::try_from(url.name().to_owned()).map_err(std::io::Error::other)?;
                Box::new(self.tls.connect(name, tcp).await?)
            } else {
                Box::new(tcp)
            };
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)
        };
        let connected = timeout(CONNECT_TIMEOUT, connect).await;
        let (mut sender, connection) = connected
            .map_err(|_| passing("cannot connect to", &"no answer in time"))?
            .map_err(|error| passing("cannot connect to", &error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error is told to whoever reads the answer.
            let _ = connection.await;
        });
        let answered = timeout(SILENCE_TIMEOUT, sender.send_request(request)).await;
        let response = answered
            .map_err(|_| passing("cannot hear of", &"no answer in time"))?
            .map_err(|error| passing("cannot hear of", &error))?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body, _connection: driver })
    }
}

impl Answer {
    /// The next bytes, or the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(SILENCE_TIMEOUT, self.body.frame()).await;
            let frame = frame.map_err(|_| Failure::Passing("the registry fell silent".to_owned()))?;
            match frame.transpose() {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Err(error) => return Err(Failure::Passing(format!("the connection broke: {error}"))),
            }
        }
    }

    /// The whole body, if it is no longer than this.
    pub(crate) async fn text(mut self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            if text.len() + piece.len() > bytes_max {
                return Err(
                    unavailable(format!("the registry's answer has more than {bytes_max} bytes")).into()
                );
            }
            text.extend_from_slice(&piece);
        }
        Ok(text)
    }
}

/// Plain TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn host_header(url: &Url) -> String {
    if url.port == if url.tls { 443 } else { 80 } { url.host.clone() } else { url.authority() }
}

/// The authorities that the host trusts, where it has a list, or `SSL_CERT_FILE` names one; else Mozilla's.
#[must_use]
pub fn authorities() -> RootCertStore {
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
