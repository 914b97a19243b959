//! What code in a container cannot do, and what it leaves when it is stopped: tried from inside.

use std::time::Duration;

use rouse_sandbox::{Driver, Error, Exit, Mount, Sandbox, Spec, container::Enforced};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

#[path = "support/host.rs"]
mod host;

use host::{Host, as_the_node, spec, text};

/// Runs a program of the sandbox and gives what it said and how it ended.
async fn run(host: &Host, spec: Spec) -> (String, Exit) {
    let started = host.driver().start(spec).await.expect("started");
    let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
    (out + &err, started.sandbox.exited().await)
}

fn python(code: &str) -> Spec {
    spec(&["/usr/bin/python3", "-c", code])
}

fn shell(code: &str) -> Spec {
    spec(&["/bin/sh", "-c", code])
}

/// Python code that says what each attempt came to: `name: ok` or `name: ERRNO`.
fn attempts(attempts: &str) -> Spec {
    let prelude = "
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args]) == -1:
        raise OSError(ctypes.get_errno(), '')
def attempt(name, act):
    try:
        act()
        print(name + ': ok')
    except OSError as e:
        print(name + ': ' + errno.errorcode.get(e.errno, str(e.errno)))
";
    python(&format!("{prelude}{attempts}"))
}

#[test]
fn the_hosts_files_cannot_be_seen() {
    let Some(host) = Host::new("the_hosts_files_cannot_be_seen") else { return };
    as_the_node(|| async {
        let code =
            "cat /etc/shadow; ls /root /home /sys /var /run /boot; ls / | tr '\\n' ' '; cat /etc/passwd";
        let (said, _) = run(&host, shell(code)).await;
        for path in ["/etc/shadow", "/root", "/home", "/sys", "/var", "/run", "/boot"] {
            assert!(
                said.lines().any(|line| line.contains(path) && line.contains("No such file")),
                "{path}: {said}"
            );
        }
        assert!(said.contains("sandbox:x:") && !said.contains("daemon"), "{said}");
        assert!(said.contains("bin dev etc lib"), "{said}");
    });
}

#[test]
fn it_sees_its_own_processes_alone() {
    let Some(host) = Host::new("it_sees_its_own_processes_alone") else { return };
    as_the_node(|| async {
        let list = "import os; print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), os.getpid(), os.uname().nodename)";
        let (said, _) = run(&host, python(list)).await;
        // Init, which is another user's, is invisible.
        assert_eq!(said.trim(), "[2] 2 sandbox");
    });
}

#[test]
fn it_has_no_network_but_its_loopback() {
    let Some(host) = Host::new("it_has_no_network_but_its_loopback") else { return };
    as_the_node(|| async {
        let (said, _) = run(
            &host,
            attempts(
                "
print([name for _, name in socket.if_nameindex()])
attempt('outside', lambda: socket.create_connection(('192.0.2.1', 80), 2))
attempt('nobody listens', lambda: socket.create_connection(('127.0.0.1', 9001), 2))
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))
attempt('netfilter', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
",
            ),
        )
        .await;
        let expected = "['lo']\noutside: ENETUNREACH\nnobody listens: ECONNREFUSED\nraw: EPERM\npacket: EPERM\nvsock: EPERM\nnetfilter: EPERM\n";
        assert_eq!(said, expected);
    });
}

