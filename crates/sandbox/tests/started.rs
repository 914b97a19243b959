//! Code that is an interpreter which had started before: that nothing differs from a plain start, and that those who
//! wait are bounded and nobody's trouble.

use std::time::Duration;

use rouse_sandbox::{Becomes, Driver, Exit, Interpreter, Limits, Mount, Sandbox, Spec};
use tokio::time::sleep;

#[path = "support/host.rs"]
mod host;

use host::{Host, as_the_node, block_on, spec, text};

const SCRIPT: &str = include_str!("support/ahead.py");
const PYTHON: &str = "/usr/bin/python3";

/// A host with the waiting script, and a script of a test for its instances.
fn host(test: &str, code: &str) -> Option<Host> {
    if !std::path::Path::new(PYTHON).exists() {
        host::skipped(test, "there is no /usr/bin/python3");
        return None;
    }
    let host = Host::with_pool(test, 0)?;
    for (folder, name, text) in [("ahead", "ahead.py", SCRIPT), ("app", "code.py", code)] {
        std::fs::create_dir(host.code().join(folder)).expect("a folder");
        std::fs::write(host.code().join(folder).join(name), text).expect("a script");
    }
    Some(host)
}

/// Runs the script, in an interpreter that has started if one is ready.
fn ahead(host: &Host, family: &str, arguments: &[&str]) -> Spec {
    let mount =
        |source: &str, target: &str| Mount { source: host.code().join(source), target: target.into() };
    let mut spec = spec(&[&[PYTHON, "/var/task/code.py"], arguments].concat());
    spec.mounts = vec![mount("app", "/var/task"), mount("ahead", "/opt/ahead")];
    spec.cwd = "/var/task".into();
    spec.env = vec![("COLOUR".into(), "blue=green".into()), ("LANG".into(), "C.UTF-8".into())];
    spec.interpreter = Some(Interpreter {
        family: family.into(),
        becomes: Becomes::Itself,
        argv: vec![PYTHON.into(), "/opt/ahead/ahead.py".into()],
        env: vec![("LANG".into(), "C.UTF-8".into()), ("BURN".into(), "1".into())],
        mounts: vec![mount("ahead", "/opt/ahead")],
        limits: Limits { memory_bytes: 100 << 20, cpu_millis: 1_000, tmp_bytes: 4_096, ..spec.limits },
    });
    spec
}

async fn run(host: &Host, spec: Spec) -> (String, String, Exit) {
    let started = host.driver().start(spec).await.expect("started");
    let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
    (out, err, started.sandbox.exited().await)
}

/// Starts until a start had an interpreter that was there before, which says so in its first line.
async fn until_ahead(host: &Host, make: impl Fn() -> Spec) -> String {
    loop {
        let (out, err, exit) = run(host, make()).await;
        assert_eq!((err.as_str(), exit), ("", Exit::Code(0)), "{out}");
        match out.split_once('\n') {
            Some(("ahead", rest)) => return rest.to_owned(),
            Some(("plain", _)) => sleep(Duration::from_millis(20)).await,
            _ => panic!("{out}"),
        }
    }
}

/// It knows with which arguments its interpreter was started.
fn code(code: &str) -> String {
    let say = "print('ahead' if 'ahead.py' in ' '.join(sys.orig_argv) else 'plain', flush=True)\n";
    format!("import os, sys\n{say}{code}")
}

