//! Bytes of one connection, both ways, until both sides have ended or nothing has come for long.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rouse_sandbox::Stream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{Instant, sleep_until},
};

/// What is read at once: a connection holds two of these.
const BUFFER_BYTES: usize = 16 << 10;
/// How long a connection may be without a byte. Longer than any instance is kept frozen, so that a freeze alone
/// never ends one.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(3_600);

/// Bytes that went through, of one instance or of a node.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// Pipes until both sides have ended. An end of one side is passed on and the other goes on; what breaks on one
/// side breaks on the other.
pub(super) async fn pipe(inside: Stream, outside: Stream, bytes: &Bytes) -> io::Result<()> {
    let begun = Instant::now();
    let last_ms = AtomicU64::new(0);
    let moved = |count: &AtomicU64, length: usize| {
        count.fetch_add(length as u64, Ordering::Relaxed);
        last_ms.store(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    };
    let mut inside = inside;
    let mut outside = outside;
    let result = {
        let (mut from_code, mut to_code) = split(&mut inside);
        let (mut from_there, mut to_there) = split(&mut outside);
        let both = async {
            tokio::try_join!(
                copy(&mut from_code, &mut to_there, |length| moved(&bytes.sent, length)),
                copy(&mut from_there, &mut to_code, |length| moved(&bytes.received, length)),
            )
        };
        let idle = async {
            loop {
                let until = begun + Duration::from_millis(last_ms.load(Ordering::Relaxed)) + IDLE_MAX;
                if until <= Instant::now() {
                    return;
                }
                sleep_until(until).await;
            }
        };
        tokio::select! {
            result = both => result.map(|_| ()),
            () = idle => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    if result.is_err() {
        reset(&inside);
        reset(&outside);
    }
    result
}

/// Lets the other side see that its connection broke, and not that it ended.
pub(super) fn reset(stream: &Stream) {
    if let Stream::Tcp(stream) = stream {
        // It is closed anyway.
        let _ = stream.set_zero_linger();
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: impl Fn(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        moved(length);
    }
}
