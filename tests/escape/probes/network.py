"""The network: the host's sockets, the world outside, and kinds of sockets that go around the usual ones."""

import array
import errno
import fcntl
import os
import socket
import struct
import threading
import time

from probe import CONTROL, call, probe, way

SECONDS = 3  # Nobody is asked who answers later than at once.
HOST_PORT = int(os.environ.get("HOST_PORT", "0"))
METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192"]
METADATA_6 = ["fd00:ec2::254", "fd20:ce::254"]


def interface_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", 0x41))


def own(address):
    """The control's part: its own network namespace answers at this address."""
    interface_up()
    if ":" in address:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
            packed = socket.inet_pton(socket.AF_INET6, address)
            fcntl.ioctl(control, 0x8916, packed + struct.pack("Ii", 128, socket.if_nametoindex("lo")))
            for _ in range(200):
                # The kernel takes a moment to believe that nobody else has it.
                try:
                    return control.bind((address, 0))
                except OSError:
                    time.sleep(0.05)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in [(0x8916, address), (0x891C, "255.255.255.255")]:
            packed = struct.pack("16sHH4s16x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(control, request, packed[:40])


def reach(address, port=80, silent=True):
    """Whether packets can be sent there: an answer and a refusal from afar mean so, and silence, if it is to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if CONTROL:
        own(address)
        server = socket.create_server((address, port), family=family)
        threading.Thread(target=server.accept, daemon=True).start()
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(SECONDS)
        try:
            client.connect((address, port))
        except TimeoutError:
            return "packets leave, nobody answers" if silent else ""
        except ConnectionRefusedError:
            return "it was refused from afar"
        return "connected"


def ask(address, port=53):
    """A question to a name server, by UDP."""
    if CONTROL:
        own(address)
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, port))

        def answer():
            question, asker = server.recvfrom(512)
            server.sendto(question, asker)

        threading.Thread(target=answer, daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1"
        client.sendto(question, (address, port))
        try:
            return client.recv(512)
        except TimeoutError:
            return "packets leave, nobody answers"


@probe("reach ports of the host's loopback", control="host", full="also")
def host_loopback():
    for address in ["127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1"]:
        way(address, lambda address=address: [socket.create_connection((address, HOST_PORT), SECONDS)])


@probe("reach the clouds' metadata services", control="network")
def metadata():
    for address in METADATA + METADATA_6:
        way(address, lambda address=address: reach(address))


@probe("reach the world outside", control="network")
def outside():
    for address in ["192.0.2.1", "10.0.0.1", "172.17.0.1", "192.168.0.1", "2001:db8::1"]:
        way(address, lambda address=address: reach(address, 443))


@probe("ask name servers, and so carry data out", control="network")
def names():
    for address in ["192.0.2.53", "8.8.8.8", "169.254.169.253"]:
        way(address, lambda address=address: ask(address))


@probe("reach unix sockets of the host", control="host", full="also")
def unix_sockets():
    def dial(address, kind=socket.SOCK_STREAM):
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(address)
        return "connected"

    way("an abstract one", lambda: dial("\0" + os.environ["HOST_ABSTRACT"]))
    way("the spawner's", lambda: dial(os.environ["HOST_STATE"] + "/spawner.sock", socket.SOCK_SEQPACKET))

    def listed():
        with open("/proc/net/unix") as file:
            return [line for line in file if os.environ["HOST_ABSTRACT"] in line]

    way("the list of them", listed)


@probe("make packets by hand", control="network", full="also")
def raw_packets():
    way("ICMP", lambda: [socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)])
    way("ICMP of version 6", lambda: [socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)])
    way("any protocol", lambda: [socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)])
    way("of a link", lambda: [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))])
    way("of a link, cooked", lambda: [socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))])


@probe("speak to the kernel's subsystems", control="network", full="also")
def netlink():
    kinds = {"sockets": 4, "transforms": 6, "SELinux": 7, "iSCSI": 8, "audit": 9, "lookups": 10, "connector": 11,
             "netfilter": 12, "device events": 15, "generic": 16}
    for name, number in kinds.items():
        way(name, lambda number=number: [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, number)])


@probe("change its network", control="network", full="also")
def change_interfaces():
    def link_down():
        # RTM_NEWLINK of the interface 1, the loopback, not up.
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
            body = struct.pack("BxHiII", 0, 0, 1, 0, 1)
            route.send(struct.pack("IHHII", 16 + len(body), 16, 5, 1, 0) + body)
            code = struct.unpack_from("i", route.recv(4096), 16)[0]
        if code:
            raise OSError(-code, "RTM_NEWLINK")
        return True

    way("an address", lambda: [own("192.0.2.9")])
    way("the interface up", lambda: [interface_up()])
    way("the interface down, by netlink", link_down)

    def promiscuous():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", 0x141))
        return True

    way("the interface promiscuous", promiscuous)


@probe("use the sockets between a virtual machine and its host", control="host")
def vsock():
    def dial(cid):
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
            return client.fileno()

    way("to the host", lambda: dial(2))
    way("as packets", lambda: [socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET)])


@probe("use the kernel's cipher sockets", control="host")
def cipher_sockets():
    way("AF_ALG", lambda: [socket.socket(38, socket.SOCK_SEQPACKET)])


@probe("use families of sockets that are seldom tried", control="network", full="also")
def seldom_families():
    families = {"AX.25": 3, "IPX": 4, "AppleTalk": 5, "X.25": 9, "RDS": 21, "LLC": 26, "CAN": 29, "TIPC": 30,
                "Bluetooth": 31, "NFC": 39, "KCM": 41, "SMC": 43, "XDP": 44}
    for name, number in families.items():
        kind = socket.SOCK_DGRAM if name in ("LLC", "TIPC") else socket.SOCK_RAW
        way(name, lambda number=number, kind=kind: [socket.socket(number, kind)])


@probe("load kernel modules by asking for pairs of seldom sockets", control="host")
def seldom_pairs():
    for name, number in {"VSOCK": 40, "packet": 17, "TIPC": 30, "Bluetooth": 31, "netlink": 16}.items():
        # No such family makes pairs, as the kernel says once it has looked for it.
        kind = socket.SOCK_STREAM if name in ("VSOCK", "TIPC") else socket.SOCK_RAW
        way(name, lambda number=number, kind=kind: seldom_pair(number, kind), taken=True)


def seldom_pair(number, kind):
    try:
        return call("socketpair", number, kind, 0, bytes(8))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "it was made, and then refused"
        raise


@probe("listen on ports of the privileged", control="network", full="also")
def low_ports():
    for port in [22, 53, 80, 443]:
        def listen(port=port):
            if CONTROL:
                interface_up()
            return [socket.create_server(("0.0.0.0", port))]

        way(str(port), listen)


@probe("pass for another in the credentials of a unix socket", control="host")
def forged_credentials():
    def forge(pid, uid, gid):
        left, right = socket.socketpair(socket.AF_UNIX)
        right.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        mine = array.array("i", [pid, uid, gid])
        left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, mine)])
        return True

    way("root", lambda: forge(os.getpid(), 0, 0) if os.getuid() or CONTROL else False)
    way("init", lambda: forge(1, os.getuid(), os.getgid()))
