"""Resources: what one sandbox may use up. After each the neighbours are asked whether they are well.

Controls run with small numbers, which any machine bears; that there is no bound shows as going past the sandbox'."""

import ctypes
import errno
import mmap
import os
import select
import signal
import threading

from probe import CONTROL, LIBC, call, library, probe, way

MIB = 1 << 20
PROCESSES = int(os.environ.get("PROCESSES", "0"))
MEMORY = int(os.environ.get("MEMORY_MIB", "0")) * MIB
TMP = int(os.environ.get("TMP_MIB", "0")) * MIB
FILES = int(os.environ.get("OPEN_FILES", "0"))


@probe("make processes without end", processes=32)
def processes():
    def bomb():
        made = []
        try:
            while len(made) <= PROCESSES:
                pid = os.fork()
                if pid == 0:
                    signal.pause()
                made.append(pid)
            return f"{len(made)} processes"
        finally:
            for pid in made:
                os.kill(pid, signal.SIGKILL)

    way("fork", bomb)

    def spread():
        # Each child forks too: a bound of one process' children would not hold this.
        made = 0
        read, write = os.pipe()
        for _ in range(2):
            if os.fork() == 0:
                for _ in range(PROCESSES):
                    try:
                        if os.fork() == 0:
                            os.write(write, b"x")
                            signal.alarm(2)
                            signal.pause()
                    except OSError:
                        break
                os._exit(0)
        os.close(write)
        while some := os.read(read, 4096):
            made += len(some)
        return made > PROCESSES and f"{made} processes"

    way("fork by children", spread)


@probe("make threads without end", processes=32)
def threads():
    def many():
        ended = threading.Event()
        made = 0
        try:
            while made <= PROCESSES:
                threading.Thread(target=ended.wait, daemon=True).start()
                made += 1
        except RuntimeError as error:
            raise BlockingIOError(11, str(error)) from None
        finally:
            ended.set()
        return f"{made} threads"

    way("threads", many)


def touch(size):
    region = mmap.mmap(-1, size)
    for at in range(0, size, 4096):
        region[at] = 1
    return f"{size // MIB} MiB"


@probe("use memory without end", memory_mib=64, dies=True, needs="memory")
def memory():
    way("pages", lambda: touch(2 * MEMORY))


@probe("use memory without end, by many processes", memory_mib=64, dies=True, needs="memory")
def memory_of_many():
    def many():
        pids = []
        ends = os.pipe()
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                touch(MEMORY // 4)
                os.write(ends[1], b"x")
                signal.alarm(20)
                signal.pause()
            pids.append(pid)
        os.close(ends[1])
        ready = 0
        try:
            while ready < len(pids):
                if select.select([ends[0]], [], [], 0.1)[0]:
                    ready += len(os.read(ends[0], 8))
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid:
                    pids.remove(pid)
                    raise MemoryError(f"one was ended with {status}")
        except MemoryError as error:
            raise OSError(errno.ENOMEM, str(error)) from None
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        return "all have their share"

    way("pages", many)


@probe("use memory that belongs to no process", memory_mib=64, dies=True, needs="memory")
def memory_of_nobody():
    def shared():
        segment = library("shmget", 0, 2 * MEMORY, 0o1600)
        LIBC.shmat.restype = ctypes.c_void_p
        address = LIBC.shmat(segment, None, 0)
        library("shmctl", segment, 0, None)
        for at in range(0, 2 * MEMORY, 4096):
            ctypes.memset(address + at, 1, 1)
        return f"{2 * MEMORY // MIB} MiB"

    def anonymous():
        fd = os.memfd_create("probe")
        for _ in range(2 * MEMORY // MIB):
            os.write(fd, bytes(MIB))
        return f"{2 * MEMORY // MIB} MiB"

    def queues():
        message, held = ctypes.create_string_buffer(8 + 8192), 0
        message[0] = 1
        while held <= 2 * MEMORY:
            queue = library("msgget", 0, 0o1600)
            try:
                while True:
                    library("msgsnd", queue, message, 8192, 0o4000)
                    held += 8192
            except BlockingIOError:
                pass
        return f"{held // MIB} MiB"

    way("System V", shared)
    way("messages", queues)
    way("a file without a name", anonymous)


@probe("lock memory so that the host cannot take it back", memory_mib=64, dies=True, needs="memory", lacks="ENOMEM EPERM")
def locked_memory():
    def lock():
        region = mmap.mmap(-1, 2 * MEMORY)
        address = ctypes.addressof(ctypes.c_char.from_buffer(region))
        return call("mlock", address, 2 * MEMORY)

    way("mlock", lock)


@probe("keep memory in the kernel's buffers", memory_mib=64, dies=True, needs="memory")
def kernel_buffers():
    def pipes():
        # Pipes hold what was written to them: of 1 MiB each where one may.
        held, kept = 0, []
        while held <= 2 * MEMORY:
            read, write = os.pipe2(os.O_NONBLOCK)
            kept.append((read, write))
            try:
                while True:
                    held += os.write(write, bytes(65536))
            except BlockingIOError:
                pass
            if len(kept) > 4000:
                break
        return f"{held // MIB} MiB" if held > 2 * MEMORY else None

    if CONTROL:
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    way("pipes", pipes)


def fill(path, most):
    written = 0
    with open(path, "wb", buffering=0) as file:
        while written < most:
            written += file.write(bytes(MIB))
    return f"{written // MIB} MiB"


@probe("fill the disk", tmp_mib=8)
def disk():
    way("/tmp", lambda: fill("/tmp/large", 2 * TMP))
    if not CONTROL:
        # The host's is no small one that can be thrown away.
        way("/dev/shm", lambda: fill("/dev/shm/large", 2 * TMP))
    way("by many files", lambda: [fill(f"/tmp/part-{number}", TMP // 4) for number in range(8)])

    def allocate():
        with open("/tmp/allocated", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2 * TMP)
        return True

    way("by fallocate", allocate)


@probe("use up the files of the disk", tmp_mib=8)
def inodes():
    def many():
        most = 2 * TMP // 4096
        os.makedirs("/tmp/many", exist_ok=True)
        for number in range(most):
            os.mknod(f"/tmp/many/{number}")
        return f"{most} files"

    way("/tmp", many)


@probe("open files without end", open_files=128)
def open_files():
    def many():
        kept = []
        while len(kept) <= FILES + 16:
            kept.append(os.open("/dev/null", os.O_RDONLY))
        return f"{len(kept)} files"

    way("one process", many)

    def more():
        import resource
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (FILES * 2, FILES * 2))
        except ValueError:
            raise PermissionError(1, "setrlimit") from None
        return True

    way("raise the limit", more)


@probe("keep the processor to itself", needs="cpu", control="none: the control has the whole machine",
       runc="none: it is given no share here")
def processor():
    def share():
        # Two busy processes for a while: their CPU time must not be more than the share of one sandbox.
        import time
        begun = time.monotonic()
        pids = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                while time.monotonic() - begun < 2:
                    pass
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        used = os.times()
        share = (used.children_user + used.children_system) / (time.monotonic() - begun)
        allowed = int(os.environ["CPU_MILLIS"]) / 1000
        return share > allowed * 1.25 and f"{share:.2f} of {allowed} cores"

    way("busy processes", share)
