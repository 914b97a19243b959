//! The spawner as a process: whom it serves, what it says it can do, and what it withstands.

use std::{
    os::{fd::OwnedFd, unix::fs::PermissionsExt, unix::process::CommandExt},
    time::Duration,
};

use rouse_sandbox::{Driver, Error, Exit, Sandbox, container::Enforced};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

#[path = "support/host.rs"]
mod host;

use host::{Host, NODE_UID, as_the_node, as_user, block_on, spec, text};

/// A bare connection to the spawner.
fn dial(host: &Host) -> OwnedFd {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socket");
    connect(&socket, &SocketAddrUnix::new(host.socket()).expect("an address")).expect("connected");
    socket
}

async fn says_hello(host: &Host) {
    let started = host.driver().start(spec(&["/bin/echo", "hello"])).await.expect("started");
    assert_eq!(text(started.stdout).await, "hello\n");
    assert_eq!(started.sandbox.exited().await, Exit::Code(0));
}

#[test]
fn it_reports_what_the_host_enforces() {
    let Some(host) = Host::new("it_reports_what_the_host_enforces") else { return };
    as_the_node(|| async {
        let report = host.driver().report().await.expect("a report");
        assert_eq!(report.unavailable, None);
        // Where the host has the controllers at all, they are found.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        if mounts.contains(" - cgroup2 ") {
            assert_ne!(report.freezer, Enforced::No);
            assert_ne!(report.cpu_usage, Enforced::No);
        }
        if mounts.contains("rw,memory") {
            assert_ne!(report.memory, Enforced::No);
        }
    });
}