#[test]
fn it_has_no_privileges_and_gets_none() {
    let Some(host) = Host::new("it_has_no_privileges_and_gets_none") else { return };
    as_the_node(|| async {
        let (said, _) = run(&host, attempts("
print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs', 'Seccomp:'))])
attempt('setuid', lambda: os.setuid(0))
attempt('setgroups', lambda: os.setgroups([0]))
attempt('chroot', lambda: os.chroot('/tmp'))
attempt('mount', lambda: call(165, b'none', b'/tmp', b'tmpfs', 0, 0))
attempt('unshare', lambda: call(272, 0x10000000))
attempt('clone into a user namespace', lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))
attempt('clone3', lambda: call(435, 0, 0))
attempt('ptrace', lambda: call(101, 0, 0, 0, 0))
attempt('bpf', lambda: call(321, 0, 0, 0))
attempt('keyctl', lambda: call(250, 0, 0))
attempt('io_uring', lambda: call(425, 1, 0))
attempt('perf', lambda: call(298, 0, 0, 0, 0, 0))
attempt('userfaultfd', lambda: call(323, 0))
attempt('x32', lambda: call(0x40000000 + 165, b'none', b'/tmp', b'tmpfs', 0, 0))
attempt('from the future', lambda: call(5000))
attempt('kill init', lambda: os.kill(1, 9))
attempt('write /usr', lambda: open('/usr/x', 'w'))
attempt('write /', lambda: open('/x', 'w'))
attempt('write /etc', lambda: open('/etc/passwd', 'a'))
attempt('add to /etc', lambda: open('/etc/x', 'w'))
attempt('write /dev', lambda: open('/dev/x', 'w'))
attempt('write /proc/sys', lambda: open('/proc/sys/kernel/core_pattern', 'w'))
attempt('make a device', lambda: os.mknod('/tmp/sda', 0o60600, os.makedev(8, 0)))
attempt('fork', lambda: os.waitpid(os.spawnv(os.P_NOWAIT, '/bin/true', ['true']), 0))
")).await;
        let expected = "['0000000000000000', '0000000000000000', '0000000000000000', '0000000000000000', '0000000000000000', '1', '2']
setuid: EPERM\nsetgroups: EPERM\nchroot: EPERM\nmount: EPERM\nunshare: EPERM
clone into a user namespace: EPERM\nclone3: ENOSYS\nptrace: EPERM\nbpf: EPERM\nkeyctl: EPERM\nio_uring: EPERM
perf: EPERM\nuserfaultfd: EPERM\nx32: ENOSYS\nfrom the future: ENOSYS\nkill init: EPERM
write /usr: EROFS\nwrite /: EROFS\nwrite /etc: EACCES\nadd to /etc: EROFS\nwrite /dev: EROFS\nwrite /proc/sys: EROFS
make a device: EPERM\nfork: ok\n";
        if cfg!(target_arch = "x86_64") {
            assert_eq!(said, expected);
        }
    });
}

#[test]
fn its_environment_and_its_files_are_exactly_what_the_spec_says() {
    let Some(host) = Host::new("its_environment_and_its_files_are_exactly_what_the_spec_says") else {
        return;
    };
    as_the_node(|| async {
        let code = "import os; print(dict(os.environb)); print(sorted(os.listdir('/proc/self/fd'))[:4]); print(os.getcwd())";
        let mut spec = python(code);
        spec.env = vec![("LC_ALL".into(), "C.UTF-8".into()), ("A".into(), "b=c".into())];
        spec.cwd = "/tmp".into();
        let (said, _) = run(&host, spec).await;
        // Descriptor 3 is the listing's own.
        assert_eq!(said, "{b'LC_ALL': b'C.UTF-8', b'A': b'b=c'}\n['0', '1', '2', '3']\n/tmp\n");
    });
}

#[test]
fn the_specs_folders_are_seen_read_only_and_only_those_of_the_spawners_roots() {
    let Some(host) = Host::new("the_specs_folders_are_seen_read_only") else { return };
    let code = host.code();
    std::fs::create_dir(code.join("app")).expect("a folder");
    std::fs::write(code.join("app/handler.py"), "answer = 42\n").expect("a file");
    std::os::unix::fs::symlink("/root", code.join("link")).expect("a link");
    as_the_node(|| async {
        let mount = |source: &str| Mount { source: code.join(source), target: "/var/task".into() };
        let mut spec = shell("cat /var/task/handler.py; echo x > /var/task/x");
        spec.mounts = vec![mount("app")];
        let (said, _) = run(&host, spec.clone()).await;
        assert!(said.starts_with("answer = 42\n") && said.contains("Read-only file system"), "{said}");
        for source in ["/etc", "/root", "../code/../..", "link", "missing"] {
            spec.mounts = vec![mount(source)];
            let refused = host.driver().start(spec.clone()).await.expect_err("it must not be shown");
            assert!(matches!(refused, Error::Spec(_)), "{source}: {refused}");
        }
    });
}

#[test]
fn its_limits_are_its_own_and_it_goes_first() {
    let Some(host) = Host::new("its_limits_are_its_own_and_it_goes_first") else { return };
    as_the_node(|| async {
        let (said, _) =
            run(&host, shell("ulimit -Hn; ulimit -Sn; ulimit -Hc; umask; cat /proc/self/oom_score_adj"))
                .await;
        assert_eq!(said, "256\n256\n0\n0022\n500\n");
    });
}

#[test]
fn memory_over_the_limit_ends_it() {
    let Some(host) = Host::new("memory_over_the_limit_ends_it") else { return };
    as_the_node(|| async {
        if host.driver().report().await.expect("a report").memory == Enforced::No {
            return host::skipped("memory_over_the_limit_ends_it", "no memory controller");
        }
        let started = host.driver().start(python("x = b'x' * (512 << 20)")).await.expect("started");
        assert_eq!(started.sandbox.exited().await, Exit::OutOfMemory);
        let peak = started.sandbox.stats().memory_peak_bytes;
        assert!((64 << 20..=128 << 20).contains(&peak), "{peak}");
    });
}

#[test]
fn processes_without_end_come_to_one() {
    let Some(host) = Host::new("processes_without_end_come_to_one") else { return };
    as_the_node(|| async {
        let bomb = "
import os, time
made = 0
while True:
    try:
        if os.fork() == 0: time.sleep(60)
        made += 1
    except BlockingIOError:
        print(made)
        break
";
        let (said, exit) = run(
            &host,
            Spec { limits: rouse_sandbox::Limits { processes: 16, ..shell("").limits }, ..python(bomb) },
        )
        .await;
        // The outputs end although children hold them: the end of the first process ended them all.
        assert_eq!((said.trim(), exit), ("15", Exit::Code(0)));
    });
}

#[test]
fn tmp_is_its_own_and_full_at_its_limit() {
    let Some(host) = Host::new("tmp_is_its_own_and_full_at_its_limit") else { return };
    as_the_node(|| async {
        let fill =
            "ls -A /tmp; head -c 8m /dev/zero > /tmp/a; stat -c %s /tmp/a; head -c 4k /dev/zero > /dev/shm/b";
        for _ in 0..2 {
            let (said, _) = run(&host, shell(fill)).await;
            assert!(said.starts_with("4194304\n") && said.matches("No space left").count() == 2, "{said}");
        }
    });
}

#[test]
fn cpu_time_is_limited() {
    let Some(host) = Host::new("cpu_time_is_limited") else { return };
    as_the_node(|| async {
        if host.driver().report().await.expect("a report").cpu == Enforced::No {
            return host::skipped("cpu_time_is_limited", "no cpu controller");
        }
        let mut spec = shell("while :; do :; done");
        spec.limits.cpu_millis = 100;
        let begun = std::time::Instant::now();
        let started = host.driver().start(spec).await.expect("started");
        sleep(Duration::from_secs(1)).await;
        started.sandbox.kill();
        started.sandbox.exited().await;
        // A tenth of the time, and a period's quota at the edge; however late this machine is.
        let most = begun.elapsed().as_micros() / 10 + 20_000;
        assert!(
            u128::from(started.sandbox.stats().cpu_us) <= most,
            "{:?} of {most}",
            started.sandbox.stats()
        );
    });
}

#[test]
fn a_flood_of_output_blocks_its_writer_and_nobody_else() {
    let Some(host) = Host::new("a_flood_of_output_blocks_its_writer_and_nobody_else") else { return };
    as_the_node(|| async {
        let flood = host.driver().start(spec(&["/usr/bin/yes"])).await.expect("started");
        let (said, _) = run(&host, shell("echo hello")).await;
        assert_eq!(said, "hello\n");
        // Once the pipe is full it uses no more CPU time: it waits for its reader.
        loop {
            let before = flood.sandbox.stats().cpu_us;
            sleep(Duration::from_millis(100)).await;
            if before > 0 && flood.sandbox.stats().cpu_us == before {
                break;
            }
        }
        let mut stdout = flood.stdout;
        assert_ne!(stdout.read(&mut [0; 4_096]).await.expect("read"), 0);
        flood.sandbox.kill();
        assert_eq!(flood.sandbox.exited().await, Exit::Signal(9));
    });
}

#[test]
fn orphans_are_reaped_and_signals_are_told() {
    let Some(host) = Host::new("orphans_are_reaped_and_signals_are_told") else { return };
    as_the_node(|| async {
        let code = "
import os, time
def fork():
    while True:
        try:
            return os.fork()
        except BlockingIOError:
            time.sleep(0.01) # Until init has reaped some.
for _ in range(64):
    pid = fork()
    if pid == 0:
        fork()
        os._exit(0)
    os.waitpid(pid, 0)
os.kill(os.getpid(), 15)
";
        // More orphans than processes are allowed: as zombies they would count, and this would never end.
        let (said, exit) = run(&host, python(code)).await;
        assert_eq!((said.as_str(), exit), ("", Exit::Signal(15)));
    });
}

#[test]
fn a_killed_spawner_takes_its_sandboxes_along_and_the_next_cleans_up() {
    let Some(mut host) = Host::new("a_killed_spawner_takes_its_sandboxes_along") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let driver = host.driver();
    let mut started = Vec::new();
    for _ in 0..3 {
        started.push(runtime.block_on(driver.start(shell("sleep 1000 & sleep 1000"))).expect("started"));
    }
    runtime.block_on(started[0].sandbox.freeze()).expect("frozen");
    assert_ne!(host.processes(), 0);
    host.crash();
    for one in &started {
        assert_eq!(runtime.block_on(one.sandbox.exited()), Exit::Signal(9));
    }
    assert_ne!(host.groups().len(), 0, "this test tests nothing if nothing is left");
    host.start_again();
    // The same driver finds the new spawner.
    runtime.block_on(async {
        let (said, exit) = run(&host, shell("echo again")).await;
        assert_eq!((said.as_str(), exit), ("again\n", Exit::Code(0)));
    });
    assert_eq!(host.groups().len(), 0);
    assert_eq!(host.processes(), 0);
}

#[test]
fn an_id_that_lives_is_refused_and_free_again_afterwards() {
    let Some(host) = Host::new("an_id_that_lives_is_refused_and_free_again_afterwards") else { return };
    as_the_node(|| async {
        let spec = shell("sleep 1000");
        let first = host.driver().start(spec.clone()).await.expect("started");
        let refused = host.driver().start(spec.clone()).await.expect_err("it lives");
        assert!(refused.to_string().contains("lives already"), "{refused}");
        first.sandbox.kill();
        first.sandbox.exited().await;
        host.driver().start(spec).await.expect("started");
    });
}

#[test]
fn a_spec_over_the_size_of_a_message_is_refused() {
    let Some(host) = Host::new("a_spec_over_the_size_of_a_message_is_refused") else { return };
    as_the_node(|| async {
        let mut spec = shell("true");
        spec.env = vec![("A".into(), "x".repeat(1 << 20))];
        let refused = host.driver().start(spec).await.expect_err("too large");
        assert!(matches!(refused, Error::Spec(_)), "{refused}");
    });
}

#[test]
fn a_spawner_that_is_not_there_is_reported_within_bounds() {
    host::block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let driver = rouse_sandbox::container::ContainerDriver::new(&folder.path().join("none.sock"));
        let refused = driver.start(shell("true")).await.expect_err("nobody is there");
        assert!(matches!(refused, Error::Spawner(_)), "{refused}");
    });
}

