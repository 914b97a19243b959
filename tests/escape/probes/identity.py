"""Becoming somebody else: users, groups, capabilities, and the programs that would give them."""

import ctypes
import os
import struct
import subprocess

from probe import LIBC, call, library, probe, way


def status(name, path="/proc/self/status"):
    with open(path) as file:
        return next(line.split(":", 1)[1].split() for line in file if line.startswith(name + ":"))


def reported(program):
    """What `gain.c` says of itself: its effective user, and its permitted capabilities."""
    user, capabilities = subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout.split()
    return int(user), int(capabilities, 16)


@probe("become root by a program of root's that has the set-user-id bit", control="nobody")
def set_user_id():
    way("in its code", lambda: reported("./gain-setuid")[0] == 0)
    way("by the linker", lambda: os.statvfs(".").f_flag & os.ST_NOSUID == 0)
    way("in /usr", lambda: os.statvfs("/usr").f_flag & os.ST_NOSUID == 0)
    way("at all", lambda: status("NoNewPrivs") == ["0"])


@probe("get capabilities by a file that has them", control="nobody", lacks="ENOTSUP")
def file_capabilities():
    way("in its code", lambda: reported("./gain-capable")[1] != 0)

    def grant():
        # Version 2 of `struct vfs_cap_data`: all capabilities, effective.
        granted = struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0)
        path = "/tmp/granted"
        with open(path, "w"):
            pass
        os.setxattr(path, "security.capability", granted)
        return True

    way("a file of its own", grant) if os.getuid() == 0 or "CONTROL" not in os.environ else None


@probe("be another user")
def users():
    way("setuid", lambda: [os.setuid(0)])
    way("setresuid", lambda: [os.setresuid(0, 0, 0)])
    way("setresuid of the host's services", lambda: [os.setresuid(33, 33, 33)])
    way("setfsuid", lambda: [LIBC.setfsuid(1), status("Uid")[3] == "1"][1])


@probe("be in other groups")
def groups():
    way("setgid", lambda: [os.setgid(0), os.setgid(1)])
    way("setresgid", lambda: [os.setresgid(1, 1, 1)])
    way("setgroups", lambda: [os.setgroups([0, 1, 27])])
    way("groups that were left", lambda: [group for group in [*os.getgroups(), os.getgid()] if group < 1000])


@probe("take capabilities")
def capabilities():
    def own(name):
        return int(status(name)[0], 16)

    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]:
        if name not in ("CapInh", "CapAmb") or "CONTROL" not in os.environ:
            way(f"those it has ({name})", lambda name=name: own(name))

    def capset():
        header = struct.pack("Ii", 0x20080522, 0)
        everything = struct.pack("6I", *[1 << 21] * 3, 0, 0, 0)
        return call("capset", header, everything)

    way("capset", capset)
    way("ambient ones", lambda: ambient())


def ambient():
    header = struct.pack("Ii", 0x20080522, 0)
    call("capset", header, struct.pack("6I", *[1 << 21] * 3, 0, 0, 0))
    ctypes.set_errno(0)
    return library("prctl", 47, 2, 21, 0, 0) == 0


@probe("make programs privileged again")
def no_new_privileges():
    def again():
        LIBC.prctl(39 - 1, 0, 0, 0, 0)
        return status("NoNewPrivs") == ["0"]

    way("no_new_privs off", again)
    # SECBIT_NOROOT and the like decide what exec gives.
    way("secure bits", lambda: library("prctl", 28, 1, 0, 0, 0) == 0)
    way("keep capabilities", lambda: library("prctl", 8, 1, 0, 0, 0) == 0 and status("CapPrm") != ["0" * 16])


@probe("own files of others")
def ownership():
    def own_file(uid):
        path = f"/tmp/own-{uid}"
        with open(path, "w"):
            pass
        os.chown(path, uid, uid)
        return os.stat(path).st_uid == uid

    way("give to root", lambda: own_file(0) and "CONTROL" in os.environ or own_file(1))
    way("take from root", lambda: [os.chown("/etc/passwd", os.getuid(), -1)])
    way("change the mode", lambda: [os.chmod("/etc/passwd", os.stat("/etc/passwd").st_mode & 0o7777)])
