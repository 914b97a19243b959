//! Reads a stream of JSON values, one a line.

use std::{collections::VecDeque, marker::PhantomData};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use rouse_types::{Code, Refusal};
use serde::de::DeserializeOwned;

use crate::wire::Answer;

/// The longest line that is read: the largest app's deployment, and a log line of 16 KiB, escaped.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The values of a stream as they come.
#[derive(Debug)]
pub struct Lines<T> {
    body: Option<Answer>,
    /// The begin of a line whose end has not come.
    partial: Vec<u8>,
    whole: VecDeque<Bytes>,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(body: Answer) -> Self {
        Self { body: Some(body), partial: Vec::new(), whole: VecDeque::new(), values: PhantomData }
    }

    /// The next value; nothing at the stream's end, and after an error.
    pub async fn next(&mut self) -> Option<Result<T, Refusal>> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                let value = serde_json::from_slice(&line).map_err(|error| {
                    Refusal::new(Code::InvalidResponse, format!("a line is not what it should be: {error}"))
                });
                return Some(value.inspect_err(|_| self.stop()));
            }
            let frame = match self.body.as_mut()?.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.stop();
                    return Some(Err(super::unreachable(error)));
                }
                None => {
                    self.body = None;
                    let rest = std::mem::take(&mut self.partial);
                    self.push(rest.into());
                    continue;
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if self.partial.len() + data.len() > LINE_BYTES_MAX && !data.contains(&b'\n') {
                self.stop();
                return Some(Err(Refusal::new(
                    Code::InvalidResponse,
                    format!("a line has more than {LINE_BYTES_MAX} bytes"),
                )));
            }
            self.take(data);
        }
    }

    fn take(&mut self, mut data: Bytes) {
        while let Some(end) = data.iter().position(|&byte| byte == b'\n') {
            let line = data.split_to(end);
            let _newline = data.split_to(1);
            if self.partial.is_empty() {
                self.push(line);
            } else {
                let mut begun = std::mem::take(&mut self.partial);
                begun.extend_from_slice(&line);
                self.push(begun.into());
            }
        }
        self.partial.extend_from_slice(&data);
    }

    /// An empty line says only that the server is still there.
    fn push(&mut self, line: Bytes) {
        if !line.trim_ascii().is_empty() {
            self.whole.push_back(line);
        }
    }

    fn stop(&mut self) {
        self.body = None;
        self.whole.clear();
        self.partial.clear();
    }
}
