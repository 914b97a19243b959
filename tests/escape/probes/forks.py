"""What a zygote leaves to its forks, and what they are to each other: probes of the group `tenants`.

In a fork they look for its zygote and its siblings. Elsewhere there are none: then what is found is whoever else is
there, and in the control what a zygote holds is opened first, which shows that the probe would find it."""

import ctypes
import fcntl
import mmap
import os
import socket
import stat

from probe import CONTROL, NUMBERS, Absent, call, numbered, probe, way

NAMESPACES = {
    "user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000,
    "cgroup": 0x2000000,
}
PTRACE_SEIZE = 0x4206
#: A zygote's processes have small numbers, and so have those of forks.
NUMBERS_TRIED = 300


def strangers(act):
    """The processes with which it got on, of all but the probe, its way and init, which the group `processes` tries."""
    own, got = (os.getpid(), os.getppid()), []
    for pid in range(2, NUMBERS_TRIED):
        if pid not in own:
            try:
                act(pid)
                got.append(pid)
            except OSError:
                pass
    return got


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def address(name):
    """Where something begins in this process, which in a zygote and all its forks is the same place."""
    with open("/proc/self/maps") as maps:
        return next(int(line.split("-")[0], 16) for line in maps if name in line)


@probe("reach its zygote and its siblings by number", neighbour=True)
def numbers():
    way("signal", lambda: strangers(lambda pid: os.kill(pid, 0)))
    way("open", lambda: strangers(os.pidfd_open))
    way("ask for the session", lambda: strangers(os.getsid))
    way("trace", lambda: strangers(lambda pid: call("ptrace", PTRACE_SEIZE, pid, 0, 0)))
    way("arguments", lambda: strangers(lambda pid: open(f"/proc/{pid}/cmdline").close()))


@probe("read and write its zygote's memory and that of its siblings, at the addresses that it knows", neighbour=True)
def same_addresses():
    libc = address("libc")
    buffer = ctypes.create_string_buffer(4)
    mine = Vector(ctypes.addressof(buffer), 4)

    def peek(name, pid):
        # In the control the others have layouts of their own.
        first = libc
        if CONTROL:
            with open(f"/proc/{pid}/maps") as maps:
                first = int(maps.readline().split("-")[0], 16)
        theirs = Vector(first, 4)
        return call(name, pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)

    def opened(pid, flags):
        os.close(os.open(f"/proc/{pid}/mem", flags))

    way("process_vm_readv", lambda: strangers(lambda pid: peek("process_vm_readv", pid)))
    way("read by /proc", lambda: strangers(lambda pid: opened(pid, os.O_RDONLY)))
    way("write by /proc", lambda: strangers(lambda pid: opened(pid, os.O_RDWR)))
    way("the layout", lambda: strangers(lambda pid: open(f"/proc/{pid}/maps").read(1) or call("kill", 0x7FFFFFFF, 0)))


@probe("stay in its zygote's session and group of processes")
def session():
    # What is not of its own namespace of processes has no number there.
    way("session", lambda: os.getsid(0) == 0)
    way("group", lambda: os.getpgid(0) == 0)

    def parent():
        # Of the probe, not of the way.
        with open(f"/proc/{os.getppid()}/stat") as file:
            number = int(file.read().rpartition(")")[2].split()[1])
        return number and [os.kill(number, 0)]

    way("its parent", parent)


def held(kind):
    """The descriptors that are `kind`, by what they lead to."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if kind(int(fd), link):
            found[int(fd)] = link
    return found


@probe("use what its zygote was handed: its socket, namespaces, and entrances of control groups", control="leaks")
def handed():
    kept = []
    if CONTROL:
        kept = [*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), os.open("/proc/self/ns/net", os.O_RDONLY)]
        kept.append(os.open("/proc/self/oom_score_adj", os.O_WRONLY))

    def is_namespace(_, link):
        return any(link.startswith(f"{name}:[") for name in NAMESPACES)

    def is_socket(fd, _):
        return stat.S_ISSOCK(os.fstat(fd).st_mode)

    def is_written(fd, link):
        # A group's entrance is a file of the kernel's that is open for writing.
        return fd > 2 and link.startswith("/") and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY

    way("namespaces", lambda: held(is_namespace))
    way("sockets", lambda: held(is_socket))
    way("entrances", lambda: held(is_written))
    way("speak as a fork that waits", lambda: [os.write(fd, b"waiting") for fd in held(is_socket)])
    way("speak as its zygote", lambda: [call("sendto", 3, b"ready", 5, 0x4000, None, 0)] if not CONTROL else kept[0].send(b"ready"))

    def entered():
        # As root this is refused for nothing but what is wrong with the descriptor.
        return [call("setns", fd, 0) for fd in held(is_namespace)]

    way("enter them", entered)


@probe("share memory with its zygote and its siblings")
def shared_memory():
    shared = mmap.mmap(-1, 4096) if CONTROL else None

    def mappings():
        # Files that all may read are mapped for reading alone.
        with open("/proc/self/maps") as maps:
            return [line for line in maps if "w" in line.split()[1] and line.split()[1].endswith("s")]

    way("mapped", mappings)
    del shared


@probe("enter namespaces as its zygote could")
def setns():
    for name, flag in NAMESPACES.items():
        def enter(name=name, flag=flag):
            return call("setns", os.open(f"/proc/self/ns/{name}", os.O_RDONLY), flag)

        way(name, enter, taken=True)
    way("none in particular", lambda: call("setns", 9999, 0), taken=True)

    def other_abi():
        if os.uname().machine != "x86_64":
            raise Absent("this machine has no x32")
        return numbered(0x40000000 | NUMBERS["setns"], 9999, 0)

    way("by the number of x32", other_abi, taken=True)
    # ioctl_ns(2): the user namespace to which one of its own belongs, and the one above.
    NS_GET_USERNS, NS_GET_PARENT = 0xB701, 0xB702

    def related(request, name):
        fd = fcntl.ioctl(os.open(f"/proc/self/ns/{name}", os.O_RDONLY), request)
        return call("setns", fd, 0)

    way("the owner of its network", lambda: related(NS_GET_USERNS, "net"), taken=True)
    # The host's has none above: EPERM there too.
    if not CONTROL:
        way("the one above its own", lambda: related(NS_GET_PARENT, "user"), taken=True)
        way("the processes above its own", lambda: related(NS_GET_PARENT, "pid"), taken=True)


@probe("take back the powers that its zygote had in its user namespace")
def powers():
    def status(name):
        with open("/proc/self/status") as file:
            return next(line.split()[1] for line in file if line.startswith(name + ":"))

    for name in ("CapPrm", "CapEff", "CapBnd"):
        way(name, lambda name=name: int(status(name), 16))
    way("no_new_privs", lambda: status("NoNewPrivs") == "0")

    def raise_capability(number):
        # `capset(2)`, version 3: permitted, and effective.
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        return call("capset", header, (ctypes.c_uint32 * 6)(*[1 << number] * 2, 0, 0, 0, 0))

    for name, number in {"SETPCAP": 8, "SYS_CHROOT": 18, "SYS_ADMIN": 21}.items():
        way(name, lambda number=number: raise_capability(number))
    way("be root in it", lambda: [os.setuid(0)])