#[test]
fn code_reaches_listeners_at_other_addresses_and_asks_the_resolver() {
    let Some(host) = Host::new("code_reaches_listeners_at_other_addresses_and_asks_the_resolver") else {
        return;
    };
    as_the_node(|| async {
        let address = |text: &str| text.parse().expect("an address");
        let code = "
import socket
for place in [('192.0.2.7', 5432), ('127.9.9.9', 443), ('2001:db8::7', 80)]:
    with socket.create_connection(place, 20) as connection:
        print(connection.recv(16).decode())
try:
    socket.getaddrinfo('api.example.com', 443)
except OSError as error:
    print('refused:', error.errno == socket.EAI_NONAME)
print(open('/etc/resolv.conf').read().strip())
";
        let spec = Spec {
            listeners: vec![address("192.0.2.7:5432"), address("0.0.0.0:443"), address("[2001:db8::7]:80")],
            resolver: "127.0.0.53".parse().ok(),
            ..python(code)
        };
        let mut started = host.driver().start(spec).await.expect("started");
        let resolver = started.resolver.take().expect("the resolver's socket");
        let answering = async {
            for (listener, word) in started.listeners.iter_mut().zip(["db", "name", "v6"]) {
                let mut stream = listener.accept().await.expect("dialled");
                stream.write_all(word.as_bytes()).await.expect("written");
            }
            let mut query = [0; 512];
            loop {
                let (length, asker) = resolver.recv_from(&mut query).await.expect("asked");
                // An answer without records that says the name is not there: RFC 1035 §4.1.1.
                query[2] |= 0x80;
                query[3] = 3;
                resolver.send_to(&query[..length], asker).await.expect("answered");
            }
        };
        let (said, error) = tokio::select! {
            () = answering => unreachable!("it answers without end"),
            said = async { tokio::join!(text(started.stdout), text(started.stderr)) } => said,
        };
        assert_eq!(
            (said.as_str(), error.as_str()),
            ("db\nname\nv6\nrefused: True\nnameserver 127.0.0.53\n", "")
        );
    });
}
