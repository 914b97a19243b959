//! An ACME authority of a test's own: Debian's `pebble`, with a DNS that leads every name to this machine.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Https, SelfSigned, free_address};

/// Its name, in its own certificate.
const HOST: &str = "localhost";

/// The authority. Gone with the test.
#[derive(Debug)]
pub struct Pebble {
    folder: tempfile::TempDir,
    directory: SocketAddr,
    management: SocketAddr,
    own: SelfSigned,
    processes: [Child; 2],
}

impl Pebble {
    /// Starts one that looks for proofs by HTTP at a port of this machine, and has no certificate for
    /// `blocked.example.com`; nothing when the machine has none.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(http_port: u16) -> Option<Self> {
        if !Path::new("/usr/bin/pebble").exists() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let own = SelfSigned::new(&[HOST]);
        own.write(folder.path(), "own");
        let [directory, management, dns, dns_management] = [(); 4].map(|()| free_address());
        let path = |name: &str| folder.path().join(name);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": directory.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": path("own.pem"),
            "privateKey": path("own.key"),
            "httpPort": http_port,
            "tlsPort": 1,
            "domainBlocklist": ["blocked.example.com"],
        }});
        std::fs::write(path("config.json"), config.to_string()).expect("written");
        let log = |name: &str| Stdio::from(std::fs::File::create(path(name)).expect("a log"));
        let resolver = Command::new("pebble-challtestsrv")
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", ""])
            .args(["-tlsalpn01", "", "-dns01", &dns.to_string(), "-management", &dns_management.to_string()])
            .stdin(Stdio::null())
            .stdout(log("dns.log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("start pebble-challtestsrv");
        let authority = Command::new("pebble")
            .arg("-config")
            .arg(path("config.json"))
            .args(["-dnsserver", &dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdin(Stdio::null())
            .stdout(log("pebble.log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("start pebble");
        Some(Self { directory, management, own, processes: [resolver, authority], folder })
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://{HOST}:{}/dir", self.directory.port())
    }

    /// The file of what is to be trusted of it.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("own.pem")
    }

    /// The root of the certificates that it gives, once it answers.
    pub async fn root(&self) -> Option<String> {
        let client = Https::trusting(&self.own.certificate);
        let got = client.get(self.management, HOST, "/roots/0", "http/1.1").await.ok()?;
        (got.answer.status == 200).then(|| got.answer.text())
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pebble.log")).unwrap_or_default()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
