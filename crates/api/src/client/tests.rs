//! What users are told when there is no platform, or something else answers in its place.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use super::*;

async fn told_by(answer: &'static [u8]) -> Refusal {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let client = Client::new(&url, Some("token".to_owned())).expect("a client");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = [0; 1_024];
        let read = stream.read(&mut head).await.expect("a request");
        let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
        assert!(head.starts_with("get /v1/info http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: bearer token") && head.contains("host: 127.0.0.1:"), "{head}");
        stream.write_all(answer).await.expect("sent");
    };
    tokio::join!(client.info(), serve).0.expect_err("no info")
}

#[tokio::test]
async fn a_platform_that_is_not_there_is_told_with_the_next_step() {
    for url in ["http://127.0.0.1:1", "unix:/nonexistent.sock"] {
        let client = Client::new(url, None).expect("a client");
        let refusal = client.info().await.expect_err("no one is there");
        assert_eq!(refusal.code, Code::ControlUnavailable);
        assert!(refusal.message.contains(url), "{refusal}");
        assert!(refusal.hint.expect("a hint").contains("rouse serve"));
    }
    for url in ["", "127.0.0.1:8081", "http://", "ftp://x"] {
        assert!(Client::new(url, None).is_err(), "{url}");
    }
}

#[tokio::test]
async fn what_another_server_answers_is_never_taken_for_the_platforms() {
    let html = told_by(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>").await;
    assert_eq!(html.code, Code::Internal);
    assert!(html.message.contains("502") && html.hint.is_some(), "{html}");
    let other = told_by(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(other.code, Code::InvalidResponse);
    let refusal = br#"HTTP/1.1 401 Unauthorized
content-length: 53

{"code":"unauthorized","message":"no","hint":"token"}"#;
    assert_eq!(told_by(refusal).await.hint.as_deref(), Some("token"));
    assert_eq!(
        told_by(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await.code,
        Code::ControlUnavailable
    );
    assert_eq!(told_by(b"SSH-2.0-OpenSSH_9.2\r\n").await.code, Code::ControlUnavailable);
}

/// A company's own authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// A certificate for a name, from 2020 until a year.
    fn server(&self, name: &str, until: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.expect("a server"))
    }

    fn trusted(&self) -> Result<Trust, String> {
        Trust::new(RootCertStore::empty(), Some(&self.0.pem()))
    }
}

/// What a client is told at a server with this certificate, or, without one, at one that speaks no TLS.
async fn told_over(
    scheme: &str,
    server: Option<Arc<ServerConfig>>,
    trust: Result<Trust, String>,
) -> Result<(), Refusal> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let client = Client::trusting(&format!("{scheme}://localhost:{port}"), None, || trust)?;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nready\n";
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = [0; 4_096];
        match server {
            Some(config) => {
                if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await {
                    let _ = stream.read(&mut head).await;
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                }
            }
            None => {
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    };
    tokio::join!(client.ready(), serve).0
}

#[tokio::test]
async fn a_company_s_own_authority_is_trusted_when_it_is_named_and_whatever_is_wrong_is_told() {
    let (own, other) = (Authority::new(), Authority::new());
    let good = || Some(own.server("localhost", 2100));
    told_over("https", good(), own.trusted()).await.expect("it is trusted");
    for (scheme, server, trust, said, next) in [
        ("https", good(), other.trusted(), "an authority that is not trusted", "--ca"),
        ("https", Some(own.server("a.example", 2100)), own.trusted(), "not for 'localhost'", "--url"),
        ("https", Some(own.server("localhost", 2021)), own.trusted(), "has expired", "renew it"),
        ("https", None, own.trusted(), "speaks no TLS", "http://"),
        ("http", good(), own.trusted(), "broke off", "https://"),
    ] {
        let refusal = told_over(scheme, server, trust).await.expect_err(said);
        assert_eq!(refusal.code, Code::ControlUnavailable, "{said}");
        assert!(refusal.message.contains(said), "{refusal}");
        assert!(refusal.hint.as_deref().is_some_and(|hint| hint.contains(next)), "{refusal:?}");
    }
}

#[test]
fn a_file_that_holds_no_authorities_is_told() {
    for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Trust::new(RootCertStore::empty(), Some(text)).is_err(), "{text}");
    }
    let nobody = || Err("it has no certificate".to_owned());
    let refusal = Client::trusting("https://a.example", None, nobody).expect_err("nobody is trusted");
    assert!(refusal.message.contains("it has no certificate"), "{refusal}");
}
