//! What the code writes, split into lines and attributed to calls: to the one that runs or, when none does, that ran
//! last. When several run at once, a line belongs to the call whose id it holds, as the log formats of AWS' runtimes
//! have it; a line that holds none belongs to none.
//!
//! Bounded three times: a line is cut at [`rouse_types::log::LINE_BYTES_MAX`], a call writes at most its share of bytes, and of the
//! standard error the last few lines are kept to explain an exit. What is dropped is counted and told.

mod lines;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use rouse_sandbox::Output;
use rouse_types::{InvocationId, log::Stream};
use tokio::io::AsyncReadExt;

use self::lines::Splitter;
use crate::lock;

/// Lines of standard error that are kept to explain an exit: an exception's last line and where it came from.
const TAIL_LINES: usize = 5;
/// Of each, so many characters: they end up in an error message.
const TAIL_LINE_CHARS: usize = 300;
/// Bytes that code may write while it starts, and after that until its first call.
const INIT_BYTES_MAX: u64 = 256 << 10;

/// One line that the code wrote, or that the platform has to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The call that ran then, or ran last; none while the code was starting.
    pub invocation: Option<InvocationId>,
    /// Where it was written to.
    pub stream: Stream,
    /// Without its end.
    pub text: String,
}

/// Takes lines. It is called on the platform's own thread and must not wait.
pub type LogSink = Arc<dyn Fn(Line) + Send + Sync>;

pub(crate) struct Logs {
    sink: LogSink,
    state: Mutex<State>,
}

struct State {
    /// Those that run.
    running: Vec<Share>,
    /// What belongs to none of them: the start, and the call that ended last.
    rest: Share,
    tail: VecDeque<String>,
}

/// What a call may still write.
#[derive(Debug)]
struct Share {
    invocation: Option<InvocationId>,
    left: u64,
    dropped: u64,
}

impl Share {
    /// Whether so many bytes may be written; counts them.
    fn take(&mut self, bytes: u64, lost: u64) -> bool {
        if bytes > self.left {
            self.left = 0;
            self.dropped += bytes + lost;
            return false;
        }
        self.left -= bytes;
        true
    }

    fn line_of_dropped(&mut self) -> Option<Line> {
        let dropped = std::mem::take(&mut self.dropped);
        let text = format!("{dropped} bytes of log were dropped: more than the function's log limit");
        (dropped > 0).then_some(Line { invocation: self.invocation, stream: Stream::Platform, text })
    }
}

impl State {
    /// Whose this line is.
    fn owner(&mut self, text: &str) -> &mut Share {
        match self.running.len() {
            0 => &mut self.rest,
            1 => &mut self.running[0],
            _ => {
                let named = ids(text)
                    .find_map(|id| self.running.iter().position(|share| share.invocation == Some(id)));
                match named {
                    Some(at) => &mut self.running[at],
                    None => {
                        // It would be wrong to name the call that ended last.
                        self.rest.invocation = None;
                        &mut self.rest
                    }
                }
            }
        }
    }
}

