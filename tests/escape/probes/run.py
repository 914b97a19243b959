"""Runs one probe (`run.py GROUP NAME`, in a fork `-m run GROUP NAME`), or lists all of them as JSON (`run.py`)."""

import importlib
import json
import sys

import probe

GROUPS = [
    "host_files", "processes", "namespaces", "kernel", "network", "identity", "descriptors", "resources", "links",
    "tenants", "world",
]


def main():
    if len(sys.argv) == 3:
        if not probe.is_as_wanted():
            return
        importlib.import_module(sys.argv[1])
        probe.PROBES[sys.argv[2]]()
        print("DONE", flush=True)
        return
    found = []
    for group in GROUPS:
        probe.PROBES.clear()
        importlib.import_module(group)
        found += [dict(group=group, **one.about) for one in probe.PROBES.values()]
    print(json.dumps(found))


main()
