//! HTTPS to an authority, over the workspace's own hyper and rustls: a connection for each request, since an order is some
//! ten of them, in weeks.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// How long one request may take, all in all.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer: a chain of certificates is some 10 KiB.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A client that trusts what the host trusts, and one private authority's root besides, if there is one.
#[derive(Clone)]
pub(super) struct Http(TlsConnector);

impl Http {
    /// # Errors
    /// There is no certificate in what it shall trust, in words.
    pub(super) fn new(ca: Option<&str>) -> Result<Self, String> {
        let mut roots = rouse_image::authorities();
        if let Some(pem) = ca {
            let wrong = |error: &dyn std::fmt::Display| format!("the authority's root: {error}");
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.len() == before {
                return Err(wrong(&"there is no certificate in it"));
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, String> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let uri = std::mem::take(&mut head.uri);
        if uri.scheme_str() != Some("https") {
            return Err(format!("{uri} is not an https address"));
        }
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare.clone()).map_err(|_| format!("'{host}' is no host"))?;
        let port = uri.port_u16().unwrap_or(443);
        let at = |error: &dyn std::fmt::Display| format!("{host}:{port}: {error}");
        let tcp = TcpStream::connect((bare.as_str(), port)).await.map_err(|error| at(&error))?;
        let stream = self.0.connect(name, tcp).await.map_err(|error| at(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| at(&error))?;
        // Ends with the request.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse::<Uri>().map_err(|error| at(&error))?;
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let value = authority.parse().map_err(|_| at(&"no header"))?;
        head.headers.insert(header::HOST, value);
        let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await;
        let (head, body) = answer.map_err(|error| at(&error))?.into_parts();
        let body =
            Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| at(&error))?.to_bytes();
        Ok(BytesResponse::from(Response::from_parts(head, Full::new(body))))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let own = self.clone();
        Box::pin(async move {
            let asked = timeout(TIMEOUT, own.ask(request)).await;
            let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
            answer.map_err(|error| Error::Other(error.into()))
        })
    }
}
