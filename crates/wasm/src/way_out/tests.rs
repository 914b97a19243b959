//! Requests of components to real servers on this machine, some of which they may not reach.

use std::{
    collections::HashMap,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::*;

/// A way out whose log can be read.
struct Case {
    way_out: WayOut,
    lines: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Case {
    fn new(allowed: Egress, names: &[(&str, &str)]) -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        Self::with_roots(allowed, names, roots)
    }

    fn with_roots(allowed: Egress, names: &[(&str, &str)], roots: RootCertStore) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut outside = Outside::with_roots(folder.path(), roots).expect("TLS");
        let names =
            names.iter().map(|(name, ip)| ((*name).to_owned(), vec![ip.parse().expect("an address")]));
        outside.names = Some(names.collect::<HashMap<_, _>>());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&lines);
        let sink: LogSink = Arc::new(move |_, line: &str| ours.lock().expect("lines").push(line.to_owned()));
        Self { way_out: WayOut::new(allowed, Arc::new(outside), sink), lines, folder }
    }

    /// The operator's names.
    fn operators(&self, text: &str) {
        std::fs::write(self.folder.path().join("hosts"), text).expect("written");
    }

    /// What the server answers.
    async fn get(&mut self, uri: &str) -> Result<String> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::get(uri).header("host", "a").body(body).expect("a request");
        let sent = self.way_out.send_request(request, None, Box::new(async { Ok(()) }));
        let (answer, io) = Box::into_pin(sent).await?;
        let (body, io) = tokio::join!(answer.into_body().collect(), Box::into_pin(io));
        io?;
        Ok(String::from_utf8(body?.to_bytes().to_vec()).expect("text"))
    }

    fn log(&self) -> String {
        self.lines.lock().expect("lines").join("\n")
    }
}

fn only(destinations: &[&str]) -> Egress {
    Egress::Only(destinations.iter().map(|one| one.parse().expect("a destination")).collect())
}

/// A server of this machine's that answers everything, and counts who came.
async fn server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a server");
    let port = listener.local_addr().expect("an address").port();
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            answer(stream, "here").await;
        }
    };
    tokio::task::spawn_local(serve);
    (port, came)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, body: &str) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        asked.push(byte);
    }
    assert!(asked.starts_with(b"GET /x?y HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&asked));
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.expect("answered");
    let _ = stream.shutdown().await;
}

async fn local(test: impl Future<Output = ()>) {
    let tasks = tokio::task::LocalSet::new();
    let limited = timeout(Duration::from_secs(60), tasks.run_until(test));
    limited.await.expect("the test hangs");
}

#[test]
fn a_request_to_elsewhere_is_refused_with_the_line_that_allows_it() {
    let case = Case::new(only(&["api.example.com:443", "*.example.org:443"]), &[]);
    let allowed = |uri: &str| case.way_out.check(&uri.parse().expect("a uri")).is_ok();
    assert!(allowed("https://API.example.com/x"));
    assert!(allowed("https://a.b.example.org/x"));
    assert!(!allowed("https://example.org/x"));
    case.lines.lock().expect("lines").clear();
    assert!(!allowed("http://api.example.com/x"));
    assert!(case.log().contains("egress = [\"api.example.com:80\"]"));
}

#[tokio::test]
async fn a_name_that_leads_to_the_machine_or_its_cloud_is_refused_and_told() {
    local(async {
        let (port, came) = server().await;
        let names = [
            ("own.test", "127.0.0.1"),
            ("mapped.test", "::ffff:127.0.0.1"),
            ("cloud.test", "169.254.169.254"),
        ];
        let written = names.map(|(name, _)| format!("{name}:{port}"));
        for allowed in [Egress::All, only(&[&written[0], &written[1], &written[2]])] {
            for place in &written {
                let mut case = Case::new(allowed.clone(), &names);
                let refused = case.get(&format!("http://{place}/x?y")).await;
                assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{place}: {refused:?}");
                assert!(
                    case.log().contains(&format!("{place} was refused: its name leads to")),
                    "{}",
                    case.log()
                );
            }
        }
        assert_eq!(came.load(Ordering::Relaxed), 0, "nobody was dialled");
    })
    .await;
}

#[tokio::test]
async fn the_machine_is_reached_where_it_is_written_and_not_by_a_star() {
    local(async {
        let (port, came) = server().await;
        for host in ["127.0.0.1", "localhost"] {
            let place = format!("{host}:{port}");
            let mut written = Case::new(only(&[&place]), &[]);
            assert_eq!(written.get(&format!("http://{place}/x?y")).await.expect("an answer"), "here");
            let mut star = Case::new(Egress::All, &[("localhost", "127.0.0.1")]);
            let refused = star.get(&format!("http://{place}/x?y")).await;
            assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{place}: {refused:?}");
        }
        assert_eq!(came.load(Ordering::Relaxed), 2);
    })
    .await;
}

#[tokio::test]
async fn the_operators_names_are_found_before_any_other_and_lead_anywhere() {
    local(async {
        let (port, _) = server().await;
        let place = format!("db.test:{port}");
        let uri = format!("http://{place}/x?y");
        let mut case = Case::new(only(&[&place]), &[("db.test", "169.254.169.254")]);
        assert!(matches!(case.get(&uri).await, Err(Error::DestinationIpProhibited)));
        case.operators("127.0.0.1 db.test\n");
        assert_eq!(case.get(&uri).await.expect("an answer"), "here");
        // Nor need anything be started again when they change.
        std::fs::remove_file(case.folder.path().join("hosts")).expect("removed");
        assert!(matches!(case.get(&uri).await, Err(Error::DestinationIpProhibited)));
    })
    .await;
}

#[tokio::test]
async fn a_name_without_an_address_is_not_found() {
    let mut case = Case::new(only(&["no.test:80"]), &[]);
    assert!(matches!(case.get("http://no.test/x?y").await, Err(Error::DestinationNotFound)));
}

#[tokio::test]
async fn tls_is_spoken_with_the_requests_name_at_the_address_that_was_found() {
    local(async {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=api.test"])
            .args(["-addext", "subjectAltName=DNS:api.test", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(folder.path())
            .output();
        assert!(made.is_ok_and(|made| made.status.success()), "openssl makes no certificate");
        let certificate =
            CertificateDer::from_pem_file(folder.path().join("cert.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a server");
        let port = listener.local_addr().expect("an address").port();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let asked_for = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                answer(stream, &asked_for).await;
            }
        });
        let mut roots = RootCertStore::empty();
        // It signs itself, so it is its own authority.
        roots.add(certificate).expect("added");
        let places = [format!("api.test:{port}"), format!("other.test:{port}")];
        let mut case = Case::with_roots(only(&[&places[0], &places[1]]), &[], roots);
        case.operators("127.0.0.1 api.test other.test\n");
        let answer = case.get(&format!("https://{}/x?y", places[0])).await;
        assert_eq!(answer.expect("an answer"), "api.test");
        // The certificate is not this one's, though the server is the same.
        let refused = case.get(&format!("https://{}/x?y", places[1])).await;
        assert!(matches!(refused, Err(Error::Tls(_))), "{refused:?}");
    })
    .await;
}
