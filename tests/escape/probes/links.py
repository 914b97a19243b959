"""Links: to files that are not one's own, and across borders. What a deployed archive may hold is checked where it is
unpacked: the tests of `crates/control` try absolute paths, `..`, links out of the folder and devices."""

import os
import threading

from probe import CONTROL, call, probe, read, way


@probe("make hard links to files that it may not own")
def hard_links():
    folder = "/tmp"
    if CONTROL:
        # A link stays within one file system.
        folder = "."
    for path in ["gain-setuid", "canary"]:
        def link(path=path):
            name = f"{folder}/link-{path}-{os.getpid()}"
            os.link(path, name)
            os.unlink(name)
            return True

        way(path, link)
    way("by a descriptor", lambda: by_descriptor(folder))


def by_descriptor(folder):
    fd = os.open("canary", os.O_RDONLY)
    name = f"{folder}/link-fd-{os.getpid()}"
    call("linkat", -100, f"/proc/self/fd/{fd}".encode(), -100, name.encode(), 0x400)
    os.unlink(name)
    return True


@probe("follow symbolic links out of its root")
def symbolic_links():
    for name, target in [("absolute", "/etc/shadow"), ("upwards", "../" * 40 + "etc/shadow"),
                         ("through /proc", "/proc/self/root/../../etc/shadow"),
                         ("through a descriptor", "/proc/self/cwd/../../../../../../etc/shadow")]:
        def follow(name=name, target=target):
            path = f"/tmp/link-{name.replace('/', '')}"
            os.symlink(target, path)
            return read(path)

        way(name, follow)


@probe("swap a folder for a link while it is walked")
def races():
    def race():
        os.makedirs("/tmp/a/etc", exist_ok=True)
        with open("/tmp/a/etc/shadow", "w") as file:
            file.write("")
        os.symlink("/", "/tmp/b")
        ended = threading.Event()

        def swap():
            while not ended.is_set():
                call("renameat2", -100, b"/tmp/a", -100, b"/tmp/b", 2)

        threading.Thread(target=swap, daemon=True).start()
        found = b""
        for _ in range(20_000):
            try:
                found = read("/tmp/a/etc/shadow")
            except OSError:
                pass
            if found:
                break
        ended.set()
        return found

    way("an exchange in /tmp", race)


@probe("leave something on the host that outlives it", control="none: the control's /tmp is thrown away as well")
def left_behind():
    # What is made here is looked for on the host when the probe has ended.
    def make(folder):
        name = os.path.join(folder, "rouse-probe-was-here")
        with open(name, "w"):
            pass
        return True

    for folder in ["/var/tmp", "/var", "/usr", "/dev", "/run", "/var/task", "/proc", "/"]:
        way(folder, lambda folder=folder: make(folder))
