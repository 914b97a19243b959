"""A Python interpreter that is forked instead of started: `zygote.py MODULE... [--code FOLDER MODULE ARGUMENT...]`.

It imports the modules, of a function's code last, with its folder and its arguments as they will be, and then, for each sandbox that it is handed over descriptor 3, forks a process that goes there,
gives up every privilege, and waits for its spec. Then it is what `python3 -m NAME ARGUMENT...` would have become. The
messages are described in the spawner's `zygotes.rs`.

This process has rights over its own user namespace alone, and of the calls that these allow its filter lets it make
one: entering a namespace. What a fork must never share with another is made anew in `reseed`. What they do share: the
addresses of all that was loaded here, and the seed of the hashes of strings.

Only the standard library, and of that what any interpreter has. One thread: a fork has only the one that forked.
"""

import array
import ctypes
import gc
import importlib
import os
import platform
import random
import resource
import runpy
import signal
import socket
import struct
import sys
import time

CONTROL = 3
MESSAGE_BYTES = 128 * 1024
DESCRIPTORS = 64
# As many as the spawner lets a zygote have.
OPEN_FILES = 65_536
# `capabilities(7)`: what this process was given.
CAPABILITIES = {"SETPCAP": 8, "SYS_CHROOT": 18, "SYS_ADMIN": 21}
# `prctl(2)`.
PR_SET_SECCOMP, PR_CAPBSET_DROP = 22, 24
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
# Among the namespaces that come with a message: that of processes.
PIDS, CLONE_NEWPID = 4, 0x20000000
SETNS = {"x86_64": 308, "aarch64": 268}

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, name + ": " + os.strerror(number))


def receive(control):
    size = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
    message, ancillary, _, _ = control.recvmsg(MESSAGE_BYTES, size, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, list(descriptors)


def serve(control):
    """Forks for each message. Returns in a fork, which has been told its spec."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    signal.signal(signal.SIGCHLD, lambda *_: tell_ended(control))
    while True:
        message, descriptors = receive(control)
        if not message:
            os._exit(0)
        first = 3 + int(message.split()[1])
        word = socket.socket(fileno=descriptors[0])
        # Its number is said before its end.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        # Who enters a namespace of processes does so with the children alone that are born after.
        call("setns", descriptors[first + PIDS], CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            os.close(own)
            return send_off(control, word, descriptors[1:3], descriptors[3:first], descriptors[first:])
        call("setns", own, CLONE_NEWPID)
        word.send(b"pid %d" % pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        word.close()
        for descriptor in descriptors[1:]:
            os.close(descriptor)


def tell_ended(control):
    """Says how forks ended. Each is reaped after that: should this process die between, whoever adopts it says so too."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        how = b"code" if ended.si_code == os.CLD_EXITED else b"signal"
        control.send(b"ended %d %s %d" % (ended.si_pid, how, ended.si_status))
        os.waitpid(ended.si_pid, 0)


def send_off(control, word, outputs, groups, namespaces):
    """In a fork: enters its sandbox, and waits there for its spec."""
    try:
        control.close()
        for group in groups:
            os.write(group, b"0")
        for at, namespace in enumerate(namespaces):
            if at != PIDS:
                call("setns", namespace, 0)
        confine(word, outputs)
        prepare()
        word.send(b"waiting")
        spec = word.recv(MESSAGE_BYTES)
        if not spec:
            os._exit(0)
        word.close()
        return spec
    except BaseException as error:
        try:
            word.send(b"failed " + repr(error).encode()[:400])
        finally:
            os._exit(1)


def confine(word, outputs):
    """Connects the outputs, closes all else, and gives up every privilege for good."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    for number, descriptor in enumerate([null] + outputs):
        os.dup2(descriptor, number)
    os.closerange(3, word.fileno())
    os.closerange(word.fileno() + 1, OPEN_FILES)
    for capability in CAPABILITIES.values():
        call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    # Without permitted capabilities there are no ambient ones.
    call("capset", struct.pack("=Ii", CAPABILITY_VERSION_3, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0))
    forbid_setns()


def forbid_setns():
    """The last call that other sandboxes cannot make: a filter before the one that is there."""
    instruction = struct.Struct("=HBBI")
    program = b"".join(
        instruction.pack(*one)
        for one in [
            (0x20, 0, 0, 0),  # load the number of the call
            (0x15, 0, 1, SETNS[platform.machine()]),
            (0x06, 0, 0, 0x00050001),  # EPERM
            (0x06, 0, 0, 0x7FFF0000),  # allow
        ]
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("=H6xQ", len(program) // instruction.size, ctypes.addressof(buffer))
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters, 0, 0)


def reseed():
    """Gives this process random numbers of its own, and forgets what was derived from the old ones."""
    random.seed()
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "uuid" in sys.modules:
        sys.modules["uuid"]._last_timestamp = None
    if "tempfile" in sys.modules:
        sys.modules["tempfile"]._name_sequence = None


def prepare():
    """Does what needs no spec, so that a start does not wait for it: what a page is written for the first time for costs most,
    and the finders of modules are looked through here once, too."""
    os.environ.clear()
    reseed()
    importlib.invalidate_caches()
    compile("def nothing(event, context):\n    return {}\n", "<nothing>", "exec")
    try:
        importlib.import_module("no_module_has_this_name")
    except Exception:
        # As it should be; finders of code that was imported ahead may have other words for it.
        pass


def rename(arguments):
    """Writes the arguments over the zygote's, so that lists of processes show what runs: `proc_pid_stat(5)`, 48, 49."""
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    name = b"\0".join(os.fsencode(argument) for argument in arguments)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, name, len(name))


