//! Events that are acknowledged once they are on the disk: how many a second, and beside whom.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    peers,
    report::{Row, Target},
    suite::{Bench, deploy, function},
};
use crate::platform::Platform;

/// Bytes of an event.
const EVENT: usize = 1_024;
/// Callers at once, each with the next event as soon as its last one was acknowledged.
const CALLERS: usize = 64;
/// How long what was acknowledged may take until it was handled.
const HANDLED_MAX: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(20);

/// One caller: sends an event, and is back when it was acknowledged.
trait Caller: Send {
    fn send(&mut self) -> Result<()>;
}

/// Acknowledged events a second, of all callers together.
fn closed_loop(connect: &(dyn Fn() -> Result<Box<dyn Caller>> + Sync), seconds: u64) -> Result<(u64, f64)> {
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut callers = (0..CALLERS).map(|_| connect()).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let took = thread::scope(|scope| -> Result<f64> {
        let tasks: Vec<_> = callers
            .iter_mut()
            .map(|caller| {
                scope.spawn(|| -> Result<()> {
                    while !over.load(Ordering::Relaxed) {
                        caller.send()?;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        thread::sleep(Duration::from_secs(seconds));
        over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
        }
        Ok(begun.elapsed().as_secs_f64())
    })?;
    let acknowledged = acknowledged.into_inner();
    Ok((acknowledged, acknowledged as f64 / took))
}

/// Asynchronous calls of a function.
struct Rouse {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Rouse {
    fn connect(to: SocketAddr, path: &str) -> Result<Box<dyn Caller>> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {to}\r\nx-rouse-async: true\r\ncontent-type: text/plain\r\n\
             content-length: {EVENT}\r\n\r\n"
        );
        let request = [head.into_bytes(), vec![b'x'; EVENT]].concat();
        Ok(Box::new(Self { stream: BufReader::new(connect(to)?), request }))
    }
}

impl Caller for Rouse {
    fn send(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.request)?;
        let (mut line, mut length) = (String::new(), 0);
        self.stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 202 ") {
            bail!("an event was answered by {line}");
        }
        while line != "\r\n" {
            line.clear();
            self.stream.read_line(&mut line)?;
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        self.stream.read_exact(&mut vec![0; length]).context("read an acknowledgement")
    }
}

/// Messages to a stream of JetStream, by its own protocol: publish with a subject for the answer.
struct JetStream {
    stream: BufReader<TcpStream>,
    message: Vec<u8>,
}

const SUBJECT: &str = "events.bench";

impl JetStream {
    fn connect(to: SocketAddr, number: u64) -> Result<Box<Self>> {
        let mut stream = BufReader::new(connect(to)?);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        write!(stream.get_mut(), "CONNECT {{\"verbose\":false}}\r\nSUB answer.{number} 1\r\n")?;
        let mut message = format!("PUB {SUBJECT} answer.{number} {EVENT}\r\n").into_bytes();
        message.extend([b'x'; EVENT]);
        message.extend(b"\r\n");
        Ok(Box::new(Self { stream, message }))
    }

    /// The next answer, past whatever else the server says.
    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the server closed the connection");
            }
            if line.starts_with("PING") {
                self.stream.get_mut().write_all(b"PONG\r\n")?;
            } else if line.starts_with("MSG ") {
                let length: usize = line.trim_end().rsplit(' ').next().unwrap_or_default().parse()?;
                let mut body = vec![0; length + 2];
                self.stream.read_exact(&mut body)?;
                return Ok(serde_json::from_slice(&body[..length])?);
            } else if line.starts_with("-ERR") {
                bail!("the server says {line}");
            }
        }
    }
}

