//! A network of hosts on this machine, each a network namespace with an address of its own, and faults of it: links that
//! are cut, also in one direction only, and links that are slow or lose packets. Taken away when dropped.
//!
//! ```text
//!   test ─┬─ bridge (a namespace of its own)
//!         ├─ host 0 ┐ zone
//!         └─ host 1 ┘ …
//! ```

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use rustix::process::geteuid;

use crate::{free_address, skipped};

/// The first port that a host gives out: its namespace has no others.
const PORT_FIRST: u16 = 4_000;
/// Which host of a network of 254 the test itself is.
const TEST: u8 = 254;
/// What begins the names of namespaces; the process follows.
const PREFIX: &str = "rouse-e2e-";
/// The table of packet rules that holds faults.
const TABLE: &str = "faults";

/// Where a process of a test runs: on this machine as it is, or in a namespace of its own.
#[derive(Debug)]
pub struct Host {
    address: IpAddr,
    namespace: Option<String>,
    next_port: AtomicU16,
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn local() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), namespace: None, next_port: AtomicU16::new(PORT_FIRST) }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// An address and port of it that are free.
    #[must_use]
    pub fn free_address(&self) -> SocketAddr {
        match self.namespace {
            None => free_address(),
            Some(_) => SocketAddr::new(self.address, self.next_port.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// A program that runs on it. The process is the program's own, whatever enters the namespace before.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
        command
    }
}

/// How a link is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// Packets take 100 ms more, some 20 ms more or less.
    Late,
    /// Packets queue for 1 Mbit/s: for kernels that cannot hold packets back by time alone.
    Narrow,
}

/// Hosts that reach each other, and the test.
#[derive(Debug)]
pub struct Network {
    name: String,
    hosts: Vec<Host>,
    /// Where the test is reached.
    pub test: Ipv4Addr,
}

impl Network {
    /// Makes so many hosts. Nothing, saying so, where that is not allowed.
    ///
    /// # Panics
    /// When the kernel does it partly.
    #[must_use]
    pub fn make(test: &str, hosts: u8) -> Option<Self> {
        if !geteuid().is_root() {
            skipped(test, "network namespaces need root");
            return None;
        }
        clear();
        let name = format!("{PREFIX}{}", std::process::id());
        let hub = format!("{name}-hub");
        if let Err(reason) = ip(&["netns", "add", &hub]) {
            skipped(test, &format!("no network namespaces here: {reason}"));
            return None;
        }
        let subnet = free_subnet();
        let address = |last: u8| {
            let [a, b, c] = subnet;
            Ipv4Addr::new(a, b, c, last)
        };
        let mut network = Self { name, hosts: Vec::new(), test: address(TEST) };
        let must = |args: &[&str]| ip(args).unwrap_or_else(|reason| panic!("ip {args:?}: {reason}"));
        must(&["-n", &hub, "link", "add", "hub", "type", "bridge"]);
        must(&["-n", &hub, "link", "set", "hub", "up"]);
        let plug = |inside: Option<&str>, port: &str, address: Ipv4Addr| {
            // Made in the hub's namespace, so that no name of this machine's is taken but the test's.
            let (own, process) = (test_link(), std::process::id().to_string());
            let (own, place) = inside.map_or((&*own, &*process), |inside| ("eth0", inside));
            must(&["-n", &hub, "link", "add", port, "type", "veth", "peer", "name", own, "netns", place]);
            must(&["-n", &hub, "link", "set", port, "master", "hub", "up"]);
            let at: Vec<&str> = inside.map(|inside| vec!["-n", inside]).unwrap_or_default();
            let cidr = format!("{address}/24");
            must(&[&at[..], &["address", "add", &cidr, "dev", own]].concat());
            must(&[&at[..], &["link", "set", own, "up"]].concat());
        };
        plug(None, "test", network.test);
        for number in 0..hosts {
            let namespace = format!("{}-{number}", network.name);
            must(&["netns", "add", &namespace]);
            must(&["-n", &namespace, "link", "set", "lo", "up"]);
            plug(Some(&namespace), &format!("port{number}"), address(number + 1));
            network.hosts.push(Host {
                address: address(number + 1).into(),
                namespace: Some(namespace),
                next_port: AtomicU16::new(PORT_FIRST),
            });
        }
        Some(network)
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Lets nothing from some hosts through to others, which still send.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn cut(&self, from: &[usize], to: &[usize]) {
        let from: Vec<_> = from.iter().map(|host| self.hosts[*host].address.to_string()).collect();
        self.rule(to, &format!("ip saddr {{ {} }} drop", from.join(", ")));
    }

    /// Loses so many of a hundred packets that come to some hosts.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn lose(&self, percent: u8, hosts: &[usize]) {
        self.rule(hosts, &format!("iif \"eth0\" numgen random mod 100 < {percent} drop"));
    }

