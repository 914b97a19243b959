//! Zstandard (RFC 8878) of several frames in a row, as some tools write layers.

use std::io::{self, Read};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// Of the past that a frame may refer to, and so memory: what `zstd --ultra -22` asks for.
const WINDOW_BYTES_MAX: u64 = 128 << 20;
/// Frames that hold nothing of the content have sixteen magic numbers: RFC 8878 §3.1.2.
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// Reads what was compressed.
pub(crate) struct Zstd<R: Read> {
    /// Between frames, the source alone.
    state: State<R>,
}

enum State<R: Read> {
    Between(R),
    Within(Box<StreamingDecoder<Peeked<R>, FrameDecoder>>),
    Ended,
}

impl<R: Read> Zstd<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { state: State::Between(from) }
    }

    /// Opens the next frame that has content, or finds the end.
    fn next_frame(mut from: R) -> io::Result<State<R>> {
        loop {
            let mut head = Vec::with_capacity(4);
            from.by_ref().take(4).read_to_end(&mut head)?;
            if head.is_empty() {
                return Ok(State::Ended);
            }
            let head: [u8; 4] = head
                .try_into()
                .map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, "a frame is cut off"))?;
            if !SKIPPABLE.contains(&u32::from_le_bytes(head)) {
                let source = Peeked { head, at: 0, from };
                let decoder = StreamingDecoder::new_with_max_window_size(source, WINDOW_BYTES_MAX);
                return Ok(State::Within(Box::new(decoder.map_err(io::Error::other)?)));
            }
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            io::copy(&mut from.by_ref().take(u32::from_le_bytes(length).into()), &mut io::sink())?;
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Between(from) => Self::next_frame(from)?,
                State::Within(mut frame) => match frame.read(buffer)? {
                    0 => State::Between(frame.into_inner().from),
                    read => {
                        self.state = State::Within(frame);
                        return Ok(read);
                    }
                },
            };
        }
    }
}

/// A source of which four bytes were looked at.
struct Peeked<R> {
    head: [u8; 4],
    at: usize,
    from: R,
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.head.len() {
            let read = (&self.head[self.at..]).read(buffer)?;
            self.at += read;
            return Ok(read);
        }
        self.from.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_frames_and_those_to_skip_read_as_one_text() {
        // Two frames of raw blocks without a checksum, and one to skip between them.
        let frame = |text: &[u8]| {
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, u8::try_from(text.len()).expect("short")];
            let block = u32::try_from(text.len()).expect("short") << 3 | 1;
            frame.extend_from_slice(&block.to_le_bytes()[..3]);
            frame.extend_from_slice(text);
            frame
        };
        let skip = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3].to_vec();
        let bytes = [frame(b"hello, "), skip, frame(b"world")].concat();
        let mut text = String::new();
        Zstd::new(&bytes[..]).read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello, world");
        assert!(Zstd::new(&bytes[..bytes.len() - 2]).read_to_string(&mut text).is_err());
    }
}