impl Caller for JetStream {
    fn send(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.message)?;
        let answer = self.answer()?;
        if answer["seq"].as_u64().is_none() {
            bail!("a message was answered by {answer}");
        }
        Ok(())
    }
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Makes the stream that messages are kept in.
fn make_stream(to: SocketAddr) -> Result<()> {
    let mut client = JetStream::connect(to, 0)?;
    let config = format!("{{\"name\":\"bench\",\"subjects\":[\"{SUBJECT}\"],\"storage\":\"file\"}}");
    let subject = "$JS.API.STREAM.CREATE.bench";
    write!(client.stream.get_mut(), "PUB {subject} answer.0 {}\r\n{config}\r\n", config.len())?;
    let answer = client.answer()?;
    if answer["error"].is_object() {
        bail!("no stream: {answer}");
    }
    Ok(())
}

/// One event after the other, each written and on the disk before the next: what group commit is there to beat.
fn one_by_one(folder: &Path, seconds: u64) -> Result<f64> {
    let mut file = fs::File::create(folder.join("one-by-one"))?;
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < Duration::from_secs(seconds) {
        file.write_all(&[b'x'; EVENT])?;
        file.sync_data().context("sync a file")?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// How many events were handled, and how many ended otherwise, since the platform began.
fn handled(rouse: &Platform) -> Result<(u64, u64)> {
    let mut stream = UnixStream::connect(rouse.state.join("run/events.sock"))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: events\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let mut sums = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("rouse_events_attempts_total{")) {
        let count: u64 = line.rsplit(' ').next().unwrap_or_default().trim().parse()?;
        *(if line.contains("\"done\"") { &mut sums.0 } else { &mut sums.1 }) += count;
    }
    Ok(sums)
}

/// Acknowledged events, and until they were handled.
pub(super) fn durable(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "async";
    let rouse = bench.start(&[])?;
    let bytes = fs::read(bench.hello()?)?;
    deploy(&rouse, "hello", &[("hello.wasm".into(), bytes)], &[function("hello", "hello.wasm", "")])?;
    let jetstream = peers::jetstream(&rouse.state)?;
    make_stream(jetstream.address())?;
    let path = Platform::path("hello");
    let ours = || Rouse::connect(rouse.gateway, &path);
    let next = AtomicU64::new(1);
    let theirs = || -> Result<Box<dyn Caller>> {
        Ok(JetStream::connect(jetstream.address(), next.fetch_add(1, Ordering::Relaxed))?)
    };
    let seconds = bench.effort.seconds;
    let (mut rates, mut ends, mut peers, mut singles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut lost = Vec::new();
    for round in 0..bench.effort.rounds {
        if round % 2 == 1 {
            peers.push(closed_loop(&theirs, seconds)?.1);
        }
        let before = handled(&rouse)?.0;
        let begun = Instant::now();
        let (acknowledged, rate) = closed_loop(&ours, seconds)?;
        rates.push(rate);
        let end = begun + HANDLED_MAX;
        while handled(&rouse)?.0 < before + acknowledged && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        ends.push(acknowledged as f64 / begun.elapsed().as_secs_f64());
        lost.push((before + acknowledged).saturating_sub(handled(&rouse)?.0) as f64);
        if round % 2 == 0 {
            peers.push(closed_loop(&theirs, seconds)?.1);
        }
        singles.push(one_by_one(&rouse.state, seconds)?);
    }
    let acknowledged = format!("events of 1 KiB acknowledged a second, {CALLERS} callers");
    Ok(vec![
        Row::alone(name, &acknowledged, &rates, "/s", Target::AtLeast(20_000.0)),
        Row::alone(name, &acknowledged, &rates, "/s", Target::Ratio(3.0)).beside(
            "JetStream, sync_interval always",
            &rates,
            &peers,
            false,
        ),
        Row::alone(name, &acknowledged, &rates, "/s", Target::None).beside(
            "a file, fdatasync after each",
            &rates,
            &singles,
            false,
        ),
        Row::alone(name, "acknowledged and handled by a component", &ends, "/s", Target::None),
        Row::alone(name, "acknowledged and not handled", &lost, "", Target::AtMost(0.0)),
    ])
}