#[test]
fn without_root_every_start_is_refused_with_what_to_do() {
    if !rustix::process::geteuid().is_root() {
        return host::skipped(
            "without_root_every_start_is_refused_with_what_to_do",
            "it takes root to give it up",
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("permissions");
    let socket = folder.path().join("spawner.sock");
    // Copied to where it may be run from: cargo's folder may be below a home that is closed to others.
    let program = folder.path().join("spawner");
    std::fs::copy(env!("CARGO_BIN_EXE_rouse-test-spawner"), &program).expect("a copy");
    let mut spawner = std::process::Command::new(&program)
        .arg(&socket)
        .args(["powerless", &NODE_UID.to_string(), "1", "2"])
        .uid(NODE_UID)
        .gid(NODE_UID)
        .spawn()
        .expect("the spawner starts");
    as_the_node(|| async {
        let driver = rouse_sandbox::container::ContainerDriver::new(&socket);
        let report = driver.report().await.expect("a report");
        let reason = report.unavailable.expect("a reason");
        let refused = driver.start(spec(&["/bin/true"])).await.expect_err("it has no power");
        assert!(matches!(&refused, Error::Spec(what) if *what == reason), "{refused}");
        assert!(reason.contains("as root"), "{reason}");
    });
    spawner.kill().expect("killed");
    spawner.wait().expect("reaped");
}

#[test]
fn strangers_are_turned_away_even_if_they_reach_the_socket() {
    let Some(host) = Host::new("strangers_are_turned_away_even_if_they_reach_the_socket") else { return };
    as_the_node(|| says_hello(&host));
    let mode = std::fs::metadata(host.socket()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(host.socket(), PermissionsExt::from_mode(0o666)).expect("permissions");
    as_user(NODE_UID + 1, || async {
        let refused = host.driver().start(spec(&["/bin/true"])).await.expect_err("a stranger");
        assert!(matches!(refused, Error::Spawner(_)), "{refused}");
    });
    as_the_node(|| says_hello(&host));
}

#[test]
fn garbage_and_silence_disturb_nobody_else() {
    let Some(host) = Host::new("garbage_and_silence_disturb_nobody_else") else { return };
    as_the_node(|| async {
        says_hello(&host).await;
        let silent: Vec<OwnedFd> = (0..8).map(|_| dial(&host)).collect();
        for garbage in [vec![0xff; 100_000], vec![0], vec![0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![1; 3]]
        {
            let socket = dial(&host);
            rustix::io::write(&socket, &garbage).expect("written");
            // The rest of what it says is read, then the end: at most a refusal.
            rustix::io::read(&socket, &mut [0; 1_024]).expect("an end");
        }
        says_hello(&host).await;
        drop(silent);
    });
}

#[test]
fn a_second_spawner_on_the_same_socket_gives_up() {
    let Some(host) = Host::new("a_second_spawner_on_the_same_socket_gives_up") else { return };
    as_the_node(|| says_hello(&host));
    let second = host.command().output().expect("it ran");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another spawner holds"), "{said}");
    as_the_node(|| says_hello(&host));
}

#[test]
fn when_full_it_says_so_and_a_place_that_frees_is_taken() {
    let Some(host) = Host::new("when_full_it_says_so_and_a_place_that_frees_is_taken") else { return };
    as_the_node(|| async {
        let driver = host.driver();
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let driver = driver.clone();
            starts.spawn(async move { driver.start(spec(&["/bin/sleep", "1000"])).await });
        }
        let started = starts.join_all().await;
        let mut held: Vec<_> = started.into_iter().map(|one| one.expect("started")).collect();
        let full = driver.start(spec(&["/bin/true"])).await.expect_err("it is full");
        assert!(matches!(&full, Error::Host { step, .. } if step.contains("more than 64")), "{full}");
        let one = held.pop().expect("one");
        one.sandbox.kill();
        one.sandbox.exited().await;
        says_hello(&host).await;
    });
}

/// Waits until the pool of a host is as large as it should be.
async fn filled(host: &Host) {
    // A group is there a moment before its process.
    while host.sandboxes() != host.pool || host.children().len() < host.pool {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_start_takes_a_sandbox_that_waits_and_the_pool_fills_up_again() {
    let Some(host) = Host::with_pool("a_start_takes_a_sandbox_that_waits", 2) else { return };
    as_the_node(|| async {
        filled(&host).await;
        let before = host.groups();
        let started = host.driver().start(spec(&["/bin/sleep", "1000"])).await.expect("started");
        // Two wait again, and the one that runs was there before.
        while host.sandboxes() != 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let groups = host.groups();
        assert!(before.iter().all(|group| groups.contains(group)), "{before:?} {groups:?}");
        started.sandbox.kill();
        started.sandbox.exited().await;
        filled(&host).await;
        let after = host.groups();
        assert!(after.iter().all(|group| groups.contains(group)), "{groups:?} {after:?}");
        says_hello(&host).await;
    });
}

#[test]
fn a_pool_whose_sandboxes_were_killed_is_no_harm() {
    let Some(host) = Host::with_pool("a_pool_whose_sandboxes_were_killed_is_no_harm", 4) else { return };
    block_on(async {
        filled(&host).await;
        let killed = host.children();
        assert_eq!(killed.len(), 4);
        for pid in &killed {
            rustix::process::kill_process(*pid, rustix::process::Signal::KILL).expect("killed");
        }
        while killed.iter().any(|pid| host.children().contains(pid)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        says_hello(&host).await;
        // What fails is not tried again at once, and starts go on without it.
        says_hello(&host).await;
    });
}

#[test]
fn a_spawner_that_is_killed_with_a_full_pool_leaves_nothing_to_the_next() {
    let Some(mut host) = Host::with_pool("a_spawner_that_is_killed_with_a_full_pool", 8) else { return };
    block_on(filled(&host));
    let children = host.children();
    assert_eq!(children.len(), 8);
    let running = host.driver();
    block_on(async {
        let started = running.start(spec(&["/bin/sleep", "1000"])).await.expect("started");
        host.crash();
        assert_eq!(started.sandbox.exited().await, Exit::Signal(9));
    });
    host.start_again();
    block_on(async {
        says_hello(&host).await;
        filled(&host).await;
        assert_eq!(host.running(), 0);
        assert!(host.processes() <= 8, "one for each that waits, and none of those before");
        for pid in children {
            let gone = rustix::process::test_kill_process(pid);
            assert!(gone.is_err() || !host.children().contains(&pid), "{pid:?} lives");
        }
    });
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(&*host.folder.path().to_string_lossy()), "mounts are left");
}

#[test]
fn the_hosts_interpreters_run() {
    const PYTHON: &str = "
import hashlib, json, socket, ssl, subprocess, tempfile, threading, urllib.request
ssl.create_default_context()
t = threading.Thread(target=lambda: print('thread'), daemon=True); t.start(); t.join()
print(subprocess.run(['/bin/echo', 'child'], capture_output=True, text=True).stdout, end='')
tempfile.NamedTemporaryFile().write(b'x')
print(urllib.request.urlopen('http://127.0.0.1:9001/').read().decode())
";
    const NODE: &str = "
const { Worker } = require('worker_threads');
new Worker('console.log(\"thread\")', { eval: true }).on('exit', () => {
  process.stdout.write(require('child_process').execFileSync('/bin/echo', ['child']).toString());
  require('http').get('http://127.0.0.1:9001/', r => r.on('data', d => console.log(d.toString())));
});
";
    let Some(host) = Host::new("the_hosts_interpreters_run") else { return };
    as_the_node(|| async {
        for (program, flag, code) in [("/usr/bin/python3", "-c", PYTHON), ("/usr/bin/node", "-e", NODE)] {
            if !std::path::Path::new(program).exists() {
                host::skipped("the_hosts_interpreters_run", &format!("there is no {program}"));
                continue;
            }
            let mut spec = spec(&[program, flag, code]);
            spec.limits.memory_bytes = 256 << 20;
            spec.listeners = vec!["127.0.0.1:9001".parse().expect("an address")];
            let mut started = host.driver().start(spec).await.expect("started");
            let serve = async {
                let mut stream = started.listeners[0].accept().await.expect("accepted");
                assert_ne!(stream.read(&mut [0; 4_096]).await.expect("a request"), 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nanswer";
                stream.write_all(answer).await.expect("answered");
            };
            let (out, err, served) = tokio::join!(
                text(started.stdout),
                text(started.stderr),
                timeout(Duration::from_secs(20), serve)
            );
            assert_eq!((out.as_str(), err.as_str()), ("thread\nchild\nanswer\n", ""), "{program}");
            served.expect("it asked");
        }
    });
}