    fn rule(&self, hosts: &[usize], rule: &str) {
        for host in hosts {
            let rules = format!(
                "table inet {TABLE} {{ chain in {{ type filter hook input priority 0; }}; }}\n\
                 add rule inet {TABLE} in {rule}\n"
            );
            let mut nft = self.hosts[*host].command(Path::new("nft"));
            let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("start nft");
            nft.stdin.take().expect("its input").write_all(rules.as_bytes()).expect("hand rules over");
            assert!(nft.wait().expect("wait for nft").success(), "nft refuses {rules}");
        }
    }

    /// Makes what some hosts send slow, as well as this kernel can; tells how.
    ///
    /// # Panics
    /// When it can in no way.
    #[must_use]
    pub fn slow(&self, hosts: &[usize]) -> Slow {
        let tc = |host: usize, args: &[&str]| {
            let mut tc = self.hosts[host].command(Path::new("tc"));
            tc.args(["qdisc", "replace", "dev", "eth0", "root"]).args(args);
            tc.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        if hosts.iter().all(|host| tc(*host, &["netem", "delay", "100ms", "20ms"])) {
            return Slow::Late;
        }
        let narrow = ["tbf", "rate", "1mbit", "burst", "16kb", "latency", "500ms"];
        assert!(hosts.iter().all(|host| tc(*host, &narrow)), "this kernel makes no link slow");
        Slow::Narrow
    }

    /// Ends all faults.
    pub fn mend(&self) {
        for host in &self.hosts {
            let mut nft = host.command(Path::new("nft"));
            let _ = nft.args(["delete", "table", "inet", TABLE]).stderr(Stdio::null()).status();
            let mut tc = host.command(Path::new("tc"));
            let _ = tc.args(["qdisc", "del", "dev", "eth0", "root"]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The link to the test ends with the hub that holds its other end.
        for number in 0..self.hosts.len() {
            let _ = ip(&["netns", "delete", &format!("{}-{number}", self.name)]);
        }
        let _ = ip(&["netns", "delete", &format!("{}-hub", self.name)]);
        let _ = ip(&["link", "delete", &test_link()]);
    }
}

/// Names of links have at most 15 bytes.
fn test_link() -> String {
    format!("re2e{}", std::process::id())
}

/// Takes away what tests left that were killed.
fn clear() {
    let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for namespace in namespaces {
        let name = namespace.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

/// The first three bytes of 10.x.y.0/24 that this machine has no address in.
fn free_subnet() -> [u8; 3] {
    let taken = Command::new("ip").args(["-4", "-o", "address"]).output().expect("run ip");
    let taken = String::from_utf8_lossy(&taken.stdout).into_owned();
    let first = std::process::id();
    let subnet = (0..250u32).map(|n| [10, 77, u8::try_from((first + n) % 250).unwrap_or(0)]);
    let free = |[a, b, c]: &[u8; 3]| !taken.contains(&format!(" {a}.{b}.{c}."));
    subnet.into_iter().find(free).expect("a network that is free")
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
