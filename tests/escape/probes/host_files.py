"""Files of the host: those that hold secrets, and those that steer the kernel."""

import os
import resource
import stat

from probe import CONTROL, Absent, call, opens, probe, read, way, writable

STATE = os.environ.get("HOST_STATE", "")


@probe("read the password hashes of the host")
def password_hashes():
    way("/etc/shadow", lambda: read("/etc/shadow"))
    way("/etc/shadow from the code's folder", lambda: read("../../../../../../etc/shadow"))


@probe("look into the host's own folders", lacks="ENOENT")
def folders():
    for path in ["/root", "/home", "/boot", "/run", "/var/log", "/var/lib", "/srv", "/mnt", "/media", "/sys/kernel"]:
        way(path, lambda path=path: ["seen", *os.listdir(path)])


@probe("read the platform's state folder and the code of other functions", control="host")
def state_folder():
    way("the state folder", lambda: os.listdir(STATE))
    way("another function's code", lambda: read(f"{STATE}/code/other/handler.py"))
    way("the spawner's socket", lambda: os.stat(f"{STATE}/spawner.sock"))


@probe("reach the code of other functions from beside its own", control="none: it stands in its folder by itself there")
def beside_the_code():
    way("..", lambda: [name for name in os.listdir("..") if name not in ("task", "runtime")])
    way("../other", lambda: read("../other/handler.py"))
    way("/proc/self/cwd/../other", lambda: read("/proc/self/cwd/../other/handler.py"))


@probe("walk to the host's root through /proc")
def proc_root():
    for link in ["1/root", "1/cwd/../../..", "self/root", "thread-self/root/..", "self/task/../../1/root"]:
        way(f"/proc/{link}", lambda link=link: read(f"/proc/{link}/etc/shadow"))


@probe("read the insides of init", runc="none: it is init itself there")
def init_insides():
    for name in ["environ", "maps", "mem", "auxv", "stack", "syscall", "pagemap"]:
        way(f"/proc/1/{name}", lambda name=name: opens(f"/proc/1/{name}"))
    way("/proc/1/fd", lambda: os.listdir("/proc/1/fd"))
    way("/proc/1/map_files", lambda: os.listdir("/proc/1/map_files"))


