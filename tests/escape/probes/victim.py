"""Another tenant's sandbox, with a secret in each place where one could look for it.

It says READY once all is in place. Where a listener is at 127.0.0.1:9001 it dials it and answers each line there with
`intact`, as long as what it keeps is as it was."""

import ctypes
import mmap
import os
import signal
import socket
import sys
import threading

import network
import probe

SECRET = b"secret-of-" + probe.CANARY.encode()
KEY = int(probe.CANARY[:7], 16)
PORT = int(os.environ["VICTIM_PORT"])


def main():
    if not probe.is_as_wanted():
        sys.exit("a neighbour that was to be a fork is none")
    if probe.CONTROL:
        # There this process is the first in its network.
        network.interface_up()
    path = f"/tmp/{probe.CANARY}"
    with open(path, "wb") as file:
        file.write(SECRET)
    probe.LIBC.shmat.restype = ctypes.c_void_p
    segment = probe.library("shmget", KEY, 4096, 0o1000 | 0o666)
    address = probe.LIBC.shmat(segment, None, 0)
    ctypes.memmove(address, SECRET, len(SECRET))
    queue = probe.library("mq_open", b"/" + probe.CANARY.encode(), 0o102, 0o666, None)
    probe.library("mq_send", queue, SECRET, len(SECRET), 0)
    probe.library("semget", KEY, 1, 0o1000 | 0o666)
    probe.library("msgget", KEY, 0o1000 | 0o666)
    try:
        key = probe.call("add_key", b"user", probe.CANARY.encode(), SECRET, len(SECRET), -4)
        probe.call("keyctl", 15, key, 300)  # Outside of a sandbox it would outlive this process.
    except OSError:
        pass  # Its own filter does not let it; then there is nothing to be found.
    memory = mmap.mmap(-1, 4096)
    memory.write(SECRET)
    servers = [socket.create_server(("0.0.0.0" if "FULL" in os.environ else "127.0.0.1", PORT)), socket.socket(socket.AF_UNIX)]
    servers[1].bind("\0" + probe.CANARY)
    servers[1].listen()
    for server in servers:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    signal.signal(signal.SIGUSR2, lambda *_: signalled())
    with open("/tmp/ready", "w"):
        pass
    print("READY", flush=True)
    try:
        platform = socket.create_connection(("127.0.0.1", 9001)).makefile("rwb")
    except OSError:
        while True:
            signal.pause()
    for _ in platform:
        with open(path, "rb") as file:
            intact = not os.path.exists("/tmp/signalled") and file.read() == SECRET and ctypes.string_at(address, len(SECRET)) == SECRET
        platform.write(b"intact\n" if intact else b"changed\n")
        platform.flush()
    sys.exit()


def signalled():
    with open("/tmp/signalled", "w"):
        pass


def serve(server):
    while True:
        client, _ = server.accept()
        client.sendall(SECRET)
        client.close()


main()
