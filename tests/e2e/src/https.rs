//! HTTPS as people's clients speak it, and certificates of a test's own.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::Answer;

/// Connections and calls that take longer hang.
const LIMIT: Duration = Duration::from_secs(60);

/// A company's own authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When none can be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than those it signs have: OpenSSL takes a certificate for self-signed by that.
        params.distinguished_name.push(DnType::CommonName, "a company's own authority");
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    /// Its own certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names and addresses.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn sign(&self, names: &[&str]) -> SelfSigned {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        SelfSigned { certificate, key: key.serialize_pem() }
    }
}

/// A certificate, which it signed itself unless an [`Authority`] did, with its key, as PEM.
#[derive(Debug, Clone)]
pub struct SelfSigned {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl SelfSigned {
    /// One for these names.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// Writes it as `NAME.pem` and `NAME.key`.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.certificate).expect("written");
        std::fs::write(folder.join(format!("{name}.key")), &self.key).expect("written");
    }
}

/// What came back, and over what.
#[derive(Debug)]
pub struct Secure {
    /// The answer.
    pub answer: Answer,
    /// The protocol that was agreed on (ALPN).
    pub protocol: String,
}

/// A client that trusts some certificates and authorities alone.
#[derive(Debug, Clone)]
pub struct Https {
    roots: RootCertStore,
}

impl Https {
    /// One that trusts these, as PEM.
    ///
    /// # Panics
    /// When there is none among it.
    #[must_use]
    pub fn trusting(pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("a certificate");
        }
        assert!(!roots.is_empty(), "no certificate to trust");
        Self { roots }
    }

    /// `GET https://<host><path>` at an address, offering one protocol: `h2` or `http/1.1`.
    ///
    /// # Errors
    /// There is no connection, the certificate is not trusted, or it breaks.
    ///
    /// # Panics
    /// When it hangs.
    pub async fn get(
        &self,
        to: SocketAddr,
        host: &str,
        path: &str,
        protocol: &str,
    ) -> Result<Secure, String> {
        tokio::time::timeout(LIMIT, self.call(to, host, path, protocol)).await.expect("an answer in time")
    }

    async fn call(&self, to: SocketAddr, host: &str, path: &str, protocol: &str) -> Result<Secure, String> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tcp = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default();
        let agreed = String::from_utf8_lossy(agreed).into_owned();
        let request = Request::get(format!("https://{host}{path}")).body(Full::new(Bytes::new()));
        let mut request = request.expect("a request");
        let io = TokioIo::new(stream);
        // Ends with the call.
        let mut driver = JoinSet::new();
        let response = if agreed == "h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|e| e.to_string())?;
            driver.spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
            driver.spawn(connection);
            let value = host.parse().expect("a header's value");
            request.headers_mut().insert("host", value);
            *request.uri_mut() = path.parse().expect("a path");
            sender.send_request(request).await
        };
        let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let answer = Answer { status: head.status, headers: head.headers, body };
        Ok(Secure { answer, protocol: agreed })
    }
}