@probe("read the memory of the kernel", lacks="ENOENT ENXIO")
def kernel_memory():
    for path in ["/proc/kcore", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/dev/mem", "/dev/port"]:
        way(path, lambda path=path: opens(path))


@probe("learn where the kernel and its pages lie in memory", lacks="ENOENT")
def kernel_addresses():
    def addresses(path, field):
        with open(path) as file:
            return [line for line in file if int(line.split()[field].removeprefix("0x"), 16)][:1]

    def frame():
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            file.seek(id(frame) // os.sysconf("SC_PAGE_SIZE") * 8)
            return int.from_bytes(file.read(8), "little") & ((1 << 55) - 1)

    way("/proc/kallsyms", lambda: addresses("/proc/kallsyms", 0))
    way("/proc/modules", lambda: addresses("/proc/modules", 5))
    way("/proc/self/pagemap", frame)


@probe("read what /proc tells of the whole host", lacks="ENOENT")
def proc_tells():
    names = ["keys", "key-users", "timer_list", "sched_debug", "latency_stats", "slabinfo", "vmallocinfo",
             "pagetypeinfo", "interrupts"]
    for name in names:
        way(f"/proc/{name}", lambda name=name: read(f"/proc/{name}"))

    def addresses():
        # Everybody sees the lines; the addresses are what counts.
        return [line for line in read("/proc/iomem", 4096).split(b"\n") if line[:8].strip(b"0- ")]

    way("/proc/iomem", addresses)
    for name in ["acpi", "scsi", "asound"]:
        def inside(name=name):
            if CONTROL and not os.listdir(f"/proc/{name}"):
                raise Absent(f"this machine's {name} is empty")
            return os.listdir(f"/proc/{name}")

        way(f"/proc/{name}", inside)


@probe("write to /sys", lacks="ENOENT")
def sys_writes():
    for path in ["kernel/uevent_helper", "kernel/mm/transparent_hugepage/enabled", "power/state", "kernel/profiling",
                 "block/vda/queue/scheduler", "module/printk/parameters/time"]:
        way(f"/sys/{path}", lambda path=path: writable(f"/sys/{path}"))


@probe("write to /proc/sys and the rest of /proc that steers the kernel", lacks="ENOENT")
def proc_writes():
    for path in ["sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/kernel/hotplug", "sys/kernel/hostname",
                 "sys/kernel/randomize_va_space", "sys/kernel/ns_last_pid", "sys/vm/overcommit_memory",
                 "sys/vm/panic_on_oom", "sys/fs/suid_dumpable", "sys/fs/binfmt_misc/register",
                 "sys/net/ipv4/ip_forward", "sys/net/ipv4/ip_unprivileged_port_start", "irq/default_smp_affinity",
                 "mtrr", "fs/nfsd/versions"]:
        way(f"/proc/{path}", lambda path=path: writable(f"/proc/{path}"))


@probe("reach the magic system request key", lacks="ENOENT")
def sysrq():
    # Opened only: a letter written there would act at once.
    way("/proc/sysrq-trigger", lambda: writable("/proc/sysrq-trigger"))
    way("/proc/sys/kernel/sysrq", lambda: writable("/proc/sys/kernel/sysrq"))


@probe("have the host run a program by way of a control group's release_agent", lacks="ENOENT")
def release_agent():
    for name in ["release_agent", "notify_on_release", "cgroup.procs", "tasks", "devices.allow"]:
        def seen(name=name):
            with open("/proc/self/mountinfo") as file:
                points = [line.split(" ")[4] for line in file if " - cgroup" in line]
            paths = [path for path in (os.path.join(point, name) for point in points) if os.path.exists(path)]
            if not paths:
                raise FileNotFoundError(2, name)
            return writable(paths[0])

        way(name, seen)
    os.makedirs("/tmp/groups", exist_ok=True)
    way("mount version 2", lambda: call("mount", b"none", b"/tmp/groups", b"cgroup2", 0, None))
    way("mount version 1", lambda: call("mount", b"none", b"/tmp/groups", b"cgroup", 0, b"pids"))


@probe("leave a core file, which the host's handler would be given", lacks="EPERM")
def core_files():
    def limit(size):
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (size, size))
        except ValueError:
            raise PermissionError(1, "setrlimit") from None
        return True

    way("a higher limit", lambda: limit(1 << 20))
    # A handler that is a pipe is started whatever the limit is, but for one of a single byte.
    way("a limit that handlers do not heed", lambda: limit(0))

    def own():
        limit = resource.getrlimit(resource.RLIMIT_CORE)[0]
        if limit == 0:
            raise Absent("the host itself allows none, and this one cannot be raised to a byte")
        return limit != 1

    way("the limit that it has", own)


def device(kind, major, minor):
    path = f"/tmp/device-{major}-{minor}"
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return ["opened", fd]


@probe("make a device node of its own and read the host's disk", lacks="ENXIO ENODEV ENOENT EPERM")
def made_devices():
    # A host that is itself confined may forbid even root to open devices.
    with open("/proc/partitions") as file:
        disks = [line.split() for line in file.readlines()[2:]]
    major, minor = (int(disks[0][0]), int(disks[0][1])) if disks else (8, 0)
    way("the first disk", lambda: device(stat.S_IFBLK, major, minor))
    way("the memory", lambda: device(stat.S_IFCHR, 1, 1))
    way("the virtual machines' device", lambda: device(stat.S_IFCHR, 10, 232))
    way("the tunnels' device", lambda: device(stat.S_IFCHR, 10, 200))


@probe("open device nodes that the host has", lacks="ENOENT ENXIO ENODEV EIO EBUSY EPERM")
def found_devices():
    for name in ["kvm", "vda", "sda", "nvme0n1", "mem", "kmsg", "fuse", "net/tun", "vsock", "loop-control",
                 "userfaultfd", "ttyS0", "console", "hpet", "vhost-net", "mapper/control"]:
        way(f"/dev/{name}", lambda name=name: opens(f"/dev/{name}"))

    def others():
        known = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
        nodes = [entry.name for entry in os.scandir("/dev")
                 if stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) in (stat.S_IFBLK, stat.S_IFCHR)]
        return sorted(set(nodes) - known)

    way("any other", others)


@probe("change what it was given to read")
def read_only_files():
    for path in ["/usr/bin/true", "/usr/lib/probe-was-here", "/etc/passwd", "/etc/ld.so.cache", "/bin/probe-was-here",
                 "/probe-was-here", "/dev/probe-was-here"]:
        def write(path=path):
            if not os.path.exists(path) and os.access(os.path.dirname(path), os.W_OK):
                return "its folder is writable"
            return writable(path)

        way(path, write)
    way("its own code", lambda: writable("canary"))
    way("its own folder", lambda: os.access(".", os.W_OK))
