//! What the node and the spawner say to each other, and how it crosses the socket.
//!
//! The socket is of type `SOCK_SEQPACKET`: the kernel keeps the bounds of messages and the file descriptors that
//! belong to each. One connection carries one request, [`Request`]; a sandbox lives as long as its connection:
//!
//! ```text
//!  node                         spawner
//!    ── Start(spec) ───────────▶
//!    ◀─ Started(handles) + fds ──   or Refused, and the end
//!    ── end of writing ────────▶    kill (a node that dies does the same)
//!    ◀─ Exited ─────────────────   nothing is left; the end
//! ```
//!
//! [`Request::Sockets`], [`Request::Report`] and [`Request::Ahead`] are connections of their own, which end with their answer.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Report, cgroup::Version, check, image};
use crate::{Ahead, Error, Exit, Spec, Stats};

/// The largest message: below the smallest send buffer that distributions set (208 KiB), and far above any
/// honest spec.
pub(super) const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// The most listeners of one sandbox: the most destinations of a function, and some of the platform's own.
pub(super) const LISTENERS_MAX: usize = 72;
/// What one message carries, which the kernel limits to 253: the trees of a spec's mounts and of an image's layers;
/// back come fewer: the listeners, the resolver, two outputs and at most four control files.
const FDS_MAX: usize = check::MOUNTS_MAX + image::LAYERS_MAX;
/// Sockets that are made at a time: a server is mostly reached over a few connections that stay.
pub(super) const SOCKETS: usize = 4;

/// What the node asks for: the first message of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Start a sandbox.
    Start(Box<Spec>),
    /// Say what this host can enforce.
    Report,
    /// Say what is held ready for starts.
    Ahead,
    /// Make TCP sockets inside the sandbox of this id, [`SOCKETS`] of them: whoever holds one can connect it there.
    Sockets(String),
}

/// What the spawner answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It runs. The message carries the handles' descriptors.
    Started(Handles),
    /// It does not, and nothing of it is left.
    Refused(Refused),
    /// It has ended, and nothing of it is left.
    Exited(Exit, Stats),
    /// What this host can enforce.
    Report(Report),
    /// What is held ready.
    Ahead(Ahead),
    /// The message carries them.
    Sockets,
}

/// What the descriptors beside [`Reply::Started`] are, in this order: stdout, stderr, the listeners, the
/// resolver if the spec has one, then those that are said to be there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Handles {
    /// How many listeners, the resolver counted along.
    pub(super) sockets: usize,
    /// Two: one that takes the wanted state, one that tells the reached.
    pub(super) freezer: Option<Version>,
    /// `cpu.stat` or `cpuacct.usage`.
    pub(super) cpu: Option<Version>,
    /// `memory.peak` or `memory.max_usage_in_bytes`.
    pub(super) memory_peak: bool,
    /// What the group had used before the spec was there: the interpreter's start, which is not the code's.
    pub(super) cpu_before_us: u64,
}

/// [`Error`] in a form that can be sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Refused {
    Spec(String),
    Host { step: String, errno: i32 },
    Gone,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Spec(what) => Self::Spec(what),
            Refused::Gone => Self::Gone,
            Refused::Host { step, errno } => Self::Host { step, source: io::Error::from_raw_os_error(errno) },
        }
    }
}

impl Refused {
    pub(super) fn host(step: impl Into<String>, source: &io::Error) -> Self {
        // Our own refusals carry no number; EIO is what the kernel calls "something went wrong".
        let errno = source.raw_os_error().unwrap_or(libc::EIO);
        Self::Host { step: step.into(), errno }
    }
}

/// Sends one message with its descriptors. Never waits if the socket does not.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] when the message is too large; else what the kernel says.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_bytes(socket, &postcard::to_stdvec(message).map_err(io::Error::other)?, fds)
}

/// The same for who knows nothing of our encoding.
pub(super) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > MESSAGE_BYTES_MAX || fds.len() > FDS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too large"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message with its descriptors; `None` at the end of the stream.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for what is no such message; else what the kernel says.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    // Most are short, and memory that is written for the first time after a fork is copied page by page.
    let mut bytes = vec![0; next_bytes(socket)?.min(MESSAGE_BYTES_MAX)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(invalid("the message is too large"));
    }
    let message =
        postcard::from_bytes(&bytes[..received.bytes]).map_err(|_| invalid("not a message of ours"))?;
    Ok(Some((message, fds)))
}

/// How long the message is that comes next; zero at the end of the stream.
fn next_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // Of a message that is cut, the kernel says the whole length.
    let (_, whole) = recv(socket, &mut [0_u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC)?;
    Ok(whole)
}

/// The descriptors, borrowed, as [`send`] takes them.
pub(super) fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a socket pair")
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (ours, theirs) = pair();
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        send(ours.as_fd(), &Reply::Exited(Exit::Code(3), Stats::default()), &borrowed(&[write]))
            .expect("sent");
        let (reply, fds) = receive::<Reply>(theirs.as_fd()).expect("received").expect("a message");
        assert!(matches!(reply, Reply::Exited(Exit::Code(3), _)), "{reply:?}");
        rustix::io::write(&fds[0], b"x").expect("the descriptor works");
        assert_eq!(rustix::io::read(&read, &mut [0; 2]).expect("read"), 1);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (ours, theirs) = pair();
        rustix::io::write(&ours, &[0xff; 40]).expect("written");
        let refused = receive::<Request>(theirs.as_fd()).expect_err("garbage");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        drop(ours);
        assert!(receive::<Request>(theirs.as_fd()).expect("the end").is_none());
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent() {
        let (ours, _theirs) = pair();
        let long = Refused::Spec("x".repeat(MESSAGE_BYTES_MAX));
        let refused = send(ours.as_fd(), &Reply::Refused(long), &[]).expect_err("too large");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
