"""What the probes are made of.

A probe tries to get out of a sandbox, in one or several ways. Each way says one line:

    BLOCKED way: EPERM          it came to nothing, and why
    THROUGH way: root:x:0:…     it got what it was after
    ABSENT way: no such call    this machine has nothing to try it on

and the probe says DONE after its last way; without that nobody can tell, and the test fails.

`way` runs each way in a process of its own, so that one which is killed, or which succeeds, does not change the
next. The same probe runs in a fork of a zygote and in an interpreter that had started too, and outside of any sandbox as well (the control), where each
way must get through: a way that is blocked there too proves nothing. What a control changes, it changes in namespaces that are thrown away.
"""

import ctypes
import errno
import json
import os
import signal
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
CONTROL = "CONTROL" in os.environ
CANARY = os.environ.get("CANARY", "")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x20000

#: What says that the kernel refused to look any further.
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)

PROBES = {}


class Absent(Exception):
    """This machine has nothing to try it on."""


def probe(tries, control="namespaces", runc="", neighbour=False, frozen=False, lacks="",
          dies=False, needs="", full="", **limits):
    """Marks a function as a probe.

    tries      what it is after, to follow "it tries to".
    control    where it gets through: "namespaces" (root in namespaces of its own), "network" (a network namespace
               as well), "nobody" (as a user without rights, in such namespaces), "leaks" (with descriptors that
               were left open), "host" (on the host itself, where that is harmless), or "none: why".
    runc       "none: why" where runc can be no oracle.
    neighbour  another sandbox runs, `victim.py`, which has what the probe wants; `frozen`: and is frozen.
    lacks      errors by which the control says that this host lacks the thing, beside those of `run.py`.
    dies       the sandbox may end for want of memory before the probe is done: that is an answer too.
    full       "also" where it is tried in a sandbox with a full network too, "only" where nowhere else.
    needs      "memory" or "cpu": the control group that has to hold it, which a host may not have.
    limits     memory_mib, tmp_mib, processes, open_files, where they differ from a function's defaults.
    """

    def mark(function):
        PROBES[function.__name__] = function
        function.about = dict(
            name=function.__name__, tries=tries, control=control, runc=runc, neighbour=neighbour or frozen,
            frozen=frozen, lacks=lacks.split(), dies=dies, needs=needs, full=full,
            limits=limits,
        )
        return function

    return mark


def is_as_wanted():
    """Says which this is where an interpreter was wanted that had started before, by the name of its script, and whether
    to go on: a start for which none is ready yet is a plain one."""
    if "WANTED" not in os.environ:
        return True
    forked = any(argument.endswith("/" + os.environ["WANTED"]) for argument in sys.orig_argv)
    os.write(1, b"FORKED\n" if forked else b"PLAIN\n")
    return forked


def say(verdict, name, detail):
    line = f"{verdict} {name}: {detail}".replace("\n", " ")[:200]
    os.write(1, (line + "\n").encode(errors="replace"))


def way(name, act, taken=False):
    """Tries one way. `act` gives what it got: nothing, or an error of the system, is a failure to get through.
    With `taken` every error but a refusal means that the kernel went on to look at what was asked, which is made so
    that it then finds fault with it: got through, and nothing broken."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if CONTROL and os.getuid() == 0:
                call("unshare", CLONE_NEWNS)
            attempt(name, act, taken)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        say("BLOCKED", name, signal.Signals(os.WTERMSIG(status)).name)
    elif status != 0:
        sys.exit(f"the way {name!r} failed to tell")


def attempt(name, act, taken):
    try:
        got = act()
    except Absent as why:
        say("ABSENT", name, why)
    except OSError as error:
        code = errno.errorcode.get(error.errno, str(error))
        if taken and error.errno not in REFUSALS:
            say("THROUGH", name, f"taken, answered {code}")
        else:
            say("BLOCKED", name, code)
    else:
        if got or (taken and got is not False):
            say("THROUGH", name, repr(got))
        else:
            say("BLOCKED", name, "nothing there")


with open(os.path.join(HERE, "calls.json")) as file:
    NUMBERS = json.load(file)


def call(name, *args):
    """A system call by its name. Bytes are passed by address. An error is raised."""
    if name not in NUMBERS:
        raise Absent(f"this machine has no {name}")
    return numbered(NUMBERS[name], *args)


def numbered(number, *args):
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(number), *args)
    if result == -1:
        raise OSError(ctypes.get_errno(), f"call {number}")
    return result or True


def library(function, *args):
    """A function of the C library, by its name, with its error raised."""
    ctypes.set_errno(0)
    result = getattr(LIBC, function)(*args)
    if result == -1:
        raise OSError(ctypes.get_errno(), function)
    return result


def read(path, most=64):
    """The beginning of a file."""
    with open(path, "rb", buffering=0) as file:
        return file.read(most)


def opens(path, flags=os.O_RDONLY):
    """Whether a path opens, and as more than the null device that hides a file."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(fd)
    os.close(fd)
    return about.st_rdev != os.makedev(1, 3)


def writable(path):
    """Whether a file opens for writing. Nothing is written."""
    return opens(path, os.O_WRONLY)


def child():
    """A child that sleeps: a process to try things on."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid
