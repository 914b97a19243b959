//! A connection as bytes: which protocol it speaks, and that its other side goes on reading.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long the other side may read nothing while there is something to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// TCP or a unix socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A stream whose first bytes were read already, and that is given up when its other side stops reading.
pub(super) struct Guarded<S> {
    stream: S,
    first: [u8; PREFACE.len()],
    unread: std::ops::Range<usize>,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Reads until it is clear what the client speaks. The caller bounds the time.
pub(super) async fn sniff<S: Stream>(mut stream: S) -> io::Result<(Protocol, Guarded<S>)> {
    let mut first = [0; PREFACE.len()];
    let mut have = 0;
    while have < first.len() && first[..have] == PREFACE[..have] {
        match stream.read(&mut first[have..]).await? {
            0 => break,
            read => have += read,
        }
    }
    let protocol = if first == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((protocol, Guarded { stream, first, unread: 0..have, stalled: None }))
}

impl<S: Stream> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.unread.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let taken = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.first[this.unread.start..this.unread.start + taken]);
        this.unread.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> Guarded<S> {
    /// Counts the time of a write that does not come forward.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let sleep = || Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIMEOUT));
        match self.stalled.get_or_insert_with(sleep).as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Stream> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn sniffed(first: &[u8]) -> (Protocol, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1_024);
        client.write_all(first).await.expect("room");
        drop(client);
        let (protocol, mut stream) = sniff(server).await.expect("bytes");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("the rest");
        (protocol, all)
    }

    #[tokio::test]
    async fn the_protocol_is_told_by_the_first_bytes_and_none_is_lost() {
        for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI", b"PRI * HTTP/1.1\r\n\r\n", b"", b"P"] {
            assert_eq!(sniffed(first).await, (Protocol::Http1, first.to_vec()));
        }
        let first = [PREFACE, &b"frames"[..]].concat();
        assert_eq!(sniffed(&first).await, (Protocol::Http2, first));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (mut client, server) = tokio::io::duplex(16);
        client.write_all(b"GET ").await.expect("room");
        let (_, mut stream) = sniff(server).await.expect("bytes");
        let error = stream.write_all(&[0; 100]).await.expect_err("it does not read");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
