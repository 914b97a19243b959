//! Code that is forked from a zygote: that it is confined as any other, that forks share no random number, and that a
//! zygote's end is nobody's else.

use std::{collections::HashSet, time::Duration};

use rouse_sandbox::{
    Becomes, Driver, Exit, Interpreter, Limits, Mount, Sandbox, Spec, Started, container::Container,
};
use tokio::{io::AsyncReadExt, time::sleep};

#[path = "support/host.rs"]
mod host;

use host::{Host, as_the_node, block_on, spec, text};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contract/src/lambda/zygote.py");
const PYTHON: &str = "/usr/bin/python3";

/// A host with the script of zygotes, and a module `code` for instances.
fn host(test: &str, code: &str) -> Option<Host> {
    if !std::path::Path::new(PYTHON).exists() {
        host::skipped(test, "there is no /usr/bin/python3");
        return None;
    }
    let host = Host::with_pool(test, 0)?;
    for folder in ["zygote", "app"] {
        std::fs::create_dir(host.code().join(folder)).expect("a folder");
    }
    std::fs::copy(SCRIPT, host.code().join("zygote/zygote.py")).expect("the script");
    std::fs::write(host.code().join("app/code_of_a_test.py"), code).expect("the code");
    Some(host)
}

/// Runs the module, in a fork if there is a zygote.
fn forked(host: &Host, arguments: &[&str]) -> Spec {
    let mount =
        |source: &str, target: &str| Mount { source: host.code().join(source), target: target.into() };
    let modules = ["json", "ssl", "uuid", "secrets", "tempfile", "hashlib"];
    let argv = [PYTHON, "/opt/zygote/zygote.py"].iter().chain(&modules);
    let mut spec = spec(&[&[PYTHON, "-m", "code_of_a_test"], arguments].concat());
    spec.mounts = vec![mount("app", "/var/task")];
    spec.cwd = "/var/task".into();
    spec.env = vec![("COLOUR".into(), "blue=green".into())];
    spec.interpreter = Some(Interpreter {
        family: "tests".into(),
        becomes: Becomes::Forked,
        limits: Limits { processes: 64, open_files: 65_536, ..spec.limits },
        argv: argv.map(|&argument| argument.to_owned()).collect(),
        env: vec![("LANG".into(), "C.UTF-8".into())],
        mounts: vec![mount("zygote", "/opt/zygote")],
    });
    spec
}

async fn run(host: &Host, spec: Spec) -> (String, String, Exit) {
    let started = host.driver().start(spec).await.expect("started");
    let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
    (out, err, started.sandbox.exited().await)
}

/// Starts until a start is a fork of a zygote, which says so in its first line: `fork`.
async fn until_forked(host: &Host, arguments: &[&str]) -> String {
    loop {
        let (out, err, exit) = run(host, forked(host, arguments)).await;
        assert_eq!((err.as_str(), exit), ("", Exit::Code(0)), "{out}");
        match out.split_once('\n') {
            Some(("fork", rest)) => return rest.to_owned(),
            Some(("plain", _)) => sleep(Duration::from_millis(20)).await,
            _ => panic!("{out}"),
        }
    }
}

/// A fork knows with which arguments its interpreter was started.
const SAY: &str = "print('fork' if 'zygote.py' in ' '.join(sys.orig_argv) else 'plain')\n";

fn code(code: &str) -> String {
    format!("import os, sys\n{SAY}{code}")
}

#[test]
fn a_fork_is_as_confined_as_what_is_executed() {
    let source = code(
        "
import ctypes, errno, resource, signal, socket, subprocess
print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs', 'Seccomp:'))])
print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), os.getpid(), os.uname().nodename)
print(os.getcwd(), sys.argv, sys.path[0], dict(os.environb))
print(sorted(os.listdir('/proc/self/fd'))[:4], resource.getrlimit(resource.RLIMIT_NOFILE))
print(sorted(os.listdir('/')), [name for _, name in socket.if_nameindex()])
print(open('/proc/self/oom_score_adj').read().strip(), os.getuid() == os.geteuid() == os.getgid(), os.getgroups())
print(signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)
print(open('/proc/self/cmdline').read().strip('\\0').split('\\0'))
print(subprocess.run(['/bin/echo', 'child'], capture_output=True, text=True).stdout, end='')
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    print(name, 'ok' if getattr(libc, name)(*args) != -1 else errno.errorcode[ctypes.get_errno()])
call('setns', os.open('/proc/self/ns/net', 0), 0)
call('unshare', 0x20000)
call('unshare', 0x10000000)
call('mount', b'x', b'/tmp', b'tmpfs', 0, 0)
call('umount2', b'/proc', 2)
call('sethostname', b'x', 1)
call('chroot', b'/tmp')
call('kill', 1, 9)
call('setuid', 0)
for path in ['/usr/x', '/x', '/etc/x', '/var/task/x', '/proc/sys/kernel/core_pattern', '/dev/x']:
    try: open(path, 'w'); print(path, 'ok')
    except OSError as e: print(path, errno.errorcode[e.errno])
