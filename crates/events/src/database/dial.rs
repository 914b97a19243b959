//! The way to a database: its name resolved less where no name may lead, and TLS on top.
//!
//! A trigger's address is written by a tenant, so the rules are those of egress (`rouse_types::egress::address`): the
//! address that was checked is the one that is dialled, and the operator's file `hosts` stands above.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rouse_triggers::postgres::address::{Address, Tls};
use rouse_types::egress::{
    Host,
    address::{self, Never},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use super::problem::Problem;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// More than an operator writes by hand.
const HOSTS_BYTES_MAX: u64 = 1 << 20;
/// How long what was sent may stay without an answer of the other machine's kernel, until the connection is broken.
const UNANSWERED_MAX_MS: u32 = 30_000;
const LOCALHOST: &str = "localhost";

/// A connection's bytes, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects, with the operator's names of this state folder. Has no bound on time of its own.
pub(super) async fn dial(address: &Address, state: &Path) -> Result<Box<dyn Stream>, Problem> {
    let unreachable = |what: String| {
        Problem::new(format!("the database at {}:{} is not reached: {what}", address.host, address.port))
            .hint("check the url's host and port, and whether the server listens there")
    };
    let mut last = Never::NoAddress.to_string();
    for ip in addresses(address, state).await.map_err(unreachable)?.into_iter().take(ADDRESSES_MAX) {
        match TcpStream::connect(SocketAddr::new(ip, address.port)).await {
            Ok(stream) => {
                let set = stream.set_nodelay(true).and_then(|()| {
                    Ok(rustix::net::sockopt::set_tcp_user_timeout(&stream, UNANSWERED_MAX_MS)?)
                });
                set.map_err(|error| unreachable(error.to_string()))?;
                return secure(stream, address).await;
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(unreachable(last))
}

async fn addresses(address: &Address, state: &Path) -> Result<Vec<IpAddr>, String> {
    let destination = address.destination().map_err(|error| error.to_string())?;
    let name = match destination.host() {
        Host::Address(ip) => return Ok(vec![*ip]),
        Host::Name(name) => name,
        Host::Below(_) => return Err("a name with * is none".to_owned()),
    };
    if name == LOCALHOST {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let hosts = state.join("hosts");
    if tokio::fs::metadata(&hosts).await.is_ok_and(|file| file.len() <= HOSTS_BYTES_MAX)
        && let Ok(text) = tokio::fs::read_to_string(&hosts).await
        && let Some(meant) = address::in_hosts(&text, name)
    {
        return Ok(vec![meant]);
    }
    // The port matters not.
    let resolved = lookup_host((name.as_str(), 0)).await.map_err(|error| error.to_string())?;
    address::allowed(resolved.map(|one| one.ip()), address::is_own).map_err(|error| error.to_string())
}

/// Asks for encryption as the address wants it (PostgreSQL 15 Documentation, §55.2.10).
async fn secure(mut stream: TcpStream, address: &Address) -> Result<Box<dyn Stream>, Problem> {
    if address.tls == Tls::Disable {
        return Ok(Box::new(stream));
    }
    let broken = |error: io::Error| Problem::broken("ask the database for TLS", &error);
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(broken)?;
    // One byte and no more: what follows is TLS already.
    match stream.read_u8().await.map_err(broken)? {
        b'S' => {}
        _ if address.tls == Tls::Prefer => return Ok(Box::new(stream)),
        _ => {
            return Err(Problem::new("the database offers no TLS, and the trigger's url wants it")
                .hint("set ssl = on at the server, or sslmode=disable in the url"));
        }
    }
    let no_tls = |error: String| Problem::new(format!("TLS with the database failed: {error}"));
    let name = ServerName::try_from(address.host.clone()).map_err(|error| no_tls(error.to_string()))?;
    let config = client(address.tls).map_err(|error| no_tls(error.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| no_tls(error.to_string()))?))
}

fn client(tls: Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    Ok(match tls {
        Tls::VerifyFull => {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        _ => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
    })
}

/// Takes any certificate, as `sslmode=require` means: the connection is encrypted, and who is at its end is not asked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
