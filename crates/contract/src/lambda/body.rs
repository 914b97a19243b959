//! The body of a streamed answer: pieces as the code posts them, until it ends, its time is up, or the code is gone.

use bytes::Bytes;
use rouse_sandbox::Exit;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{Failure, StreamEnd};
use crate::running::ended;

/// A piece of a streamed answer.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    End(StreamEnd),
}

/// The body of a streamed answer.
#[derive(Debug)]
pub struct Body {
    pieces: Option<mpsc::Receiver<Piece>>,
    exited: watch::Receiver<Option<Exit>>,
    deadline: Instant,
}

impl Body {
    pub(crate) fn new(
        pieces: mpsc::Receiver<Piece>,
        exited: watch::Receiver<Option<Exit>>,
        deadline: Instant,
    ) -> Self {
        Self { pieces: Some(pieces), exited, deadline }
    }

    /// The next piece; how it ended when there is none left.
    ///
    /// # Errors
    /// [`Failure`]: stop the worker then.
    pub async fn chunk(&mut self) -> Result<Result<Bytes, StreamEnd>, Failure> {
        let Some(pieces) = &mut self.pieces else { return Ok(Err(StreamEnd::Complete)) };
        let piece = tokio::select! {
            biased;
            piece = pieces.recv() => piece,
            exit = ended(self.exited.clone()) => return Err(Failure::Exited(exit)),
            () = sleep_until(self.deadline) => return Err(Failure::Timeout),
        };
        if let Some(Piece::Data(data)) = piece {
            return Ok(Ok(data));
        }
        self.pieces = None;
        Ok(Err(match piece {
            Some(Piece::End(end)) => end,
            _ => StreamEnd::Broken,
        }))
    }

    /// When it must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}
