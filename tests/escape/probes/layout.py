"""Says how this process is laid out and where it is, and waits: for `families.rs`, which compares two of them."""

import json
import os
import signal
import sys

import probe


def bases():
    """Where each file, and what the kernel maps, begins."""
    found = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            parts = line.split()
            if len(parts) > 5:
                name = os.path.basename(parts[5]).split(".so")[0]
                found.setdefault(name, parts[0].split("-")[0])
    return found


def main():
    if not probe.is_as_wanted():
        return
    namespaces = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", "pid", "mnt", "net", "ipc", "uts")}
    with open("/proc/self/uid_map") as users:
        user = users.read().split()[1]
    print(json.dumps({"bases": bases(), "namespaces": namespaces, "user": user, "hash": hash("a string")}), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
