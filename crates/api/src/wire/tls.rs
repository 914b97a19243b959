//! HTTPS: whom a client trusts, and what is said when a server is none of those.

use std::{fmt, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// Whom a client of HTTPS trusts.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Trust {}

/// Why a server is not spoken to, though it is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Nobody whom we trust says that the certificate is the server's.
    #[error("its certificate is signed by an authority that is not trusted here")]
    UnknownIssuer,
    /// The certificate is for others.
    #[error("its certificate is not for '{asked}'{}", told(.has))]
    OtherName {
        /// What was asked for.
        asked: String,
        /// What the certificate has.
        has: Vec<String>,
    },
    /// The certificate does not hold any more.
    #[error("its certificate has expired")]
    Expired,
    /// It does not hold yet.
    #[error("its certificate is not valid yet")]
    NotYet,
    /// What answers speaks no TLS.
    #[error("what answers there speaks no TLS")]
    NoTls,
    /// The server ended the handshake.
    #[error("it ended the handshake: {0}")]
    Ended(String),
    /// The certificate is wrong in another way, or what is said is not understood.
    #[error("{0}")]
    Other(String),
}

fn told(has: &[String]) -> String {
    if has.is_empty() { String::new() } else { format!(", but for {}", has.join(", ")) }
}

impl Distrust {
    /// The next step.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownIssuer => {
                "name the file of the company's own authority, as PEM, with --ca or ROUSE_CA; or have SSL_CERT_FILE name \
                 all authorities that are trusted"
            }
            Self::OtherName { .. } => {
                "write a name in --url that the certificate has, or give the platform a certificate for this one \
                 (`rouse serve --tls-certificate`)"
            }
            Self::Expired => {
                "renew it in the platform's files, which are looked at every ten seconds; or put this machine's clock right"
            }
            Self::NotYet => {
                "put this machine's clock right, or the one of the machine that made the certificate"
            }
            Self::NoTls => {
                "write http:// in --url if the platform has no certificates; `rouse serve --tls-listen` turns HTTPS on"
            }
            Self::Ended(_) => {
                "has the platform a certificate? Its log tells; `rouse serve --tls-certificate` gives one"
            }
            Self::Other(_) => "is this the address of the control API?",
        }
    }

    fn of(error: &std::io::Error, asked: &str) -> Self {
        let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
            return match error.kind() {
                std::io::ErrorKind::UnexpectedEof => Self::Ended("the connection was closed".to_owned()),
                _ => Self::Other(error.to_string()),
            };
        };
        match error {
            rustls::Error::InvalidCertificate(wrong) => match wrong {
                // The latter of an authority that has the name of one that is trusted, and another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
                CertificateError::NotValidForName => {
                    Self::OtherName { asked: asked.to_owned(), has: Vec::new() }
                }
                CertificateError::NotValidForNameContext { presented, .. } => {
                    Self::OtherName { asked: asked.to_owned(), has: presented.clone() }
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYet,
                wrong => Self::Other(format!("its certificate cannot be trusted: {wrong}")),
            },
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            rustls::Error::AlertReceived(alert) => Self::Ended(format!("{alert:?}")),
            error => Self::Other(error.to_string()),
        }
    }
}

impl Trust {
    /// Trusts these authorities, and those of a text in PEM.
    ///
    /// # Errors
    /// The text has no certificate, or one that cannot be read; what is wrong with it.
    pub fn new(mut roots: RootCertStore, ca: Option<&str>) -> Result<Self, String> {
        if let Some(ca) = ca {
            let mut any = false;
            for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
                let certificate = certificate.map_err(|error| format!("it is no PEM: {error}"))?;
                roots.add(certificate).map_err(|error| format!("it has what cannot be trusted: {error}"))?;
                any = true;
            }
            if !any {
                return Err("it has no certificate: expected '-----BEGIN CERTIFICATE-----'".to_owned());
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Makes the handshake with who has this authority: `host:port`.
    pub(super) async fn connect(
        &self,
        authority: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Distrust> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Distrust::Other(format!("'{host}' is a name that no certificate can have")))?;
        let connected = TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await;
        connected.map_err(|error| Distrust::of(&error, host))
    }
}
