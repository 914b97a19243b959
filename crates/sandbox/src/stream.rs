//! What connects a sandbox with the platform: sockets and pipes of the kernel, or channels in memory for the
//! simulator. Callers see one type, so that nothing above knows which sandbox it talks to.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream, unix::pipe},
    sync::mpsc,
};

/// The platform's end of an address on a sandbox's own loopback.
#[derive(Debug)]
pub enum Listener {
    /// A socket that was bound inside the sandbox's network namespace.
    Tcp(TcpListener),
    /// A unix socket, for sandboxes whose sockets are carried by another channel.
    Unix(UnixListener),
    /// The simulator's.
    Sim(mpsc::Receiver<DuplexStream>),
}

impl Listener {
    /// Waits for the code to dial.
    ///
    /// # Errors
    /// What the kernel says; [`io::ErrorKind::BrokenPipe`] once a simulated sandbox is gone. A kernel's listener
    /// gives no error then: wait for [`crate::Sandbox::exited`] beside it.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for the peer's delayed acknowledgement.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Sim(dialled) => {
                dialled.recv().await.map(Stream::Sim).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

/// A connection with the code inside a sandbox.
#[derive(Debug)]
pub enum Stream {
    /// Over the sandbox's loopback.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
    /// The simulator's.
    Sim(DuplexStream),
}

/// What the code inside a sandbox writes to its standard output or error. It ends when the last process that
/// holds it has gone.
#[derive(Debug)]
pub enum Output {
    /// A pipe. Its 64 KiB are all that a flood can fill: then the writer waits, and the host does not.
    Pipe(pipe::Receiver),
    /// The simulator's.
    Sim(DuplexStream),
}

macro_rules! each {
    ($kind:ident, $self:expr, $inner:ident => $call:expr) => {
        match $self.get_mut() {
            $kind::Tcp($inner) => $call,
            $kind::Unix($inner) => $call,
            $kind::Sim($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(Self, self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(Self, self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(Self, self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
            Self::Sim(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(Self, self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(Self, self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}

impl AsyncRead for Output {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(inner) => Pin::new(inner).poll_read(cx, buf),
            Self::Sim(inner) => Pin::new(inner).poll_read(cx, buf),
        }
    }
}
