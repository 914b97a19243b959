//! A real registry of its own for one test, and images made of nothing but files.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rouse_image::tar::Writer;
use rouse_types::Digest;

/// `ann` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "ann:$2y$05$7/RAGDZjf7CZYZNoy0qrhuuyPonDYxKhdmqW1izvZMNcrubH.lnZG\n";

/// Docker's registry on a free port, with a folder of its own; stopped when dropped.
pub(crate) struct Registry {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Registry {
    /// `None`, and a word about it, where there is no registry to start.
    pub(crate) fn new(test: &str, login: bool) -> Option<Self> {
        for program in ["docker-registry", "skopeo"] {
            if Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_err()
            {
                skipped(test, &format!("no {program}; `cargo xtask setup` installs it"));
                return None;
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_port();
        fs::write(folder.path().join("htpasswd"), HTPASSWD).expect("a file");
        let here = folder.path().display();
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {here}/htpasswd\n");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {here}/store\nhttp:\n  addr: {address}\n{}",
            if login { auth.as_str() } else { "" }
        );
        fs::write(folder.path().join("config.yml"), config).expect("a file");
        let process = serve(folder.path(), address);
        Some(Self { folder, address, process })
    }

    /// Pushes an OCI layout under a name and gives how it is called.
    pub(crate) fn push(&self, layout: &Path, name: &str) -> String {
        let mut skopeo = Command::new("skopeo");
        skopeo.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            "--dest-creds=ann:secret",
        ]);
        let target = format!("{}/{name}", self.address);
        let pushed =
            skopeo.arg(format!("oci:{}", layout.display())).arg(format!("docker://{target}")).output();
        let pushed = pushed.expect("skopeo runs");
        assert!(pushed.status.success(), "skopeo: {}", String::from_utf8_lossy(&pushed.stderr));
        target
    }

    /// Kills the registry as a crash would, and starts it again on its port.
    pub(crate) fn crash(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
        self.process = serve(self.folder.path(), self.address);
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder.path().join(format!("store/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(folder: &Path, address: SocketAddr) -> Child {
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(folder.join("config.yml")).env("OTEL_TRACES_EXPORTER", "none");
    let mut process =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the registry starts");
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(process.try_wait().expect("asked").is_none(), "the registry ended at once");
        assert!(begun.elapsed() < Duration::from_secs(60), "the registry does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// A layer of plain files, as tar.
pub(crate) fn files(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, bytes) in files {
        writer.file(name, 0o755, bytes).expect("written");
    }
    writer.finish().expect("ended")
}

/// An image as it will be in a layout.
pub(crate) struct Made<'a> {
    pub(crate) architecture: &'a str,
    /// The object `config` of its configuration.
    pub(crate) config: &'a str,
    pub(crate) layers: Vec<Vec<u8>>,
}

/// Writes an OCI layout with gzipped layers and gives their digests.
pub(crate) fn layout(folder: &Path, made: &Made<'_>) -> Vec<Digest> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).expect("a blob");
        (digest, bytes.len())
    };
    let mut digests = Vec::new();
    let mut layers = Vec::new();
    for layer in &made.layers {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(layer).expect("compressed");
        let (digest, size) = put(&gzip.finish().expect("compressed"));
        digests.push(digest);
        layers.push(format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{size}}}"#));
    }
    let diffs: Vec<String> = made.layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let (architecture, run, diffs, layers) =
        (made.architecture, made.config, diffs.join(","), layers.join(","));
    let (config, size) = put(
        format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{run},"rootfs":{{"type":"layers","diff_ids":[{diffs}]}}}}"#
        )
        .as_bytes(),
    );
    let kind = "application/vnd.oci.image";
    let (manifest, size) = put(
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json","digest":"{config}","size":{size}}},"layers":[{layers}]}}"#
        )
        .as_bytes(),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json","digest":"{manifest}","size":{size}}}]}}"#
    );
    fs::write(folder.join("index.json"), index).expect("an index");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    digests
}

/// Passes connections on to a registry, and counts what comes back. Once `cut_at` bytes have, it runs `then` and breaks
/// that connection off.
pub(crate) fn proxy(
    to: SocketAddr,
    cut_at: u64,
    then: impl FnOnce() + Send + 'static,
) -> (SocketAddr, &'static AtomicU64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let passed: &'static AtomicU64 = Box::leak(Box::default());
    let then = std::sync::Arc::new(std::sync::Mutex::new(Some(then)));
    std::thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let then = std::sync::Arc::clone(&then);
            std::thread::spawn(move || {
                let Ok(mut registry) = TcpStream::connect(to) else { return };
                let (mut ask, mut up) =
                    (from.try_clone().expect("cloned"), registry.try_clone().expect("cloned"));
                std::thread::spawn(move || std::io::copy(&mut ask, &mut up));
                let mut from = from;
                let mut buffer = [0; 64 << 10];
                while let Ok(read @ 1..) = registry.read(&mut buffer) {
                    if from.write_all(&buffer[..read]).is_err() {
                        return;
                    }
                    let now = passed.fetch_add(read as u64, Ordering::SeqCst) + read as u64;
                    let cut = if now >= cut_at { then.lock().expect("a lock").take() } else { None };
                    if let Some(then) = cut {
                        then();
                        break;
                    }
                }
                let _ = from.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, passed)
}

/// Bytes that do not compress.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(bytes)
    .collect()
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn skipped(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}
