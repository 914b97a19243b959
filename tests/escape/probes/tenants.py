"""Other tenants' sandboxes on the same host. The other one is `victim.py`; the control is in its namespaces. For a probe
in a fork there are two more of them: one is its sibling, one is of another family."""

import ctypes
import fcntl
import os
import signal
import socket
import time

import forks as _forks  # Its probes are of this group.
from probe import CANARY, LIBC, call, library, probe, way

SECRET = "secret-of-" + CANARY
KEY = int(CANARY[:7] or "0", 16)
PORT = int(os.environ.get("VICTIM_PORT", "0"))


def others():
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (os.getpid(), os.getppid())]


@probe("find a neighbour's files in /tmp and shared memory", neighbour=True)
def files():
    way("/tmp", lambda: open(f"/tmp/{CANARY}").read())
    way("/var/tmp", lambda: open(f"/var/tmp/../../tmp/{CANARY}").read())

    def anywhere():
        found = [os.path.join(top, name) for root in ["/tmp", "/dev/shm"] for top, _, names in os.walk(root) for name in names]
        return [path for path in found if CANARY in path]

    way("by name, anywhere", anywhere)


@probe("read a neighbour's environment, arguments and memory", neighbour=True)
def insides():
    def search(name, mark):
        found = []
        for pid in others():
            with open(f"/proc/{pid}/{name}", "rb") as file:
                if mark in file.read():
                    found.append(pid)
        return found

    way("arguments", lambda: search("cmdline", b"victim"))
    way("environment", lambda: search("environ", CANARY.encode()))

    def memory():
        for pid in others():
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
                for line in maps:
                    first, last = (int(part, 16) for part in line.split()[0].split("-"))
                    if "rw" not in line or last - first > 1 << 24:
                        continue
                    mem.seek(first)
                    try:
                        if SECRET.encode() in mem.read(last - first):
                            return "the secret"
                    except OSError:
                        continue
        return None

    way("memory", memory)
    way("its files by its root", lambda: [pid for pid in others() if os.path.exists(f"/proc/{pid}/root/tmp/{CANARY}")])


@probe("reach a neighbour's sockets", neighbour=True)
def sockets():
    def tcp(address):
        with socket.create_connection((address, PORT), 3) as client:
            return client.recv(100)

    def abstract():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\0" + CANARY)
            return client.recv(100)

    way("on the loopback", lambda: tcp("127.0.0.1"))
    way("on any address", lambda: tcp("0.0.0.0"))
    way("an abstract one", abstract)


@probe("share System V memory, queues and semaphores with a neighbour", neighbour=True)
def system_v():
    def memory():
        LIBC.shmat.restype = ctypes.c_void_p
        segment = library("shmget", KEY, 0, 0)
        return ctypes.string_at(LIBC.shmat(segment, None, 0o10000), len(SECRET))

    def by_number():
        # Numbers are small, and begin anew in each namespace.
        LIBC.shmat.restype = ctypes.c_void_p
        for number in range(64):
            address = LIBC.shmat(number, None, 0o10000)
            if address not in (None, ctypes.c_void_p(-1).value):
                return ctypes.string_at(address, len(SECRET))
        return None

    way("memory by its key", memory)
    way("memory by number", by_number)
    way("a queue", lambda: [library("msgget", KEY, 0)])
    way("a semaphore", lambda: [library("semget", KEY, 0, 0)])

    def listed():
        with open("/proc/sysvipc/shm") as file:
            return file.readlines()[1:]

    way("the list of them", listed)


@probe("share POSIX message queues with a neighbour", neighbour=True)
def posix_queues():
    def receive():
        queue = library("mq_open", b"/" + CANARY.encode(), 0)
        buffer = ctypes.create_string_buffer(65536)
        length = library("mq_receive", queue, buffer, 65536, None)
        return buffer.raw[:length]

    way("read one", receive)


@probe("find a neighbour's keys", neighbour=True)
def keys():
    def search(keyring):
        return [call("keyctl", 10, keyring, b"user", CANARY.encode(), 0)]

    way("in the user's keyring", lambda: search(-4))

    def listed():
        with open("/proc/keys") as file:
            return [line for line in file if CANARY in line]

    way("in the list of them", listed)


@probe("signal a neighbour", neighbour=True)
def signals():
    way("each that it can see", lambda: [os.kill(int(pid), 0) for pid in others()])
    # The probe itself is among them.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    def everybody():
        library("kill", -1, signal.SIGUSR2)
        for _ in range(20):
            if os.path.exists("/tmp/signalled"):
                return "it was told"
            time.sleep(0.05)
        # In a sandbox of its own the neighbour is asked when the probe has ended.
        return False

    way("everybody", everybody)


@probe("wake or end a neighbour that is frozen", frozen=True, control="none: nothing is frozen there",
       runc="none: nothing is frozen there")
def frozen():
    def numbers(act):
        reached = []
        for pid in range(3, 2000):
            if pid not in (os.getpid(), os.getppid()):
                try:
                    act(pid)
                    reached.append(pid)
                except OSError:
                    pass
        return reached

    way("continue it", lambda: numbers(lambda pid: os.kill(pid, signal.SIGCONT)))
    way("end it", lambda: numbers(lambda pid: os.kill(pid, signal.SIGKILL)))
    way("open it", lambda: numbers(os.pidfd_open))

    def thaw():
        with open("/proc/self/mountinfo") as file:
            points = [line.split(" ")[4] for line in file if " - cgroup" in line]
        for point in points or ["/sys/fs/cgroup"]:
            for top, _, names in os.walk(point):
                if "cgroup.freeze" in names or "freezer.state" in names:
                    return top
        return None

    way("thaw its group", thaw)


@probe("be told when neighbours read files that all of them see")
def watched_files():
    def inotify(mask):
        fd = call("inotify_init1", 0)
        return call("inotify_add_watch", fd, b"/usr/bin/python3", mask)

    for name, mask in [("opened", 0x20), ("read", 1), ("closed", 0x10), ("anything", 0xFFF)]:
        way(name, lambda mask=mask: inotify(mask))
    # F_NOTIFY, DN_ACCESS: the older way, of folders. Being told, by SIGIO, would end this process.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    way("by the older way", lambda: [fcntl.fcntl(os.open("/usr/bin", os.O_RDONLY), 1026, 1)])
    way("by a lease", lambda: [fcntl.fcntl(os.open("/usr/bin/true", os.O_RDONLY), 1024, fcntl.F_RDLCK)])


@probe("see which files of the host its neighbours use, by what is in the page cache", lacks="EINVAL EBADF")
def page_cache():
    def cachestat():
        fd = os.open("/usr/bin/python3", os.O_RDONLY)
        answer = (ctypes.c_uint64 * 5)()
        from probe import numbered
        numbered(451, fd, (ctypes.c_uint64 * 2)(0, 0), answer, 0)
        return answer[0]

    way("cachestat", cachestat)

    def mincore():
        # Whoever may not write a file is told that all of it is there, whatever is: a page of a file that was never
        # read must not tell.
        LIBC.mmap.restype = ctypes.c_void_p
        LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        fd = os.open("cold", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(fd).st_size
        at = LIBC.mmap(None, size, 1, 1, fd, 0)
        told = ctypes.create_string_buffer(size // 4096)
        call("mincore", at, size, told)
        return b"\0" in told.raw[:-1]

    way("mincore", mincore)
