//! A stream of bytes as pieces, between a thread that may block and a task that may not.

use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc;

/// The size of a piece, but for the last: what a bucket's client reads at once.
pub(super) const PIECE_BYTES: usize = 8 << 20;
/// Pieces that wait.
const WAITING_MAX: usize = 2;

/// Writes pieces.
#[derive(Debug)]
pub(super) struct Filling {
    sender: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

/// Reads pieces.
#[derive(Debug)]
pub(super) struct Draining {
    receiver: mpsc::Receiver<Result<Bytes, String>>,
    piece: Bytes,
}

pub(super) fn filling() -> (Filling, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Filling { sender, piece: BytesMut::new() }, receiver)
}

pub(super) fn draining() -> (mpsc::Sender<Result<Bytes, String>>, Draining) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (sender, Draining { receiver, piece: Bytes::new() })
}

impl Filling {
    /// Sends what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the backup any more");
        self.sender.blocking_send(piece).map_err(gone)
    }
}

impl Write for Filling {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..some]);
        if self.piece.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Draining {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let some = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..some]);
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_in_pieces_and_a_failure_is_told() {
        let (mut filling, mut pieces) = filling();
        let bytes: Vec<u8> =
            (0..PIECE_BYTES * 2 + 5).map(|n| u8::try_from(n % 251).expect("small")).collect();
        let written = bytes.clone();
        let writing = tokio::task::spawn_blocking(move || {
            written.chunks(700_001).try_for_each(|chunk| filling.write_all(chunk))?;
            filling.finish()
        });
        let (sender, mut draining) = draining();
        let reading = tokio::task::spawn_blocking(move || {
            let mut read = Vec::new();
            let end = draining.read_to_end(&mut read);
            (read, end.map_err(|error| error.to_string()))
        });
        let mut lengths = Vec::new();
        while let Some(piece) = pieces.recv().await {
            lengths.push(piece.len());
            sender.send(Ok(piece)).await.expect("taken");
        }
        writing.await.expect("a task").expect("written");
        assert_eq!(lengths, [PIECE_BYTES, PIECE_BYTES, 5]);
        sender.send(Err("it is away".to_owned())).await.expect("taken");
        drop(sender);
        let (read, end) = reading.await.expect("a task");
        assert!(read == bytes && end == Err("it is away".to_owned()));
    }
}
