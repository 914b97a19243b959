//! The Lambda Runtime API at its barest, to see how quick a client is without a platform around it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// How long a client may take for one call.
const CALL_MAX: Duration = Duration::from_secs(30);
/// An invocation, as a client is handed it.
const EVENT: &str = "{}";

/// One call, answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    /// When the answer had been read.
    pub(super) at: Instant,
    /// From handing the invocation out until then.
    pub(super) took: Duration,
}

/// A Runtime API of one client.
pub(super) struct RuntimeApi {
    pub(super) address: SocketAddr,
    answers: Receiver<Answered>,
}

#[derive(Default)]
struct Turn {
    left: Mutex<(usize, Option<Instant>)>,
    changed: Condvar,
}

impl RuntimeApi {
    /// Hands out this many invocations, one after the other; then clients wait without end.
    pub(super) fn start(calls: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (tell, answers) = mpsc::channel();
        let turn = Arc::new(Turn { left: Mutex::new((calls, None)), changed: Condvar::new() });
        // Ends with this process, as do the threads of its connections: there is one of each a sample.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (turn, tell) = (Arc::clone(&turn), tell.clone());
                thread::spawn(move || drop(connection(stream, &turn, &tell)));
            }
        });
        Ok(Self { address, answers })
    }

    /// The next answer.
    pub(super) fn answered(&self) -> Result<Answered> {
        self.answers.recv_timeout(CALL_MAX).context("the client did not answer an invocation")
    }
}

fn connection(stream: TcpStream, turn: &Turn, tell: &Sender<Answered>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut state = turn.left.lock().unwrap_or_else(PoisonError::into_inner);
        if first.starts_with("GET ") {
            while state.0 == 0 {
                state = turn.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.0 -= 1;
            state.1 = Some(Instant::now());
            drop(state);
            let deadline = u64::MAX >> 16;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
                 lambda-runtime-deadline-ms: {deadline}\r\n\
                 lambda-runtime-invoked-function-arn: arn:aws:lambda:local:0:function:bench\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{EVENT}",
                EVENT.len()
            );
            writer.write_all(answer.as_bytes())?;
        } else {
            let at = Instant::now();
            let took = state.1.take().map(|handed| at - handed);
            drop(state);
            writer.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
            if let Some(took) = took {
                let _ = tell.send(Answered { at, took });
            }
        }
    }
}