def become(spec):
    """Runs what the spec says: a module, as `-m` would."""
    parts = spec.split(b"\0")[:-1]
    cwd, open_files, count = parts[0], int(parts[1]), int(parts[2])
    arguments = [os.fsdecode(part) for part in parts[3 : 3 + count]]
    environment = [part.partition(b"=") for part in parts[3 + count :]]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = open_files if hard == resource.RLIM_INFINITY else min(open_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    for name, _, value in environment:
        os.environb[name] = value
    time.tzset()
    rename(arguments)
    os.chdir(cwd)
    if arguments[1] != "-m":
        sys.exit("a fork can run a module alone: python3 -m NAME")
    # The place of the script in the list is that of the working folder; folders that were not there may be now, but for
    # the interpreter's own.
    sys.path[0] = os.getcwd()
    for path in [path for path in sys.path_importer_cache if not path.startswith(sys.prefix + "/")]:
        del sys.path_importer_cache[path]
    sys.argv = arguments[2:]
    runpy.run_module(arguments[2], run_name="__main__", alter_sys=True)


def threads():
    return len(os.listdir("/proc/self/task"))


def end_threads():
    """Libraries that can be forked end their threads before (`pthread_atfork(3)`), and start them again when needed."""
    if threads() != 1 and os.fork() == 0:
        os._exit(0)
    # The kernel shows a thread a moment longer than it is there.
    until = time.monotonic() + 1
    while threads() != 1:
        if time.monotonic() > until:
            sys.exit("what was imported started threads: %d of them" % (threads() - 1))
        time.sleep(0.01)


def load_code(folder, name, arguments):
    """Imports a function's module once for all forks, nearly as the client would."""
    import logging

    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = arguments
    # The client logs by a handler of its own, which it adds before it imports: code that looks whether there is one finds
    # one here too.
    placeholder = logging.NullHandler()
    logging.getLogger().addHandler(placeholder)
    importlib.import_module(name)
    logging.getLogger().removeHandler(placeholder)


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    names, code = sys.argv[1:], []
    if "--code" in names:
        at = names.index("--code")
        names, code = names[:at], names[at + 1 :]
    for name in names:
        importlib.import_module(name)
    if code:
        load_code(code[0], code[1], code[2:])
    end_threads()
    # What was printed belongs to no fork.
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=CONTROL)
    control.send(b"ready")
    become(serve(control))


if __name__ == "__main__":
    main()
