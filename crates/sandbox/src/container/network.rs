//! What a sandbox has of a network: its own loopback, with the sockets that the platform listens on.
//!
//! A socket may be asked for at an address that is not the loopback's: then the loopback gets that address too, so
//! that code which dials the address itself comes to the platform like code that dials a name.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, listen, socket_with,
    sockopt::{set_ipv6_v6only, set_socket_reuseport},
};

use super::{
    netlink::{CREATE, Message, Netlink},
    sys,
};
use crate::{RESOLVER_PORT, Spec};

/// Where nearly every spec wants a listener (the Runtime API of Lambda): bound ahead, and closed again for a spec
/// that does not name it.
const USUAL_LISTENER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9_001));
/// And where nearly every spec wants its resolver.
pub(super) const USUAL_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// Connections that wait to be accepted: as many as the standard library allows.
const BACKLOG: i32 = 128;
/// The loopback is the first interface of every namespace.
const LOOPBACK_INDEX: u32 = 1;

// Message types and attributes: `rtnetlink(7)`.
const RTM_NEWADDR: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// The kernel need not ask others whether they have the address: there are none.
const IFA_F_NODAD: u32 = 2;

/// The sockets that are opened before the spec is known.
#[derive(Debug)]
pub(super) struct Usual {
    listener: OwnedFd,
    resolver: OwnedFd,
}

impl Usual {
    /// Brings up the loopback of this process' namespace and opens the usual sockets.
    pub(super) fn open() -> io::Result<Self> {
        let control = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        sys::loopback_up(control.as_fd())?;
        Ok(Self { listener: listener(&USUAL_LISTENER)?, resolver: resolver(USUAL_RESOLVER)? })
    }
}

/// Opens the sockets of a spec: the listeners in their order, then the resolver's, if there is one. The usual ones
/// are at their place.
pub(super) fn open(spec: &Spec, usual: Usual) -> io::Result<Vec<OwnedFd>> {
    let elsewhere = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified();
    let more: BTreeSet<IpAddr> = spec.listeners.iter().map(SocketAddr::ip).filter(elsewhere).collect();
    if !more.is_empty() {
        let mut netlink = Netlink::open(None)?;
        for address in more {
            netlink.ask(new_address(LOOPBACK_INDEX, address, if address.is_ipv4() { 32 } else { 128 }))?;
        }
    }
    let mut sockets = Vec::with_capacity(spec.listeners.len() + 1);
    let mut ahead = spec.listeners.contains(&USUAL_LISTENER).then_some(usual.listener);
    for address in &spec.listeners {
        let taken = ahead.take_if(|_| *address == USUAL_LISTENER);
        sockets.push(taken.map_or_else(|| listener(address), Ok)?);
    }
    match spec.resolver {
        Some(USUAL_RESOLVER) => sockets.push(usual.resolver),
        Some(address) => sockets.push(resolver(address)?),
        None => {}
    }
    Ok(sockets)
}

/// Listens at an address. The port may have another listener, at every address or at one: what is dialled goes to
/// the one that names its address. Nobody else can join them, since the code is another user.
fn listener(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn resolver(address: IpAddr) -> io::Result<OwnedFd> {
    let socket = UdpSocket::bind((address, RESOLVER_PORT))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Gives an interface an address.
fn new_address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let family = u8::try_from(family).unwrap_or_default();
    let fixed = [[family, prefix, 0, 0], index.to_ne_bytes()].concat();
    Message::new(RTM_NEWADDR, CREATE, &fixed)
        .with(IFA_LOCAL, &bytes)
        .with(IFA_ADDRESS, &bytes)
        .with(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes())
}
