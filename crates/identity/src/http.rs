//! HTTPS to providers: one connection for each request, over the workspace's own hyper and rustls, within bounds of time
//! and size. Redirects are not followed: nobody checked where they lead.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderName, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::{Error, url::Url};

/// How long one exchange may take in all.
const WHOLE: Duration = Duration::from_secs(10);
/// The largest answer that is read. Lists of keys have a few KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// The largest file of authorities.
pub const CA_BYTES_MAX: usize = 64 << 10;

/// A client.
#[derive(Clone)]
pub struct Http(TlsConnector);

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

/// Reads authorities in PEM.
///
/// # Errors
/// There is none in the text, or one that cannot be read, or it is too long.
pub fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |what: String| Error::Unreachable(format!("the file of authorities {what}"));
    if pem.len() > CA_BYTES_MAX {
        return Err(wrong(format!("has more than {CA_BYTES_MAX} bytes")));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| wrong(format!("is no PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    let mut store = RootCertStore::empty();
    for each in &found {
        store.add(each.clone()).map_err(|error| wrong(format!("holds what cannot be trusted: {error}")))?;
    }
    Ok(found)
}

impl Http {
    /// A client that trusts these authorities, and those of a file in PEM.
    ///
    /// # Errors
    /// The file cannot be read, or TLS not be set up.
    pub fn new(mut roots: RootCertStore, ca: Option<&str>) -> Result<Self, Error> {
        for each in ca.map(authorities).transpose()?.unwrap_or_default() {
            roots.add(each).map_err(|error| Error::Unreachable(error.to_string()))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Unreachable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Asks for what is there.
    ///
    /// # Errors
    /// There is no answer of 200.
    pub async fn get(&self, url: &str, bearer: Option<&str>) -> Result<Bytes, Error> {
        let bearer = bearer.map(|token| (header::AUTHORIZATION, format!("Bearer {token}")));
        let (status, body) = self.ask(url, Method::GET, bearer, Bytes::new()).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(Error::Unreachable(format!("{url} answers {status}")))
    }

    /// Sends a form (RFC 6749 appendix B), and gives what is answered, whatever it is.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<(StatusCode, Bytes), Error> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let kind = (header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned());
        self.ask(url, Method::POST, Some(kind), body.into()).await
    }

    async fn ask(
        &self,
        url: &str,
        method: Method,
        further: Option<(HeaderName, String)>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Error> {
        let at = Url::parse(url)?;
        let failed = |error: &dyn std::fmt::Display| Error::Unreachable(format!("{}: {error}", at.authority));
        let mut request = Request::builder()
            .method(method)
            .uri(&at.path)
            .header(header::HOST, &at.authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("rouse/", env!("CARGO_PKG_VERSION")));
        if let Some((name, value)) = further {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
        let exchange = async {
            let tcp =
                TcpStream::connect((at.host.as_str(), at.port)).await.map_err(|error| failed(&error))?;
            let stream: Box<dyn Stream> = if at.tls {
                let name = ServerName::try_from(at.host.clone()).map_err(|error| failed(&error))?;
                Box::new(self.0.connect(name, tcp).await.map_err(|error| failed(&error))?)
            } else {
                Box::new(tcp)
            };
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| failed(&error))?;
            let mut driver = JoinSet::new();
            driver.spawn(async move {
                // Its error is told to whoever reads the answer.
                let _ = connection.await;
            });
            let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
            let (head, body) = answer.into_parts();
            let body =
                Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| failed(&error))?;
            Ok((head.status, body.to_bytes()))
        };
        timeout(WHOLE, exchange).await.unwrap_or_else(|_| Err(failed(&"no answer in time")))
    }
}

/// Plain TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
