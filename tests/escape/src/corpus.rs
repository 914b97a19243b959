//! The probes, laid out as the code of a function, and what of the host they try to reach.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rouse_escape::{Limits, Probe};
use rouse_sandbox::{Becomes, Interpreter, Limits as Bounds, Mount};
use rustix::fs::{XattrFlags, setxattr};

use crate::host::Host;

/// Every sandbox sees the host's.
pub(crate) const PYTHON: &str = "/usr/bin/python3";
/// Where a function's code is, inside.
pub(crate) const TASK: &str = "/var/task";
/// Where the script of zygotes is, inside of theirs.
const ZYGOTE_DIR: &str = "/opt/zygote";
/// The same script that the platform uses.
const ZYGOTE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/contract/src/lambda/zygote.py");
/// Where the script is that waits to become a probe.
const AHEAD_DIR: &str = "/opt/ahead";
const AHEAD_SCRIPT: &str = "/opt/ahead/ahead.py";
/// What an interpreter may use as long as it waits: other bounds than a probe's, which must hold afterwards.
const WAITING: Bounds = Bounds {
    memory_bytes: 256 << 20,
    cpu_millis: 1_000,
    processes: 64,
    tmp_bytes: 1 << 20,
    open_files: 1_024,
};
const AHEAD: &str = include_str!("../../../crates/sandbox/tests/support/ahead.py");
/// Bytes of a file whose pages nobody has read.
const COLD_BYTES: usize = 1 << 20;

/// The least share of a core, which is what a function of 128 MiB gets.
pub(crate) const CPU_MILLIS: u32 = 500;

/// The probes in their folder, and what stands on the host for them to reach.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) folder: PathBuf,
    zygote: PathBuf,
    ahead: PathBuf,
    pub(crate) probes: Vec<Probe>,
    env: Vec<(String, String)>,
    /// A process, and sockets, of the host.
    sleeper: Child,
    _tcp: TcpListener,
    _any: TcpListener,
    _unix: UnixListener,
}

impl Corpus {
    /// Lays everything out below the folder of code of this host.
    pub(crate) fn prepare(host: &Host) -> Self {
        let folder = host.code().join("probes");
        fs::create_dir(&folder).expect("a folder");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes");
        for entry in fs::read_dir(&sources).expect("the probes").flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "py") {
                fs::copy(entry.path(), folder.join(entry.file_name())).expect("copied");
            }
        }
        fs::write(folder.join("calls.json"), calls()).expect("written");
        fs::write(folder.join("canary"), "as it was deployed\n").expect("written");
        let cold = fs::File::create(folder.join("cold")).expect("created");
        std::io::Write::write_all(&mut &cold, &vec![7; COLD_BYTES]).expect("written");
        cold.sync_all().expect("on the disk");
        privileged_programs(&sources, &folder);
        let zygote = host.code().join("zygote");
        fs::create_dir(&zygote).expect("a folder");
        fs::copy(ZYGOTE, zygote.join("zygote.py")).expect("the script of zygotes");
        let ahead = host.code().join("ahead");
        fs::create_dir(&ahead).expect("a folder");
        fs::write(ahead.join("ahead.py"), AHEAD).expect("the script that waits");
        let other = host.code().join("other");
        fs::create_dir(&other).expect("a folder");
        fs::write(other.join("handler.py"), "key = 'of another tenant'\n").expect("written");

        let canary = canary();
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let any = TcpListener::bind("0.0.0.0:0").expect("a port");
        let name = format!("rouse-escape-{canary}");
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let unix = UnixListener::bind_addr(&address).expect("bound");
        let sleeper =
            Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().expect("a process of the host");
        let env = [
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("CANARY", canary),
            ("VICTIM_PORT", "17001".to_owned()),
            ("HOST_PID", sleeper.id().to_string()),
            ("HOST_PORT", tcp.local_addr().expect("an address").port().to_string()),
            ("HOST_ANY_PORT", any.local_addr().expect("an address").port().to_string()),
            ("HOST_ADDRESSES", addresses()),
            ("HOST_ABSTRACT", name),
            ("HOST_STATE", host.folder.path().to_string_lossy().into_owned()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let probes = list(&folder);
        Self { folder, zygote, ahead, probes, env, sleeper, _tcp: tcp, _any: any, _unix: unix }
    }

    /// What has started before a family's instances do: as the node has it for a tenant, see `Launch::interpreter` of
    /// `rouse-contract`. `limits` are the spec's.
    pub(crate) fn interpreter(&self, family: &str, becomes: Becomes, limits: Bounds) -> Interpreter {
        // It has loaded what most probes use, and what a client of the Runtime API would have.
        let argv = [PYTHON, "-S", &format!("{ZYGOTE_DIR}/zygote.py"), "json", "ssl", "socket", "http.client"];
        let (argv, mount, limits) = match becomes {
            Becomes::Forked => {
                let limits = Bounds { processes: 64, open_files: 65_536, ..WAITING };
                (argv.to_vec(), Mount { source: self.zygote.clone(), target: ZYGOTE_DIR.into() }, limits)
            }
            Becomes::Itself => {
                let limits = Bounds { processes: limits.processes, open_files: limits.open_files, ..WAITING };
                (vec![PYTHON, "-S", AHEAD_SCRIPT], self.ahead_mount(), limits)
            }
        };
        Interpreter {
            family: family.to_owned(),
            becomes,
            argv: argv.into_iter().map(ToOwned::to_owned).collect(),
            env: vec![("LC_ALL".into(), "C.UTF-8".into()), ("PYTHONDONTWRITEBYTECODE".into(), "1".into())],
            mounts: vec![mount],
            limits,
        }
    }

    /// What such a script sees of files before it is a probe, and the probe too.
    pub(crate) fn ahead_mount(&self) -> Mount {
        Mount { source: self.ahead.clone(), target: AHEAD_DIR.into() }
    }

    /// The environment of a probe, or of its neighbour.
    pub(crate) fn env(&self, limits: &Limits) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        let numbers = [
            ("MEMORY_MIB", limits.memory_mib),
            ("TMP_MIB", limits.tmp_mib),
            ("PROCESSES", limits.processes.into()),
            ("OPEN_FILES", limits.open_files.into()),
            ("CPU_MILLIS", CPU_MILLIS.into()),
        ];
        env.extend(numbers.map(|(name, number)| (name.to_owned(), number.to_string())));
        env
    }
}

