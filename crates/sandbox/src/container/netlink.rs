//! Messages of `netlink(7)`, as far as networks of sandboxes need them: built, sent, and answered by an
//! acknowledgement.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 1 | 4;
/// `NLM_F_EXCL | NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x200 | 0x400;
/// The type of an acknowledgement: `NLMSG_ERROR`, with zero for success.
const ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;

/// A socket to the part of the kernel that keeps networks, in the namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one to this family; none is the first, that of links, addresses and routes.
    pub(super) fn open(family: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, family)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a message and waits for its acknowledgement, which the kernel gives before the call returns.
    pub(super) fn ask(&mut self, mut message: Message) -> io::Result<()> {
        self.sequence += 1;
        message.finish(self.sequence);
        send(self.socket.as_fd(), &message.bytes, SendFlags::empty())?;
        let mut answer = [0; 8192];
        loop {
            let (length, _) = match recv(self.socket.as_fd(), &mut answer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                received => received?,
            };
            let mut rest = &answer[..length];
            while let Some((kind, body, next)) = split(rest) {
                if kind == ERROR {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                rest = next;
            }
        }
    }
}

/// The type and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// One message: a header, a fixed part, and attributes.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of this type with more flags and its fixed part.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend(attribute(kind, value));
        self
    }

    fn finish(&mut self, sequence: u32) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// An attribute alone, to be the value of another one.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_know_their_length() {
        let mut message = Message::new(20, CREATE, &[2, 32, 0, 0]).with(3, b"lo\0").with(1, &[7]);
        message.finish(9);
        let bytes = message.bytes;
        let (kind, body, rest) = split(&bytes).expect("a message");
        assert_eq!((kind, rest.len(), bytes.len() % 4), (20, 0, 0));
        assert_eq!(body[4..], [7, 0, 3, 0, b'l', b'o', 0, 0, 5, 0, 1, 0, 7, 0, 0, 0]);
    }

    #[test]
    fn the_kernel_answers_a_request_that_cannot_be() {
        let mut netlink = Netlink::open(None).expect("a socket");
        // An address of an interface that is not there.
        let fixed = [[2, 32, 0, 0], u32::MAX.to_ne_bytes()].concat();
        let message = Message::new(20, CREATE, &fixed).with(2, &[192, 0, 2, 1]);
        let refused = netlink.ask(message).expect_err("no such interface");
        assert!(refused.raw_os_error().is_some(), "{refused}");
    }
}
