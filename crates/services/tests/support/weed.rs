//! A real S3 server of another's making: SeaweedFS, as `cargo xtask setup` installs it, with a folder, ports and an
//! access key of its own.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use object_store::{
    ClientOptions, ObjectStore as _, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
        HttpService,
    },
};
use tokio::{net::TcpStream, task::JoinSet};

pub(crate) const ACCESS_KEY_ID: &str = "RouseTests";
pub(crate) const SECRET_ACCESS_KEY: &str = "a secret of the tests";
pub(crate) const BUCKET: &str = "bytes";
/// How long a loaded machine may take until it answers.
const START: Duration = Duration::from_secs(120);

pub(crate) struct Weed {
    program: PathBuf,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    child: Option<Child>,
}

impl Weed {
    /// Starts one, where there is one.
    pub(crate) async fn start(program: Option<PathBuf>) -> Option<Self> {
        let mut weed = Self::new(program?);
        weed.run().await;
        Some(weed)
    }

    /// The same; it answers over TLS too, with a certificate for `localhost` that only who is told trusts.
    pub(crate) async fn start_with_tls(program: Option<PathBuf>) -> Option<Self> {
        let mut weed = Self::new(program?);
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args([
                "-addext",
                "subjectAltName=DNS:localhost",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .arg("-keyout")
            .arg(weed.folder.path().join("key.pem"))
            .arg("-out")
            .arg(weed.certificate())
            .output();
        assert!(made.is_ok_and(|made| made.status.success()), "openssl makes no certificate");
        weed.run().await;
        Some(weed)
    }

    fn new(program: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = serde_json::json!({ "identities": [{
            "name": "tests",
            "credentials": [{ "accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        std::fs::write(folder.path().join("s3.json"), identity.to_string()).unwrap();
        Self { program, folder, ports: free_ports(9), child: None }
    }

    /// The file with the certificate, if it answers over TLS.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    pub(crate) fn tls_endpoint(&self) -> String {
        format!("https://localhost:{}", self.ports[8])
    }

    /// Where S3 answers.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Ends it at once: it takes no other signal in good time.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // It has these whatever it is told about folders.
        for (role, port) in [("s3", 1), ("master", 3), ("volume", 5), ("filer", 7)] {
            let socket = format!("/tmp/seaweedfs-{role}-grpc-{}.sock", self.ports[port]);
            let _ = std::fs::remove_file(socket);
        }
    }

    /// Starts it again over the same folder, and waits until the bucket answers.
    pub(crate) async fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg(format!("-logdir={}", self.folder.path().display())).arg("server");
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-volume.max=8"]);
        command.args(["-master.volumeSizeLimitMB=64", "-master.telemetry=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        let flags = [
            "s3.port",
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        ];
        command.args(flags.iter().zip(&self.ports).map(|(flag, port)| format!("-{flag}={port}")));
        let path = |flag: &str, name: &str| format!("-{flag}={}", self.folder.path().join(name).display());
        command.args([path("dir", ""), path("s3.config", "s3.json")]);
        command.args([path("s3.localSocket", "s3.sock"), path("filer.localSocket", "filer.sock")]);
        if self.certificate().exists() {
            command.arg(format!("-s3.port.https={}", self.ports[8]));
            command.args([path("s3.cert.file", "certificate.pem"), path("s3.key.file", "key.pem")]);
        }
        command.current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let started = std::time::Instant::now();
        loop {
            // Making a bucket is no operation of the library's; SeaweedFS makes one when it is first written to.
            let written = self.store().put(&"started".into(), "yes".into()).await;
            match written {
                Ok(_) => break,
                Err(error) => assert!(started.elapsed() < START, "SeaweedFS does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The keys below a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = self.store().list(Some(&prefix.into())).map_ok(|found| found.location.to_string());
        listed.try_collect().await.unwrap()
    }

    /// Multipart uploads that are under way, as its file system shows them.
    pub(crate) async fn uploads(&self) -> usize {
        let uri = format!("http://127.0.0.1:{}/buckets/{BUCKET}/.uploads/?limit=1000", self.ports[6]);
        let request = http::Request::get(uri).header("accept", "application/json");
        let answer = Plain.call(request.body(HttpRequestBody::empty()).unwrap()).await.unwrap();
        if answer.status() == http::StatusCode::NOT_FOUND {
            return 0;
        }
        assert!(answer.status().is_success(), "{answer:?}");
        let listed: serde_json::Value =
            serde_json::from_slice(&answer.into_body().bytes().await.unwrap()).unwrap();
        listed["Entries"].as_array().map_or(0, Vec::len)
    }

    /// A client whose HTTP is not the one that is tested.
    pub(crate) fn store(&self) -> AmazonS3 {
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_endpoint(self.endpoint());
        let builder = builder.with_access_key_id(ACCESS_KEY_ID).with_secret_access_key(SECRET_ACCESS_KEY);
        builder.with_allow_http(true).with_retry(retry).with_http_connector(Plain).build().unwrap()
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// One connection for each request, without TLS.
#[derive(Debug)]
struct Plain;

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

#[async_trait::async_trait]
impl HttpService for Plain {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let failed = |error: io::Error| HttpError::new(HttpErrorKind::Unknown, error);
        let authority = request.uri().authority().unwrap().to_string();
        let stream = TcpStream::connect(&authority).await.map_err(failed)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(io::Error::other(error)))?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        request.headers_mut().insert("host", authority.parse().unwrap());
        *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(|error| failed(io::Error::other(error)))?.into_parts();
        let body = body.collect().await.map_err(|error| failed(io::Error::other(error)))?;
        Ok(HttpResponse::from_parts(head, body.to_bytes().into()))
    }
}