#[test]
fn nothing_differs_from_a_plain_start() {
    let source = code(
        "
import ctypes, errno, resource, signal, socket, threading
print([line.split()[1:] for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs', 'Seccomp:', 'Groups'))])
print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), os.getpid(), os.getppid(), os.getsid(0), os.uname().nodename)
print(os.getcwd(), sys.argv, dict(os.environb), os.umask(0))
print([(fd, os.readlink('/proc/self/fd/' + fd).split(':')[0]) for fd in sorted(os.listdir('/proc/self/fd'))[:3]])
for fd in range(3, 64):
    try: print(fd, os.fstat(fd))
    except OSError: pass
print([resource.getrlimit(one) for one in range(16)])
print(sorted(os.listdir('/')), sorted(os.listdir('/var/task')), [name for _, name in socket.if_nameindex()])
for fields in sorted(line.split()[3:] for line in open('/proc/self/mountinfo')): print(fields[:3], fields[5:])
print([line.split()[0] for line in open('/proc/self/cgroup')], open('/proc/self/cgroup').read().count('/s'))
for name in ['hosts', 'resolv.conf', 'nsswitch.conf', 'group', 'hostname']:
    print(name, open('/etc/' + name).read().replace(str(os.getuid()), 'UID'))
print(open('/proc/self/oom_score_adj').read().strip(), os.getuid() == os.geteuid() == os.getgid(), os.getgroups())
tmp = os.statvfs('/tmp'); print(tmp.f_blocks * tmp.f_frsize, tmp.f_files)
print([signal.getsignal(one) for one in sorted(signal.valid_signals())])
print(sorted(line.split()[1] for line in open('/proc/net/tcp') if line.split()[3] == '0A'), open('/proc/net/udp').read().count(':0035'))
print(socket.gethostbyname('db.internal'))
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    print(name, 'ok' if getattr(libc, name)(*args) != -1 else errno.errorcode[ctypes.get_errno()])
call('setns', os.open('/proc/self/ns/net', 0), 0)
call('unshare', 0x20000)
call('unshare', 0x10000000)
call('mount', b'x', b'/tmp', b'tmpfs', 0, 0)
call('umount2', b'/proc', 2)
call('chroot', b'/tmp')
call('kill', 1, 9)
call('ptrace', 16, 1, 0, 0)
call('setuid', 0)
for path in ['/usr/x', '/x', '/etc/x', '/var/task/x', '/proc/sys/kernel/core_pattern', '/dev/x']:
    try: open(path, 'w'); print(path, 'ok')
    except OSError as e: print(path, errno.errorcode[e.errno])
open('/tmp/x', 'w').write('x' * 100_000)
children = 0
sys.stdout.flush()
try:
    while children < 100:
        if os.fork() == 0: signal.pause()
        children += 1
except OSError as e: print('forks', children, errno.errorcode[e.errno])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.kill(0, signal.SIGTERM)
",
    );
    let Some(host) = host("nothing_differs_from_a_plain_start", &source) else { return };
    as_the_node(|| async {
        let make = || {
            let mut spec = ahead(&host, "acme", &["one", "two"]);
            let of = |text: &str| text.parse().expect("an address");
            spec.listeners = vec![of("127.0.0.1:9001"), of("127.0.0.2:5432"), of("192.0.2.7:443")];
            spec.resolver = "127.0.0.53".parse().ok();
            spec.hosts = vec![("127.0.0.2".parse().expect("an address"), "db.internal".into())];
            spec
        };
        let mut plain = make();
        plain.interpreter = None;
        let (plain, err, exit) = run(&host, plain).await;
        assert_eq!((err.as_str(), exit), ("", Exit::Code(0)));
        let (first, plain) = plain.split_once('\n').expect("lines");
        assert_eq!(first, "plain");
        assert!(plain.contains("forks 3") && plain.contains("/var/task/x EROFS"), "{plain}");
        assert_eq!(until_ahead(&host, make).await, plain);
    });
}

#[test]
fn the_limits_of_the_spec_hold_and_the_interpreters_start_counts_not() {
    let source = code(
        "
if sys.argv[1] == 'memory': b = b'x' * (200 << 20)
if sys.argv[1] == 'code': os._exit(7)
if sys.argv[1] == 'signal': os.kill(os.getpid(), 15)
if sys.argv[1] == 'sleep': import time; time.sleep(1000)
",
    );
    let test = "the_limits_of_the_spec_hold_and_the_interpreters_start_counts_not";
    let Some(host) = host(test, &source) else { return };
    as_the_node(|| async {
        let until = async |how: &str, limits: fn(&mut Limits)| loop {
            let mut spec = ahead(&host, "acme", &[how]);
            limits(&mut spec.limits);
            let started = host.driver().start(spec).await.expect("started");
            let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
            let exit = started.sandbox.exited().await;
            if out == "ahead\n" {
                return (exit, err, started.sandbox.stats());
            }
            sleep(Duration::from_millis(20)).await;
        };
        let (exit, err, stats) = until("nothing", |_| ()).await;
        assert_eq!(exit, Exit::Code(0), "{err}");
        assert_ne!(stats.cpu_us, 0);
        assert!(stats.cpu_us < 1_000_000, "its start used a second: {stats:?}");
        // 128 MiB is more than what it could have while it waited, and less than what is wanted now.
        assert_eq!(until("memory", |_| ()).await.0, Exit::OutOfMemory);
        assert_eq!(until("memory", |limits| limits.memory_bytes = 256 << 20).await.0, Exit::Code(0));
        assert_eq!(until("code", |_| ()).await.0, Exit::Code(7));
        assert_eq!(until("signal", |_| ()).await.0, Exit::Signal(15));
    });
}

