//! The pair of interfaces of one sandbox, by `rtnetlink(7)` and `veth(4)`.

use std::{io, net::Ipv4Addr, os::fd::AsFd};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with},
    process::Pid,
};

use super::{
    super::netlink::{CREATE, Message, Netlink, attribute},
    Link,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// No address of the link's own: `IN6_ADDR_GEN_MODE_NONE`.
const GEN_MODE_NONE: u8 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

/// What the inner end is called, as in every other engine's containers.
const INNER: &str = "eth0";
/// Two addresses, and those of the network and of its broadcast.
const PREFIX: u8 = 30;

/// Makes the pair, with the inner end in the network of this process, and sets up the outer end.
///
/// # Errors
/// `EEXIST` when somebody has the range; what was made is gone again on any other.
pub(super) fn make(netlink: &mut Netlink, link: Link, group: u32, inside: Pid) -> io::Result<()> {
    let pid = inside.as_raw_nonzero().get().unsigned_abs();
    let mut peer = interface(0, false).to_vec();
    peer.extend(attribute(IFLA_IFNAME, &zero_ended(INNER)));
    peer.extend(attribute(IFLA_MTU, &link.mtu.to_ne_bytes()));
    peer.extend(attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes()));
    let make = Message::new(RTM_NEWLINK, CREATE, &interface(0, false))
        .with(IFLA_IFNAME, &zero_ended(&link.name()))
        .with(IFLA_MTU, &link.mtu.to_ne_bytes())
        .with(IFLA_GROUP, &group.to_ne_bytes())
        .with(IFLA_LINKINFO, &veth(&peer));
    netlink.ask(make)?;
    let made = index(&link.name()).and_then(|index| {
        without_version_6(netlink, index);
        netlink.ask(address(index, link.outer()))?;
        netlink.ask(Message::new(RTM_SETLINK, 0, &interface(index, true)))?;
        // For this interface alone: `ip-sysctl` of the kernel, conf/interface/forwarding.
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{}/forwarding", link.name()), "1")
    });
    made.inspect_err(|_| {
        let _ = remove(netlink, link);
    })
}

/// Sets up the inner end, in the network of this process.
pub(in super::super) fn set_up(link: Link) -> io::Result<()> {
    let mut netlink = Netlink::open(None)?;
    let index = index(INNER)?;
    without_version_6(&mut netlink, index);
    netlink.ask(address(index, link.inner()))?;
    netlink.ask(Message::new(RTM_SETLINK, 0, &interface(index, true)))?;
    // `struct rtmsg`: everywhere, through the outer end.
    let family = u8::try_from(libc::AF_INET).unwrap_or_default();
    let route = [family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0];
    let route = Message::new(RTM_NEWROUTE, CREATE, &route)
        .with(RTA_GATEWAY, &link.outer().octets())
        .with(RTA_OIF, &index.to_ne_bytes());
    netlink.ask(route)
}

/// Removes the pair by its outer end.
pub(super) fn remove(netlink: &mut Netlink, link: Link) -> io::Result<()> {
    let message = Message::new(RTM_DELLINK, 0, &interface(0, false));
    netlink.ask(message.with(IFLA_IFNAME, &zero_ended(&link.name())))
}

/// Removes every pair of a group.
pub(super) fn remove_all(netlink: &mut Netlink, group: u32) -> io::Result<()> {
    let message = Message::new(RTM_DELLINK, 0, &interface(0, false));
    netlink.ask(message.with(IFLA_GROUP, &group.to_ne_bytes()))
}

/// Asks for a pair that cannot be, since its inner end has the name of the loopback: the kernel says so once it knows
/// such pairs, and makes nothing.
pub(super) fn probe(netlink: &mut Netlink) -> io::Result<()> {
    let mut peer = interface(0, false).to_vec();
    peer.extend(attribute(IFLA_IFNAME, b"lo\0"));
    let message = Message::new(RTM_NEWLINK, CREATE, &interface(0, false))
        .with(IFLA_IFNAME, b"rouse-probe\0")
        .with(IFLA_LINKINFO, &veth(&peer));
    match netlink.ask(message) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("it made one that cannot be")),
    }
}

fn veth(peer: &[u8]) -> Vec<u8> {
    let peer = attribute(VETH_INFO_PEER, peer);
    [attribute(IFLA_INFO_KIND, b"veth"), attribute(IFLA_INFO_DATA, &peer)].concat()
}

/// `struct ifinfomsg`.
fn interface(index: u32, up: bool) -> [u8; 16] {
    let up = if up { libc::IFF_UP.unsigned_abs() } else { 0 };
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&up.to_ne_bytes());
    fixed[12..].copy_from_slice(&up.to_ne_bytes());
    fixed
}

fn address(index: u32, address: Ipv4Addr) -> Message {
    let family = u8::try_from(libc::AF_INET).unwrap_or_default();
    let fixed = [[family, PREFIX, 0, 0], index.to_ne_bytes()].concat();
    let bytes = address.octets();
    Message::new(RTM_NEWADDR, CREATE, &fixed).with(IFA_LOCAL, &bytes).with(IFA_ADDRESS, &bytes)
}

/// Keeps an interface from giving itself addresses of version 6. All of that version is refused by the table anyway, so
/// a kernel that does not know it is fine.
fn without_version_6(netlink: &mut Netlink, index: u32) {
    let family = u16::try_from(libc::AF_INET6).unwrap_or_default();
    let mode = attribute(family, &attribute(IFLA_INET6_ADDR_GEN_MODE, &[GEN_MODE_NONE]));
    let _ = netlink.ask(Message::new(RTM_SETLINK, 0, &interface(index, false)).with(IFLA_AF_SPEC, &mode));
}

fn index(name: &str) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(name_to_index(socket.as_fd(), name)?)
}

fn zero_ended(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}