/// What may be a request id in a line: 32 hexadecimal digits in five groups.
fn ids(text: &str) -> impl Iterator<Item = InvocationId> {
    const LENGTH: usize = 36;
    text.split(|c: char| !c.is_ascii_hexdigit() && c != '-')
        .filter(|word| word.len() == LENGTH)
        .filter_map(|word| word.parse().ok())
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

impl Logs {
    pub(crate) fn new(sink: LogSink) -> Self {
        let rest = Share { invocation: None, left: INIT_BYTES_MAX, dropped: 0 };
        let state = State { running: Vec::new(), rest, tail: VecDeque::new() };
        Self { sink, state: Mutex::new(state) }
    }

    /// A call begins, and may write so many bytes.
    pub(crate) fn begin(&self, invocation: InvocationId, bytes: u64) {
        let mut state = lock(&self.state);
        let dropped = state.rest.line_of_dropped();
        // What no call can be told to have written has a share of its own, anew with each call.
        state.rest = Share { invocation: None, left: bytes, dropped: 0 };
        state.running.push(Share { invocation: Some(invocation), left: bytes, dropped: 0 });
        drop(state);
        self.tell(dropped);
    }

    /// A call has ended: what comes late still is its own, until another begins.
    pub(crate) fn end(&self, invocation: InvocationId) {
        let mut state = lock(&self.state);
        let at = state.running.iter().position(|share| share.invocation == Some(invocation));
        let Some(at) = at else { return };
        let mut share = state.running.swap_remove(at);
        let dropped = share.line_of_dropped();
        let before = state.rest.line_of_dropped();
        state.rest = share;
        drop(state);
        self.tell(before.into_iter().chain(dropped));
    }

    /// There will be no more lines.
    pub(crate) fn end_all(&self) {
        let mut state = lock(&self.state);
        let rest = state.rest.line_of_dropped();
        let dropped: Vec<_> =
            rest.into_iter().chain(state.running.iter_mut().filter_map(Share::line_of_dropped)).collect();
        drop(state);
        self.tell(dropped);
    }

    fn tell(&self, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            (self.sink)(line);
        }
    }

    /// The last lines of standard error.
    pub(crate) fn tail(&self) -> Vec<String> {
        lock(&self.state).tail.iter().cloned().collect()
    }

    fn line(&self, stream: Stream, line: &[u8], cut: u64) {
        let mut text = String::from_utf8_lossy(line).into_owned();
        if cut > 0 {
            text.push_str(&format!(" … ({cut} bytes more)"));
        }
        let invocation = {
            let mut state = lock(&self.state);
            if stream == Stream::Stderr && !text.trim().is_empty() {
                if state.tail.len() == TAIL_LINES {
                    state.tail.pop_front();
                }
                let short = text.chars().take(TAIL_LINE_CHARS).collect();
                state.tail.push_back(short);
            }
            let share = state.owner(&text);
            if !share.take(line.len() as u64 + 1, cut) {
                return;
            }
            share.invocation
        };
        (self.sink)(Line { invocation, stream, text });
    }

    /// Reads an output to its end.
    pub(crate) async fn pump(self: Arc<Self>, mut output: Output, stream: Stream) {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; 8 << 10];
        loop {
            match output.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => splitter.push(&buffer[..read], |line, cut| self.line(stream, line, cut)),
            }
        }
        splitter.end(|line, cut| self.line(stream, line, cut));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_a_calls_share_is_dropped_and_told() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink: LogSink = Arc::new({
            let seen = Arc::clone(&seen);
            move |line: Line| lock(&seen).push(line.text)
        });
        let logs = Logs::new(sink);
        let call = InvocationId::new();
        logs.begin(call, 10);
        for line in [b"12345678".as_slice(), b"123", b""] {
            logs.line(Stream::Stdout, line, 0);
        }
        logs.end(call);
        let seen = lock(&seen);
        assert_eq!(seen[0], "12345678");
        assert!(seen[1].starts_with("5 bytes of log were dropped"), "{seen:?}");
    }

    #[test]
    fn lines_of_several_calls_are_told_apart_by_the_id_in_them() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink: LogSink = Arc::new({
            let seen = Arc::clone(&seen);
            move |line: Line| lock(&seen).push((line.text, line.invocation))
        });
        let logs = Logs::new(sink);
        let (a, b) = (InvocationId::new(), InvocationId::new());
        logs.begin(a, 1_000);
        logs.line(Stream::Stdout, b"alone", 0);
        logs.begin(b, 1_000);
        let (of_a, of_b) = (format!("[INFO]\t{a}\thello"), format!(r#"{{"requestId":"{b}"}}"#));
        for line in [of_a.as_bytes(), of_b.as_bytes(), b"whose?"] {
            logs.line(Stream::Stdout, line, 0);
        }
        logs.end(a);
        logs.line(Stream::Stdout, b"alone again", 0);
        logs.end(b);
        logs.line(Stream::Stdout, b"late", 0);
        let owners: Vec<_> = lock(&seen).iter().map(|(_, owner)| *owner).collect();
        assert_eq!(owners, [Some(a), Some(a), Some(b), None, Some(b), Some(b)]);
    }
}
