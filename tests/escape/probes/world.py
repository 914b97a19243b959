"""A network of its own, as code has that may reach everything: what it does not lead to."""

import concurrent.futures
import os
import socket
import struct

from network import HOST_PORT, METADATA, METADATA_6, SECONDS, own, reach
from probe import CONTROL, Absent, probe, way

HOST_ADDRESSES = os.environ.get("HOST_ADDRESSES", "").split()
HOST_ANY_PORT = int(os.environ.get("HOST_ANY_PORT", "0"))
VICTIM_PORT = int(os.environ.get("VICTIM_PORT", "0"))
NEAR = 64  # Ranges to either side in which neighbours are looked for.
SOMEWHERE = "192.0.2.77"


def mine():
    """Its own address: where it would send from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect((SOMEWHERE, 9))
        return udp.getsockname()[0]


def shifted(address, by):
    return socket.inet_ntoa(struct.pack("!I", struct.unpack("!I", socket.inet_aton(address))[0] + by))


def dial(address, port):
    """Whether somebody is there: an answer, or a refusal."""
    try:
        with socket.create_connection((address, port), SECONDS):
            return f"{address} connected"
    except ConnectionRefusedError:
        return f"{address} refused"
    except OSError:
        return ""


def interface():
    return b"lo" if CONTROL else b"eth0"


@probe("reach the host by its addresses", control="host", runc="none: it has no such network", full="only")
def host_addresses():
    for address in HOST_ADDRESSES:
        way(address, lambda address=address: dial(address, HOST_ANY_PORT))
        if not CONTROL:
            way(f"{address}, where only its loopback listens", lambda address=address: dial(address, HOST_PORT))
    way("the gateway", lambda: dial("127.0.0.1" if CONTROL else shifted(mine(), -1), HOST_ANY_PORT))


@probe("reach the clouds' metadata services", control="network", runc="none: it has no such network", full="only")
def cloud():
    for address in METADATA + METADATA_6 + ["168.63.129.16"]:
        way(address, lambda address=address: reach(address, silent=False))


@probe("reach a neighbour", control="network", runc="none: it has no such network", neighbour=True, full="only")
def neighbours():
    def look():
        near = ["127.0.0.1"] if CONTROL else [shifted(mine(), 4 * by) for by in range(-NEAR, NEAR + 1) if by]
        with concurrent.futures.ThreadPoolExecutor(2 * NEAR) as pool:
            return " ".join(filter(None, pool.map(lambda address: dial(address, VICTIM_PORT), near)))

    way("by its address", look)


@probe("send as a neighbour", control="network", runc="none: it has no such network", full="only")
def spoofed():
    def ready():
        """The neighbour's address."""
        if CONTROL:
            own(SOMEWHERE)
            return "203.0.113.9"
        return shifted(mine(), 4)

    def bound():
        neighbour = ready()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for option in [19, 15]:  # IP_TRANSPARENT, IP_FREEBIND
                try:
                    udp.setsockopt(socket.IPPROTO_IP, option, 1)
                except OSError:
                    pass
            udp.bind((neighbour, 0))
            udp.sendto(b"x", (SOMEWHERE, 9))
            return True

    def told():
        neighbour = ready()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                udp.setsockopt(socket.IPPROTO_IP, 19, 1)
            except OSError:
                pass
            info = struct.pack("i4s4s", 0, socket.inet_aton(neighbour), bytes(4))
            udp.sendmsg([b"x"], [(socket.IPPROTO_IP, 8, info)], 0, (SOMEWHERE, 9))  # IP_PKTINFO
            return True

    def answer_for():
        """An answer to the question who has the neighbour's address (RFC 826)."""
        neighbour = socket.inet_aton(ready())
        packet = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 2, b"\2\0\0\0\0\1", neighbour, b"\xff" * 6, neighbour)
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as link:
            return link.sendto(packet, (interface().decode(), 0x0806, 0, 0, b"\xff" * 6))

    def neighbour_table():
        # RTM_NEWNEIGH, permanent: packets for the gateway go to another's hardware.
        ready()
        index = socket.if_nametoindex(interface().decode())
        body = struct.pack("BxxxiHBB", socket.AF_INET, index, 0x80, 0, 1)
        body += struct.pack("HH4s", 8, 1, socket.inet_aton("100.96.0.1"))
        body += struct.pack("HH6sxx", 10, 2, b"\2\0\0\0\0\1")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
            route.send(struct.pack("IHHII", 16 + len(body), 28, 5 | 0x400, 1, 0) + body)
            code = struct.unpack_from("i", route.recv(4096), 16)[0]
        if code:
            raise OSError(-code, "RTM_NEWNEIGH")
        return True

    way("from its address", bound)
    way("with its address beside the packet", told)
    way("as the one that has its address", answer_for)
    way("by the table of neighbours", neighbour_table)


@probe("take a neighbour's address, or another way out", control="network", runc="none: it has no such network",
       full="only")
def taken():
    import fcntl

    def address():
        if CONTROL:
            own("192.0.2.8")
        wanted = "192.0.2.9" if CONTROL else shifted(mine(), 4)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            packed = struct.pack("16sHH4s16x", interface() + b":1", socket.AF_INET, 0, socket.inet_aton(wanted))
            fcntl.ioctl(control, 0x8916, packed[:40])  # SIOCSIFADDR
        return True

    def route():
        if CONTROL:
            own("192.0.2.8")
        index = socket.if_nametoindex(interface().decode())
        body = struct.pack("BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 4, 253, 1, 0)
        body += struct.pack("HH4s", 8, 1, socket.inet_aton("169.254.169.254")) + struct.pack("HHi", 8, 4, index)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as routes:
            routes.send(struct.pack("IHHII", 16 + len(body), 24, 5 | 0x400, 1, 0) + body)
            code = struct.unpack_from("i", routes.recv(4096), 16)[0]
        if code:
            raise OSError(-code, "RTM_NEWROUTE")
        return True

    way("an address", address)
    way("a route", route)

    def hardware():
        if CONTROL:
            raise Absent("a loopback has no such address")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, 0x8924, struct.pack("16sH6s16x", interface(), 1, b"\2\0\0\0\0\1")[:40])  # SIOCSIFHWADDR
        return True

    way("an address of hardware", hardware)