open('/tmp/x', 'w').write('x')
",
    );
    let Some(host) = host("a_fork_is_as_confined_as_what_is_executed", &source) else { return };
    as_the_node(|| async {
        let said = until_forked(&host, &["one", "two"]).await;
        let expected = "['0000000000000000', '0000000000000000', '0000000000000000', '0000000000000000', '0000000000000000', '1', '2']
[2] 2 sandbox
/var/task ['/var/task/code_of_a_test.py', 'one', 'two'] /var/task {b'COLOUR': b'blue=green'}
['0', '1', '2', '3'] (256, 256)
['bin', 'dev', 'etc', 'lib', 'lib64', 'proc', 'sbin', 'tmp', 'usr', 'var'] ['lo']
500 True []
True
['/usr/bin/python3', '-m', 'code_of_a_test', 'one', 'two']
child
setns EPERM\nunshare EPERM\nunshare EPERM\nmount EPERM\numount2 EPERM\nsethostname EPERM\nchroot EPERM\nkill EPERM
setuid EINVAL
/usr/x EROFS\n/x EROFS\n/etc/x EROFS\n/var/task/x EROFS\n/proc/sys/kernel/core_pattern EROFS\n/dev/x EROFS\n";
        assert_eq!(said.replace(" 'lib32',", "").replace(" 'libx32',", ""), expected);
    });
}

#[test]
fn two_forks_never_share_a_random_number() {
    let source = code(
        "
import random, secrets, ssl, tempfile, time, uuid
print(random.random()); print(random.getrandbits(64)); print(os.urandom(16).hex()); print(uuid.uuid4())
print(uuid.uuid1()); print(secrets.token_hex()); print(ssl.RAND_bytes(16).hex()); print(tempfile.mktemp())
print('clock', time.time(), time.monotonic(), time.process_time())
",
    );
    let Some(host) = host("two_forks_never_share_a_random_number", &source) else { return };
    as_the_node(|| async {
        let mut seen = HashSet::new();
        for _ in 0..8 {
            let said = until_forked(&host, &[]).await;
            let (numbers, clock) = said.split_once("clock ").expect("the clock");
            assert_eq!(numbers.lines().count(), 8);
            for number in numbers.lines() {
                assert!(seen.insert(number.to_owned()), "{number} came twice");
            }
            let clock: Vec<f64> =
                clock.split_whitespace().map(|text| text.parse().expect("a time")).collect();
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
            let [wall, _, used] = clock[..] else { panic!("{clock:?}") };
            assert!((now as f64 - wall).abs() < 60.0, "{now} {wall}");
            assert!(used < 5.0, "the zygote's own CPU time counts not: {used}");
        }
    });
}

#[test]
fn how_a_fork_ends_is_told_and_nothing_is_left() {
    let source = code(
        "
sys.stdout.flush()
import signal, time
if sys.argv[1] == 'code': sys.exit(7)
if sys.argv[1] == 'signal': os.kill(os.getpid(), signal.SIGTERM)
if sys.argv[1] == 'raise': raise ValueError('x')
if sys.argv[1] == 'memory': b = b'x' * (512 << 20)
if sys.argv[1] == 'orphans':
    for _ in range(64):
        if os.fork() == 0:
            os.fork(); os._exit(0)
        os.wait()
time.sleep(1000 if sys.argv[1] == 'sleep' else 0)
",
    );
    let Some(host) = host("how_a_fork_ends_is_told_and_nothing_is_left", &source) else { return };
    as_the_node(|| async {
        until_forked(&host, &["nothing"]).await;
        let ends = [
            ("code", Exit::Code(7)),
            ("signal", Exit::Signal(15)),
            ("raise", Exit::Code(1)),
            ("memory", Exit::OutOfMemory),
            ("orphans", Exit::Code(0)),
        ];
        for (how, expected) in ends {
            let (out, err, exit) = run(&host, forked(&host, &[how])).await;
            assert_eq!((out.as_str(), exit), ("fork\n", expected), "{how}: {err}");
        }
        // Killed while it runs, also frozen; what it used is counted.
        for frozen in [false, true] {
            let started = host.driver().start(forked(&host, &["sleep"])).await.expect("started");
            if frozen {
                started.sandbox.freeze().await.expect("frozen");
            }
            started.sandbox.kill();
            assert_eq!(started.sandbox.exited().await, Exit::Signal(9));
            assert_ne!(started.sandbox.stats().cpu_us, 0);
        }
    });
}

