//! What a sandbox may use: each limit is met from inside, and what control groups hold is read from them outside.

#[path = "support/host.rs"]
mod host;

use std::{collections::BTreeSet, time::Duration};

use host::{Host, as_the_node, skipped, spec, text};
use rouse_sandbox::{Driver, Exit, Limits, Sandbox, Spec, container::Enforced};
use tokio::time::sleep;

async fn run(host: &Host, spec: Spec) -> (String, Exit) {
    let started = host.driver().start(spec).await.expect("started");
    let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
    (out + &err, started.sandbox.exited().await)
}

fn python(code: &str, limit: impl FnOnce(&mut Limits)) -> Spec {
    let mut spec = spec(&["/usr/bin/python3", "-S", "-c", code]);
    limit(&mut spec.limits);
    spec
}

#[test]
fn want_of_memory_is_told_with_its_peak_whoever_of_its_processes_wants_it() {
    const TEST: &str = "want_of_memory_is_told_with_its_peak_whoever_of_its_processes_wants_it";
    let Some(host) = Host::new(TEST) else { return };
    as_the_node(async || {
        if host.driver().report().await.expect("a report").memory == Enforced::No {
            return skipped(TEST, "no memory controller");
        }
        let itself = "x = bytearray(b'x') * (512 << 20)";
        let child = "import os\npid = os.fork()\nif pid == 0: x = bytearray(b'x') * (512 << 20)\nos.wait()\nraise SystemExit(3)";
        let shared =
            "import mmap\nm = mmap.mmap(-1, 512 << 20)\nfor at in range(0, 512 << 20, 4096): m[at] = 1";
        let files = "f = open('/tmp/f', 'wb')\nwhile True: f.write(bytes(1 << 20))";
        for (what, code) in [("itself", itself), ("a child", child), ("shared", shared), ("files", files)] {
            let spec = python(code, |limits| {
                limits.memory_bytes = 64 << 20;
                limits.tmp_bytes = 1 << 30;
            });
            let started = host.driver().start(spec).await.expect("started");
            assert_eq!(started.sandbox.exited().await, Exit::OutOfMemory, "{what}");
            let peak = started.sandbox.stats().memory_peak_bytes;
            assert!((48 << 20..=64 << 20).contains(&peak), "{what}: {peak}");
        }
    });
}

/// What this file says in each group of this host's sandboxes that has it.
fn of_groups(host: &Host, file: &str) -> BTreeSet<u64> {
    let texts = host.groups().into_iter().filter_map(|group| std::fs::read_to_string(group.join(file)).ok());
    texts.filter_map(|text| text.split_whitespace().next()?.parse().ok()).collect()
}

#[test]
fn cpu_time_is_shared_in_proportion() {
    const TEST: &str = "cpu_time_is_shared_in_proportion";
    let Some(host) = Host::new(TEST) else { return };
    as_the_node(async || {
        if host.driver().report().await.expect("a report").cpu == Enforced::No {
            return skipped(TEST, "no cpu controller");
        }
        let busy = |millis| python("while True: pass", |limits| limits.cpu_millis = millis);
        let small = host.driver().start(busy(200)).await.expect("started");
        let large = host.driver().start(busy(800)).await.expect("started");
        // Where it is short they are weighed, and each has a quota.
        let (shares, weights) = (of_groups(&host, "cpu.shares"), of_groups(&host, "cpu.weight"));
        assert!(shares == [204, 819].into() || weights == [20, 80].into(), "{shares:?} {weights:?}");
        let (old, new) = (of_groups(&host, "cpu.cfs_quota_us"), of_groups(&host, "cpu.max"));
        let quotas = if old.is_empty() { new } else { old };
        let quotas: Vec<u64> = quotas.into_iter().collect();
        assert!(quotas.len() == 2 && quotas[1] == 4 * quotas[0], "{quotas:?}");
        // However busy the machine is, the large one gets clearly more.
        while large.sandbox.stats().cpu_us < 2_000_000 {
            sleep(Duration::from_millis(50)).await;
        }
        let [few, many] = [&small, &large].map(|one| one.sandbox.stats().cpu_us);
        assert!(many > few * 3 / 2 && many < few * 20, "{few} and {many}");
        for one in [small, large] {
            one.sandbox.kill();
            one.sandbox.exited().await;
        }
    });
}

#[test]
fn files_can_be_written_in_tmp_alone_up_to_its_size_and_their_number() {
    let Some(host) = Host::new("files_can_be_written_in_tmp_alone_up_to_its_size_and_their_number") else {
        return;
    };
    as_the_node(async || {
        // Every folder that it sees is tried.
        let write = "
import errno, os
written, refused = set(), set()
for folder, folders, _ in os.walk('/'):
    if folder in ('/proc', '/tmp'):
        folders.clear()
    try:
        with open(folder + '/new', 'wb') as file: file.write(b'x')
        written.add(folder)
    except OSError as error:
        refused.add(errno.errorcode[error.errno])
print(sorted(written), sorted(refused - {'EACCES', 'ENOENT'}))
";
        let (said, _) = run(&host, python(write, |_| ())).await;
        assert_eq!(said, "['/tmp'] ['EROFS']\n");
        let files = "
import os
made = 0
try:
    while True:
        open(f'/tmp/{made}', 'wb').close()
        made += 1
except OSError as error:
    print(error.strerror, made)
about = os.statvfs('/tmp')
print(about.f_blocks * about.f_frsize, about.f_files)
";
        let (said, _) = run(&host, python(files, |limits| limits.tmp_bytes = 4 << 20)).await;
        // One for each page that fits; the folder itself is one.
        assert_eq!(said, "No space left on device 1023\n4194304 1024\n");
        let holes = "
import os
with open('/tmp/a', 'wb') as file:
    file.truncate(1 << 40)
    try:
        os.posix_fallocate(file.fileno(), 0, 8 << 20)
    except OSError as error:
        print(error.strerror)
";
        let (said, _) = run(&host, python(holes, |limits| limits.tmp_bytes = 4 << 20)).await;
        assert_eq!(said, "No space left on device\n");
    });
}

#[test]
fn open_files_are_bounded_in_each_process() {
    let Some(host) = Host::new("open_files_are_bounded_in_each_process") else { return };
    as_the_node(async || {
        let open = "
import os, resource
def most():
    held = []
    try:
        while True: held.append(os.open('/dev/null', os.O_RDONLY))
    except OSError as error:
        said = f'{error.strerror} {len(held) + 3}'
    for one in held: os.close(one)
    return said
print(most(), flush=True)
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
except ValueError as error:
    print('not raised', flush=True)
if os.fork() == 0:
    print(most(), flush=True)
    os._exit(0)
os.wait()
";
        let (said, _) = run(&host, python(open, |limits| limits.open_files = 64)).await;
        assert_eq!(said, "Too many open files 64\nnot raised\nToo many open files 64\n");
    });
}
