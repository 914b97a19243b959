//! What two families of forks have in common: nothing. Siblings share the layout of what their zygote had loaded, its
//! user and its user namespace: they are the control, in which the comparison must find all of it.
//!
//! This probe alone needs several sandboxes at once, so it is here: `layout.py` in them says where it is.

use std::collections::{BTreeMap, HashSet};

use rouse_escape::{Limits, Probe, Told};
use rouse_sandbox::{
    Driver, Output, Sandbox,
    container::{Container, ContainerDriver},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{sleep, timeout},
};

use crate::{
    confined::{FAMILY, OTHER_FAMILY, PROBE_MAX, Way, ZYGOTE_PAUSE, spec},
    corpus::{Corpus, PYTHON},
    host::Host,
    table::{Came, Row},
};

/// Each is compared with each other: ten pairs. Two of them are there for the other probes anyway.
const FAMILIES: [&str; 5] = [FAMILY, OTHER_FAMILY, "initech", "hooli", "umbrella"];
/// What belongs to each sandbox alone, also among siblings.
const OWN: [&str; 5] = ["pid", "mnt", "net", "ipc", "uts"];

/// What is somewhere else in each process that is started.
const LAID_OUT: [&str; 6] = ["libc", "ld-linux", "python", "[heap]", "[stack]", "[vdso]"];
/// An interpreter that is no position-independent program has the same low addresses everywhere, of at most so many
/// digits; it is left out.
const FIXED_DIGITS: usize = 8;

/// What `layout.py` says.
#[derive(Deserialize)]
struct Said {
    /// Where each file, and what the kernel maps, begins.
    bases: BTreeMap<String, String>,
    namespaces: BTreeMap<String, String>,
    user: String,
    hash: i64,
}

struct Fork {
    family: &'static str,
    said: Said,
    /// The processes of the host that it descends from, itself the first, up to the spawner.
    line: Vec<u32>,
    sandbox: Container,
    /// Held: it would be told of a reader that is gone.
    _stdout: BufReader<Output>,
}

/// How it describes itself.
pub(crate) fn probe(place: usize) -> Probe {
    Probe {
        group: "tenants".to_owned(),
        name: "families".to_owned(),
        tries: "share a process, addresses, or a user with forks of another tenant's".to_owned(),
        control: "namespaces".to_owned(),
        runc: "none: it has no zygotes".to_owned(),
        neighbour: false,
        frozen: false,
        lacks: Vec::new(),
        dies: false,
        needs: String::new(),
        full: String::new(),
        limits: Limits::default(),
        place,
    }
}

/// Forks each family once and the first twice, and compares.
pub(crate) async fn run(host: &Host, corpus: &Corpus, probe: Probe) -> Row {
    let driver = host.driver();
    let mut forks = Vec::new();
    for family in [FAMILY].into_iter().chain(FAMILIES) {
        let started = timeout(PROBE_MAX, fork(&driver, host, corpus, family)).await;
        forks.push(started.expect("a fork in time"));
    }
    let mut between = Vec::new();
    for (place, one) in forks.iter().enumerate().skip(1) {
        for other in &forks[place + 1..] {
            between.extend(shared(one, other));
            between.extend(own(one, other));
        }
    }
    between.extend(own(&forks[0], &forks[1]));
    let siblings: Vec<String> = shared(&forks[0], &forks[1]).collect();
    for fork in forks {
        fork.sandbox.kill();
        fork.sandbox.exited().await;
    }
    let told = |lines: Vec<String>| Told::read(&(lines.join("\n") + "\nDONE\n"));
    let [between, siblings] = [between, siblings].map(told);
    let came = Came { fork: Some(between), control: Some(siblings), ..Came::default() };
    Row::new(probe, came)
}

/// Starts until a start is a fork that has said where it is.
async fn fork(driver: &ContainerDriver, host: &Host, corpus: &Corpus, family: &'static str) -> Fork {
    let argv = [PYTHON, "-m", "layout"].map(ToOwned::to_owned);
    loop {
        let spec = spec(corpus, &argv, &Limits::default(), Way::Fork(family));
        let started = driver.start(spec).await.expect("a fork");
        let mut stdout = BufReader::new(started.stdout);
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            stdout.read_line(line).await.expect("its word");
        }
        let [forked, said] = lines;
        if forked == "PLAIN\n" {
            started.sandbox.exited().await;
            sleep(ZYGOTE_PAUSE).await;
            continue;
        }
        assert_eq!(forked, "FORKED\n", "{said}");
        let said: Said = serde_json::from_str(&said).expect("JSON");
        let line = line(host, &said.namespaces["pid"]);
        return Fork { family, said, line, sandbox: started.sandbox, _stdout: stdout };
    }
}

/// The line of the process that is in this namespace of processes.
fn line(host: &Host, namespace: &str) -> Vec<u32> {
    let spawned: HashSet<u32> =
        host.children().iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let inside = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let inside: Vec<u32> = inside
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link.as_os_str() == namespace)
        })
        .collect();
    assert!(!inside.is_empty(), "no process is in {namespace}");
    let mut line = inside;
    while let Some(pid) = line.last().copied() {
        if spawned.contains(&pid) {
            return line;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let parent = parent.and_then(|text| text.trim().parse().ok()).expect("its parent");
        assert_ne!(parent, 0, "it descends from the spawner: {line:?}");
        line.push(parent);
    }
    line
}

/// A line for each thing that siblings share and two families must not.
fn shared<'a>(one: &'a Fork, other: &'a Fork) -> impl Iterator<Item = String> + 'a {
    let bases =
        one.said.bases.iter().filter(|(name, base)| {
            LAID_OUT.iter().any(|one| name.starts_with(one)) && base.len() > FIXED_DIGITS
        });
    let bases = bases
        .map(|(name, base)| (format!("the address of {name}"), other.said.bases.get(name) == Some(base)));
    let process = one.line.iter().any(|pid| other.line.contains(pid));
    let rest = [
        ("a process".to_owned(), process),
        ("the user of the host".to_owned(), one.said.user == other.said.user),
        ("the user namespace".to_owned(), one.said.namespaces["user"] == other.said.namespaces["user"]),
        ("the seed of hashes".to_owned(), one.said.hash == other.said.hash),
    ];
    bases.chain(rest).map(|(what, same)| word(one, other, &what, same))
}

/// A line for each namespace that even siblings must not share.
fn own<'a>(one: &'a Fork, other: &'a Fork) -> impl Iterator<Item = String> + 'a {
    OWN.iter().map(|name| {
        let same = one.said.namespaces[*name] == other.said.namespaces[*name];
        word(one, other, &format!("the {name} namespace"), same)
    })
}

fn word(one: &Fork, other: &Fork, what: &str, same: bool) -> String {
    let (came, detail) = if same { ("THROUGH", "the same") } else { ("BLOCKED", "differs") };
    format!("{came} {what} of {} and {}: {detail}", one.family, other.family)
}
