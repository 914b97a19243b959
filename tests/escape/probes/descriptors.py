"""File descriptors: what was left open by those who started the sandbox."""

import fcntl
import os
import pty
import stat
import termios

from probe import probe, way


def inherited():
    """Descriptors that this program did not open, but the three that it should have."""
    return [int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}")]


@probe("find descriptors that were left open", control="leaks")
def left_open():
    before = set(inherited())
    way("in /proc/self/fd", lambda: {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in before})

    def any_other():
        found = []
        for fd in range(3, 1024):
            try:
                os.fstat(fd)
                found.append(fd)
            except OSError:
                pass
        return found

    way("by number", any_other)


@probe("walk out by a folder that was left open", control="leaks")
def open_folders():
    def walk():
        for fd in range(3, 1024):
            try:
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    return [os.open("etc/shadow", os.O_RDONLY, dir_fd=fd)]
            except OSError:
                pass
        return None

    way("openat", walk)


@probe("use its standard descriptors to reach others", control="none: the control's are the test's own")
def standard():
    # Input is the null device, the outputs are pipes: nothing that could be opened again as a file of the host.
    kinds = {0: stat.S_IFCHR, 1: stat.S_IFIFO, 2: stat.S_IFIFO}
    for fd, kind in kinds.items():
        def other(fd=fd, kind=kind):
            about = os.fstat(fd)
            return stat.S_IFMT(about.st_mode) != kind or (fd == 0 and about.st_rdev != os.makedev(1, 3))

        way(f"what {fd} is", other)
    # The reader's end belongs to the platform: what was written must not be readable by its writer.
    for fd in (1, 2):
        way(f"read what was written to {fd}", lambda fd=fd: [os.read(fd, 1)])

    def again(fd):
        # Through /proc a pipe can be opened for reading by whoever may open it at all.
        return [os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)]

    way("open the input for writing elsewhere", lambda: os.fstat(again(0)[0]).st_rdev != os.makedev(1, 3))


@probe("find the descriptors of init", runc="none: it is init itself there")
def of_init():
    way("listed", lambda: os.listdir("/proc/1/fd"))
    way("opened", lambda: [os.open("/proc/1/fd/0", os.O_RDONLY | os.O_NONBLOCK)])
    way("described", lambda: os.listdir("/proc/1/fdinfo"))


@probe("type into a terminal on behalf of its user")
def terminal():
    def own():
        """A terminal of this process' own, or its input where it cannot have one."""
        try:
            controller, terminal = pty.openpty()
        except OSError:
            return 0
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        return terminal

    way("TIOCSTI", lambda: [fcntl.ioctl(own(), termios.TIOCSTI, b"x")])
    way("a controlling terminal", lambda: [os.open("/dev/tty", os.O_RDWR)] if own() == 0 else ["has one"])
