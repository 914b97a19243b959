//! A component's standard output and error, cut into lines, bounded per call.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use rouse_types::log::LINE_BYTES_MAX;
pub use rouse_types::log::Stream;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// Takes each whole line. Called in the thread that runs the component: it must not block.
pub type LogSink = Arc<dyn Fn(Stream, &str) + Send + Sync>;

/// What the call of the moment may still write, and the line that is not yet whole.
struct Buffer {
    sink: LogSink,
    line: Vec<u8>,
    left: u64,
    dropped: u64,
}

impl Buffer {
    fn emit(&mut self, stream: Stream) {
        (self.sink)(stream, String::from_utf8_lossy(&self.line).trim_end_matches('\r'));
        self.line.clear();
    }
}

/// One of the two streams of an instance.
#[derive(Clone)]
pub(crate) struct Output {
    stream: Stream,
    buffer: Arc<Mutex<Buffer>>,
}

impl Output {
    /// A stream that passes at most `bytes_max` bytes on to the sink.
    pub(crate) fn new(stream: Stream, sink: LogSink, bytes_max: u64) -> Self {
        let buffer = Buffer { sink, line: Vec::new(), left: bytes_max, dropped: 0 };
        Self { stream, buffer: Arc::new(Mutex::new(buffer)) }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the stream to the next call of the same instance.
    pub(crate) fn begin(&self, sink: LogSink, bytes_max: u64) {
        *self.buffer() = Buffer { sink, line: Vec::new(), left: bytes_max, dropped: 0 };
    }

    fn take(&self, mut bytes: &[u8]) {
        let mut buffer = self.buffer();
        let kept = usize::try_from(buffer.left).unwrap_or(usize::MAX).min(bytes.len());
        buffer.left -= kept as u64;
        buffer.dropped += (bytes.len() - kept) as u64;
        bytes = &bytes[..kept];
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - buffer.line.len();
            let end = bytes.iter().take(room).position(|&b| b == b'\n');
            let (part, rest) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => bytes.split_at(room.min(bytes.len())),
            };
            buffer.line.extend_from_slice(part);
            bytes = rest;
            if end.is_some() || buffer.line.len() == LINE_BYTES_MAX {
                buffer.emit(self.stream);
            }
        }
    }

    /// Passes on what is left when a call ends, and says what was dropped.
    pub(crate) fn finish(&self) {
        let mut buffer = self.buffer();
        if !buffer.line.is_empty() {
            buffer.emit(self.stream);
        }
        if buffer.dropped > 0 {
            let text =
                format!("{} bytes of output were dropped: the limit of one call is reached", buffer.dropped);
            (buffer.sink)(Stream::Platform, &text);
            buffer.dropped = 0;
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(bytes_max: u64, writes: &[&[u8]]) -> Vec<(Stream, String)> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let sink: LogSink = Arc::new(move |stream, line: &str| {
            sink.lock().expect("lines").push((stream, line.to_owned()));
        });
        let output = Output::new(Stream::Stdout, sink, bytes_max);
        for bytes in writes {
            output.take(bytes);
        }
        output.finish();
        std::mem::take(&mut *lines.lock().expect("lines"))
    }

    #[test]
    fn writes_of_any_size_become_lines() {
        let lines = collect(100, &[b"a", b"b\nc\r\n", b"\n", b"end"]);
        let text: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(text, ["ab", "c", "", "end"]);
    }

    #[test]
    fn what_is_over_the_limit_is_dropped_and_said() {
        let lines = collect(5, &[b"12345678\n"]);
        assert_eq!(lines[0], (Stream::Stdout, "12345".to_owned()));
        assert_eq!(lines[1].0, Stream::Platform);
        assert!(lines[1].1.starts_with("4 bytes"), "{lines:?}");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let lines = collect(1 << 20, &[&[b'x'; LINE_BYTES_MAX + 10]]);
        assert_eq!(lines.iter().map(|(_, line)| line.len()).collect::<Vec<_>>(), [LINE_BYTES_MAX, 10]);
    }
}
