//! A network namespace that plays the internet: servers behind a link of the host's, which know no way to sandboxes.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Addresses that are set aside for tests of networks: RFC 2544. Each link has four of them.
const RANGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const LINKS: u32 = 1 << 15;

/// One internet; gone when dropped.
pub(crate) struct Internet {
    name: String,
    /// The host's interface.
    pub(crate) link: String,
    /// The host's address on it, which its servers see.
    pub(crate) host: Ipv4Addr,
    /// Where its servers are.
    pub(crate) server: Ipv4Addr,
    servers: Vec<Child>,
}

/// A server of TCP at 8080 that says who dialled and then echoes; and a name server at 53, by UDP, to which every name
/// is at 198.51.100.7.
const SERVERS: &str = r#"
import socketserver, sys, threading
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall((self.client_address[0] + "\n").encode())
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Names(socketserver.BaseRequestHandler):
    def handle(self):
        question, socket = self.request
        answer = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:]
        socket.sendto(answer + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc6\x33\x64\x07", self.client_address)
socketserver.ThreadingTCPServer.daemon_threads = True
echo = socketserver.ThreadingTCPServer((sys.argv[1], 8080), Echo)
names = socketserver.UDPServer((sys.argv[1], 53), Names)
threading.Thread(target=names.serve_forever, daemon=True).start()
print("READY", flush=True)
echo.serve_forever()
"#;

impl Internet {
    /// One with both servers; or why this machine can have none.
    pub(crate) fn new() -> Result<Self, String> {
        let mut internet = Self::without_servers()?;
        internet.serve(SERVERS, &[], Path::new("/"));
        Ok(internet)
    }

    /// One in which nobody serves yet.
    pub(crate) fn without_servers() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("networks need root".into());
        }
        if Command::new("ip").arg("-V").output().is_err() {
            return Err("there is no `ip`: run `cargo xtask setup`".into());
        }
        if !Path::new("/usr/sbin/nft").exists() {
            return Err("there is no `nft`: run `cargo xtask setup`".into());
        }
        let number = std::process::id().wrapping_mul(16) + NUMBER.fetch_add(1, Ordering::Relaxed);
        let first = RANGE.to_bits() + number % LINKS * 4;
        let internet = Self {
            name: format!("internet-{number}"),
            link: format!("net{number}"),
            host: Ipv4Addr::from_bits(first + 1),
            server: Ipv4Addr::from_bits(first + 2),
            servers: Vec::new(),
        };
        let Self { name, link, host, server, .. } = &internet;
        ip(&format!("netns add {name}"));
        ip(&format!("link add {link} type veth peer name eth0 netns {name}"));
        ip(&format!("addr add {host}/30 dev {link}"));
        ip(&format!("link set {link} up"));
        ip(&format!("-n {name} addr add {server}/30 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
        Ok(internet)
    }

    /// Runs a Python program there that says READY once it serves. Its first argument is the address.
    pub(crate) fn serve(&mut self, program: &str, more: &[&str], folder: &Path) {
        let mut child = self
            .command(&["python3", "-c", program, &self.server.to_string()])
            .args(more)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its word");
        self.servers.push(child);
        assert_eq!(line, "READY\n");
    }

    /// A command that runs there.
    pub(crate) fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(argv);
        command
    }

    /// Teaches it a way to the sandboxes' addresses, as a neighbour on the host's link could.
    pub(crate) fn learn_the_way_to_sandboxes(&self) {
        ip(&format!("-n {} route add 100.96.0.0/16 via {}", self.name, self.host));
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        // The link goes with it; its removal is done when this returns.
        let _ = Command::new("ip").args(["link", "del", &self.link]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All rules of this host's packet filter.
pub(crate) fn rules() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().expect("nft runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
