"""Mounts, roots and namespaces: seeing more of the host by building another view of it."""

import os
import struct

from probe import CONTROL, call, numbered, probe, read, way

CLONE = {
    "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
    "net": 0x40000000,
}
SIGCHLD = 17
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND = 1, 2, 32, 4096
AT_FDCWD = -100


def folder(name):
    path = f"/tmp/{name}"
    os.makedirs(path, exist_ok=True)
    return path.encode()


@probe("mount file systems")
def mount():
    at = folder("at")
    way("tmpfs", lambda: call("mount", b"none", at, b"tmpfs", 0, None))
    way("proc", lambda: call("mount", b"none", at, b"proc", 0, None))
    way("sysfs", lambda: call("mount", b"none", at, b"sysfs", 0, None))
    way("bind", lambda: call("mount", b"/usr", at, None, MS_BIND, None))
    way("overlay", lambda: call("mount", b"none", at, b"overlay", 0, b"lowerdir=/usr:/etc"))
    way("devices of terminals", lambda: call("mount", b"none", at, b"devpts", 0, None))


@probe("mount file systems by the new calls")
def new_mount():
    at = folder("at")
    way("fsopen", lambda: call("fsopen", b"tmpfs", 0))
    way("fspick", lambda: call("fspick", AT_FDCWD, b"/tmp", 0))
    way("fsconfig", lambda: call("fsconfig", 99, 6, None, None, 0), taken=True)
    way("fsmount", lambda: call("fsmount", 99, 0, 0), taken=True)
    way("open_tree", lambda: call("open_tree", AT_FDCWD, b"/usr", 1))
    way("move_mount", lambda: call("move_mount", 99, b"", AT_FDCWD, at, 4), taken=True)
    way("mount_setattr", lambda: call("mount_setattr", AT_FDCWD, b"/tmp", 0, bytes(32), 32))
    # Newer than the headers of some machines.
    for name, number in [("statmount", 457), ("listmount", 458), ("open_tree_attr", 467)]:
        way(name, lambda number=number: numbered(number, 0, 0, 0, 0, 0), taken=True)


@probe("take mounts away that hide something")
def umount():
    way("/proc", lambda: call("umount2", b"/proc", 2))
    way("/tmp", lambda: call("umount2", b"/tmp", 2))
    # Of what a sandbox is given to see; the host has no mounts there.
    for path in [b"/proc/sys", b"/proc/kcore", b"/dev", b"/usr"]:
        way(path.decode(), lambda path=path: call("umount2", path, 2), taken=True)


@probe("make read-only mounts writable")
def remount():
    flags = MS_REMOUNT | MS_BIND
    for path in [b"/usr", b"/proc/sys", b"/", b"/etc", b"/dev"]:
        way(path.decode(), lambda path=path: call("mount", None, path, None, flags, None), taken=True)
    writable = struct.pack("QQQQ", 0, 1, 0, 0)
    way("mount_setattr", lambda: call("mount_setattr", AT_FDCWD, b"/", 0, writable, 32))


@probe("change its root")
def roots():
    folder("new/old")
    way("chroot", lambda: call("chroot", b"/tmp/new"))

    def pivot():
        if CONTROL:
            call("mount", b"none", b"/tmp/new", b"tmpfs", 0, None)
            folder("new/old")
        return call("pivot_root", b"/tmp/new", b"/tmp/new/old")

    way("pivot_root", pivot)


@probe("break out of its root by a second one", control="none: it has no root to break out of there")
def breakout():
    def classic():
        # With the working folder outside of the new root, `..` is not stopped by it.
        os.makedirs("/tmp/jail", exist_ok=True)
        os.chroot("/tmp/jail")
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        return read("/etc/shadow")

    def upwards():
        fd = os.open("/", os.O_RDONLY)
        for _ in range(64):
            fd = os.open("..", os.O_RDONLY, dir_fd=fd)
        return read(os.open("etc/shadow", os.O_RDONLY, dir_fd=fd))

    def descriptor():
        outside = os.open("/", os.O_RDONLY)
        call("chroot", b"/tmp")
        os.fchdir(outside)
        return os.listdir("../../..")

    way("chroot twice", classic)
    way("`..` of the root", upwards)
    way("a folder kept open", descriptor)


@probe("enter new namespaces", lacks="EINVAL")
def unshare():
    for name, flag in CLONE.items():
        way(name, lambda flag=flag: call("unshare", flag))
    way("user and mount at once", lambda: call("unshare", CLONE["user"] | CLONE["mount"]))
    way("time", lambda: call("unshare", 0x80))


@probe("start processes in new namespaces")
def clone():
    def start(flags):
        pid = call("clone", flags | SIGCHLD, 0, 0, 0, 0)
        if pid is True:
            os._exit(0)
        os.waitpid(pid, 0)
        return pid

    for name, flag in CLONE.items():
        way(name, lambda flag=flag: start(flag))
    way("user and all others at once", lambda: start(sum(CLONE.values())))


@probe("start processes by clone3, whose flags no filter can read")
def clone3():
    def start(flags):
        fields = [flags, 0, 0, 0, SIGCHLD, 0, 0, 0]
        arguments = struct.pack("8Q", *fields)
        pid = call("clone3", arguments, len(arguments))
        if pid is True:
            os._exit(0)
        os.waitpid(pid, 0)
        return pid

    way("a user namespace", lambda: start(CLONE["user"]))
    way("a mount namespace", lambda: start(CLONE["mount"]))
    # It fails for the wrong descriptor, if it is looked at.
    into = struct.pack("11Q", 0x200000000, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 9999)
    way("another control group", lambda: call("clone3", into, len(into)), taken=True)


@probe("enter namespaces of other processes")
def setns():
    for name, flag in [("mnt", "mount"), ("uts", "uts"), ("ipc", "ipc"), ("cgroup", "cgroup"), ("net", "net")]:
        way(f"init's {name}", lambda name=name, flag=flag: call("setns", os.open(f"/proc/1/ns/{name}", os.O_RDONLY), CLONE[flag]))
        way(f"its own {name}, again", lambda name=name, flag=flag: call("setns", os.open(f"/proc/self/ns/{name}", os.O_RDONLY), CLONE[flag]))
    way("by a process", lambda: call("setns", os.pidfd_open(os.getppid()), CLONE["mount"]))


@probe("gain rights in a user namespace of its own")
def user_namespace():
    def root():
        uid = os.getuid()
        call("unshare", CLONE["user"])
        with open("/proc/self/setgroups", "w") as file:
            file.write("deny")
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"0 {uid} 1")
        return os.getuid() == 0

    def mounts():
        call("unshare", CLONE["user"] | CLONE["mount"])
        return call("mount", b"none", b"/tmp", b"tmpfs", 0, None)

    way("be root", root)
    way("mount", mounts)