async fn says_fork(started: Started<Container>) -> (String, Exit) {
    (text(started.stdout).await, started.sandbox.exited().await)
}

#[test]
fn a_zygotes_death_ends_no_fork_and_the_next_start_does_without() {
    let source = code("import time\nsys.stdout.flush()\ntime.sleep(float(sys.argv[1]))\n");
    let Some(host) = host("a_zygotes_death_ends_no_fork", &source) else { return };
    block_on(async {
        until_forked(&host, &["0"]).await;
        let running = host.driver().start(forked(&host, &["3"])).await.expect("started");
        let zygotes = host.with_command("zygote.py");
        assert!(!zygotes.is_empty(), "a zygote");
        // The first is the zygote: the others are its forks.
        rustix::process::kill_process(zygotes[0], rustix::process::Signal::KILL).expect("killed");
        let (out, _, exit) = run(&host, forked(&host, &["0"])).await;
        assert!(["plain\n", "fork\n"].contains(&out.as_str()), "{out}");
        assert_eq!(exit, Exit::Code(0));
        assert_eq!(says_fork(running).await, ("fork\n".to_owned(), Exit::Code(0)));
        // A new one is made.
        until_forked(&host, &["0"]).await;
    });
}

#[test]
fn a_zygote_that_cannot_be_made_is_done_without() {
    let Some(host) = host("a_zygote_that_cannot_be_made_is_done_without", &code("")) else { return };
    as_the_node(|| async {
        for _ in 0..5 {
            let mut spec = forked(&host, &[]);
            if let Some(zygote) = &mut spec.interpreter {
                zygote.argv.push("no_such_module".into());
            }
            assert_eq!(run(&host, spec).await.0, "plain\n");
            sleep(Duration::from_millis(100)).await;
        }
    });
}

#[test]
fn zygotes_that_hold_too_much_go_and_their_starts_go_on_without() {
    let Some(host) = host("zygotes_that_hold_too_much_go", &code("")) else { return };
    std::fs::write(host.code().join("zygote/hoard.py"), "x = bytearray(b'x') * (120 << 20)")
        .expect("a module");
    block_on(async {
        let hoards = |family: &str| {
            let mut spec = forked(&host, &[]);
            if let Some(zygote) = &mut spec.interpreter {
                zygote.family = family.into();
                zygote.argv.push("hoard".into());
                zygote.limits.memory_bytes = 256 << 20;
            }
            spec
        };
        for family in ["one", "two"] {
            while run(&host, hoards(family)).await.0 != "fork\n" {
                sleep(Duration::from_millis(20)).await;
            }
        }
        // There is room for one of them.
        assert_eq!(run(&host, hoards("one")).await.0, "plain\n");
        assert_eq!(run(&host, hoards("two")).await.0, "fork\n");
        let held = host.driver().ahead().await.expect("what is held").zygotes;
        assert!((120 << 20..=200 << 20).contains(&held.memory_bytes), "{held:?}");
    });
}

#[test]
fn what_forks_leave_in_their_zygotes_memory_does_not_end_it() {
    const FORKS: usize = 40;
    let source = code("import time\nsys.stdout.flush()\ntime.sleep(float(sys.argv[1]))\n");
    let Some(host) = host("what_forks_leave_in_their_zygotes_memory", &source) else { return };
    block_on(async {
        let tight = |seconds: &str| {
            let mut spec = forked(&host, &[seconds]);
            if let Some(zygote) = &mut spec.interpreter {
                zygote.limits.memory_bytes = 32 << 20;
            }
            spec
        };
        while run(&host, tight("0")).await.0 != "fork\n" {
            sleep(Duration::from_millis(20)).await;
        }
        let mut running = Vec::new();
        for _ in 0..FORKS {
            let mut started = host.driver().start(tight("1000")).await.expect("started");
            let mut said = [0; 5];
            started.stdout.read_exact(&mut said).await.expect("its first line");
            assert_eq!(&said, b"fork\n", "start {}", running.len());
            running.push(started);
        }
    });
}

#[test]
fn a_spawner_that_is_killed_with_zygotes_and_forks_leaves_nothing_to_the_next() {
    let source = code("import time\nsys.stdout.flush()\ntime.sleep(float(sys.argv[1]))\n");
    let Some(mut host) = host("a_spawner_that_is_killed_with_zygotes_and_forks", &source) else { return };
    block_on(async {
        until_forked(&host, &["0"]).await;
        let running = host.driver().start(forked(&host, &["1000"])).await.expect("started");
        assert!(host.processes() >= 2, "a zygote and a fork");
        host.crash();
        assert_eq!(running.sandbox.exited().await, Exit::Signal(9));
        host.start_again();
        let (out, ..) = run(&host, forked(&host, &["0"])).await;
        assert_eq!(out, "plain\n");
        until_forked(&host, &["0"]).await;
    });
}
