"""Other processes: seeing, signalling, tracing and slowing them."""

import ctypes
import fcntl
import os
import resource

from probe import call, child, probe, way

HOST_PID = int(os.environ.get("HOST_PID", "0"))


@probe("see other processes", runc="none: it is init itself there")
def seen():
    # The probe and the way that it is trying.
    own = {os.getpid()}

    def others(exists):
        return [pid for pid in range(1, 500) if pid not in own | {os.getpid()} and exists(pid)]

    def signalled(pid):
        try:
            os.kill(pid, 0)
            return True
        except OSError:
            return False

    way("in /proc", lambda: sorted({int(pid) for pid in os.listdir("/proc") if pid.isdigit()} - own - {os.getpid()}))
    way("by number in /proc", lambda: others(lambda pid: os.path.exists(f"/proc/{pid}/stat")))
    way("by signal 0", lambda: others(signalled))


@probe("signal processes of the host", control="host")
def signals():
    info = ctypes.create_string_buffer(128)
    ctypes.c_int.from_buffer(info, 8).value = -1  # SI_QUEUE: what a process may send to another.
    way("kill", lambda: [os.kill(HOST_PID, 0)])
    way("tgkill", lambda: call("tgkill", HOST_PID, HOST_PID, 0))
    way("rt_sigqueueinfo", lambda: call("rt_sigqueueinfo", HOST_PID, 0, info))
    way("pidfd_open", lambda: [os.pidfd_open(HOST_PID)])
    way("kill a group", lambda: [os.killpg(os.getpgid(HOST_PID), 0)])


@probe("signal init, whose end would be its end", runc="none: it is init itself there")
def signal_init():
    way("kill", lambda: [os.kill(1, 0)])
    way("tkill", lambda: call("tkill", 1, 0))
    way("pidfd_send_signal", lambda: call("pidfd_send_signal", os.pidfd_open(1), 0, None, 0))

    def owned():
        # The owner of a file is signalled when data comes; who may not signal it must not be able to this way.
        read, write = os.pipe()
        fcntl.fcntl(read, fcntl.F_SETOWN, 1)
        return call("tgkill", 1, 1, 0)

    way("as the owner of a file", owned)


PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206


@probe("trace other processes")
def trace():
    way("attach to a sibling", lambda: call("ptrace", PTRACE_ATTACH, child(), 0, 0))
    way("seize a sibling", lambda: call("ptrace", PTRACE_SEIZE, child(), 0, 0))
    way("seize init", lambda: call("ptrace", PTRACE_SEIZE, 1, 0, 0))
    way("ask to be traced", lambda: call("ptrace", 0, 0, 0, 0))


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


@probe("read and write the memory of other processes")
def memory():
    mine = ctypes.create_string_buffer(b"mine", 16)
    vector = Vector(ctypes.addressof(mine), 4)
    way("process_vm_readv", lambda: call("process_vm_readv", child(), ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0))
    way("process_vm_writev", lambda: call("process_vm_writev", child(), ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0))
    way("process_madvise", lambda: call("process_madvise", os.pidfd_open(child()), ctypes.byref(vector), 1, 20, 0), taken=True)
    way("move_pages", lambda: call("move_pages", child(), 0, None, None, None, 0))
    way("migrate_pages", lambda: call("migrate_pages", child(), 1, b"\1" + bytes(15), b"\1" + bytes(15)), taken=True)


@probe("take descriptors out of other processes")
def descriptors():
    way("pidfd_getfd", lambda: call("pidfd_getfd", os.pidfd_open(child()), 1, 0))
    way("kcmp", lambda: call("kcmp", os.getpid(), child(), 0, 1, 1), taken=True)


@probe("change the limits and the priority of init", runc="none: it is init itself there")
def limits_of_init():
    new = (ctypes.c_uint64 * 2)(64, 64)
    affinity = ctypes.create_string_buffer(b"\1", 128)
    way("prlimit", lambda: call("prlimit64", 1, resource.RLIMIT_NOFILE, new, None))
    way("setpriority", lambda: [os.setpriority(os.PRIO_PROCESS, 1, 19)])
    way("sched_setaffinity", lambda: call("sched_setaffinity", 1, 128, affinity))
    way("ioprio_set", lambda: call("ioprio_set", 1, 1, 3 << 13))


@probe("come before everybody else", lacks="EACCES")
def privilege_of_time():
    way("a higher priority", lambda: [os.setpriority(os.PRIO_PROCESS, 0, -10)])
    way("real time", lambda: [os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))])

    def last_to_go():
        with open("/proc/self/oom_score_adj", "r+") as file:
            before = int(file.read())
            file.seek(0)
            file.write(str(before - 1))
        return True

    # Also root may lack the capability for it.
    way("the last to go when memory is short", last_to_go)