impl Drop for Corpus {
    fn drop(&mut self) {
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
    }
}

/// The machine's addresses of version 4 but the loopback's, with spaces between.
fn addresses() -> String {
    let output = Command::new("ip").args(["-4", "-o", "addr", "show"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let all = text.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    all.filter(|one| !one.starts_with("127.")).collect::<Vec<_>>().join(" ")
}

/// The numbers of this machine's system calls, from the headers of its compiler.
fn calls() -> String {
    let output = Command::new("cc")
        .args(["-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"])
        .output()
        .expect("a C compiler: run `cargo xtask setup`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.lines().filter_map(|line| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.parse::<u32>().ok()?))
    });
    let numbers: std::collections::BTreeMap<String, u32> = numbers.collect();
    serde_json::to_string(&numbers).expect("numbers are JSON")
}

/// Two copies of `gain.c`: one of root's with the set-user-id bit, one with a capability.
fn privileged_programs(sources: &Path, folder: &Path) {
    let [setuid, capable] = ["gain-setuid", "gain-capable"].map(|name| folder.join(name));
    let built = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .arg(&setuid)
        .arg(sources.join("gain.c"))
        .status()
        .expect("a C compiler: run `cargo xtask setup`");
    assert!(built.success(), "gain.c compiles");
    fs::copy(&setuid, &capable).expect("copied");
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).expect("permissions");
    // `struct vfs_cap_data`, version 2, effective: capabilities(7).
    // CAP_CHOWN alone, which every host gives to root.
    let granted = [0x0200_0001_u32, 1, 0, 0, 0].map(u32::to_le_bytes).concat();
    // Where the file system has no such attributes, the control says so.
    let _ = setxattr(&capable, "security.capability", &granted, XattrFlags::empty());
}

/// What nobody else knows: names things of one run.
fn canary() -> String {
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("random bytes");
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

fn list(folder: &Path) -> Vec<Probe> {
    let output = Command::new(PYTHON)
        .arg("run.py")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder)
        .output()
        .expect("Python: run `cargo xtask setup`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut probes: Vec<Probe> = serde_json::from_slice(&output.stdout).expect("a list of probes");
    for (place, probe) in probes.iter_mut().enumerate() {
        probe.place = place;
    }
    probes
}