#[test]
fn what_differs_from_the_interpreters_bounds_or_would_hardly_fit_is_started_plainly() {
    let Some(host) = host("what_differs_or_would_hardly_fit_is_started_plainly", &code("")) else { return };
    as_the_node(|| async {
        until_ahead(&host, || ahead(&host, "acme", &[])).await;
        let wrong: [fn(&mut Spec); 4] = [
            |spec| drop(spec.mounts.pop()),
            |spec| spec.limits.processes -= 1,
            |spec| spec.limits.open_files -= 1,
            |spec| spec.limits.memory_bytes = 8 << 20,
        ];
        for spoil in wrong {
            // Long enough for one to wait again.
            sleep(Duration::from_secs(2)).await;
            let mut spec = ahead(&host, "acme", &[]);
            spoil(&mut spec);
            assert_eq!(run(&host, spec).await.0, "plain\n");
        }
    });
}

#[test]
fn as_many_wait_as_are_allowed_and_none_of_another_family() {
    let Some(host) = host("as_many_wait_as_are_allowed", &code("")) else { return };
    block_on(async {
        until_ahead(&host, || ahead(&host, "acme", &[])).await;
        assert_eq!(run(&host, ahead(&host, "globex", &[])).await.0, "plain\n", "that one is acme's");
        for _ in 0..10 {
            drop(run(&host, ahead(&host, "acme", &[])).await);
            assert!(host.with_command("ahead.py").len() <= 4, "two of each family");
            let held = host.driver().ahead().await.expect("what is held").interpreters;
            assert!(held.count <= 4, "{held:?}");
            assert!(held.count == 0 || held.memory_bytes > 0, "{held:?}");
        }
    });
}

#[test]
fn one_that_dies_or_never_gets_ready_is_done_without() {
    let Some(host) = host("one_that_dies_or_never_gets_ready_is_done_without", &code("")) else { return };
    block_on(async {
        until_ahead(&host, || ahead(&host, "acme", &[])).await;
        let ready = |pid: &rustix::process::Pid| {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
            name.is_ok_and(|name| name == "ready\n")
        };
        // Of two, the second is made when the first is ready.
        while host.with_command("ahead.py").iter().filter(|pid| ready(pid)).count() < 1 {
            sleep(Duration::from_millis(20)).await;
        }
        let waiting: Vec<_> = host.with_command("ahead.py").into_iter().filter(ready).collect();
        for &waiting in &waiting {
            rustix::process::kill_process(waiting, rustix::process::Signal::KILL).expect("killed");
        }
        while host.with_command("ahead.py").iter().any(|pid| waiting.contains(pid)) {
            sleep(Duration::from_millis(5)).await;
        }
        let (out, _, exit) = run(&host, ahead(&host, "acme", &[])).await;
        assert!(["plain\n", "ahead\n"].contains(&out.as_str()), "{out}");
        assert_eq!(exit, Exit::Code(0));
        until_ahead(&host, || ahead(&host, "acme", &[])).await;
        for argv in [vec![PYTHON, "/opt/ahead/nothing.py"], vec!["/nothing"]] {
            for _ in 0..3 {
                let mut spec = ahead(&host, "globex", &[]);
                if let Some(interpreter) = &mut spec.interpreter {
                    interpreter.argv = argv.iter().map(|&argument| argument.to_owned()).collect();
                }
                assert_eq!(run(&host, spec).await.0, "plain\n");
                sleep(Duration::from_millis(100)).await;
            }
        }
        // What ends just after it was told ends as code does.
        let told = async || loop {
            let (_, _, exit) = run(&host, ahead(&host, "acme", &["--die-ahead"])).await;
            if exit == Exit::Code(9) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        };
        told().await;
    });
}

#[test]
fn a_spawner_that_is_killed_leaves_no_interpreter() {
    let Some(mut host) = host("a_spawner_that_is_killed_leaves_no_interpreter", &code("")) else { return };
    block_on(async {
        until_ahead(&host, || ahead(&host, "acme", &[])).await;
        host.crash();
        host.start_again();
        assert_eq!(run(&host, ahead(&host, "acme", &[])).await.0, "plain\n");
        until_ahead(&host, || ahead(&host, "acme", &[])).await;
    });
}
