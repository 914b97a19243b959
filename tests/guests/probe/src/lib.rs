//! A component that behaves as its path says, well or badly: what the platform's tests call.

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::{
        outgoing_handler,
        types::{Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme},
    },
    io::streams::StreamError,
};

struct Probe;

wasip2::http::proxy::export!(Probe);

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/echo" => echo(&request, out),
            "/read" => read(&request, out),
            "/headers" => headers(&request, out),
            "/env" => whole(out, 200, std::env::var("GREETING").unwrap_or_default().as_bytes()),
            "/log" => {
                println!("a line on stdout: {query}");
                eprintln!("a line on stderr");
                eprint!("a line without end");
                whole(out, 200, b"logged");
            }
            "/flood" => {
                for i in 0..200_000 {
                    println!("line {i} of a flood");
                }
                whole(out, 200, b"flooded");
            }
            "/panic" => panic!("asked to panic"),
            "/exit" => std::process::exit(3),
            "/nothing" => drop(out),
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/spin" => {
                let until = std::time::Instant::now() + std::time::Duration::from_millis(number(query));
                while std::time::Instant::now() < until {
                    std::hint::black_box(());
                }
                whole(out, 200, b"spun");
            }
            "/sleep" => {
                println!("asleep");
                std::thread::sleep(std::time::Duration::from_millis(number(query)));
                whole(out, 200, b"slept");
            }
            "/memory" => {
                let mut held = Vec::new();
                loop {
                    held.push(vec![1u8; 1 << 20]);
                    std::hint::black_box(&held);
                }
            }
            "/huge" => stream(out, usize::MAX, 0),
            "/drip" => stream(out, 5, number(query)),
            "/cut" => cut(out),
            "/status" => whole(out, u16::try_from(number(query)).unwrap_or(500), b""),
            "/fetch" => fetch(query, out),
            "/count" => count(out),
            "/" if request.headers().has("ce-type") => told(&request, out),
            _ => whole(out, 200, target.as_bytes()),
        }
    }
}

/// Prints a CloudEvent that came in binary mode.
fn told(request: &IncomingRequest, out: ResponseOutparam) {
    let value = |name: &str| {
        let values = request.headers().get(name);
        values.first().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    println!("told of {} {} {}", value("ce-type"), value("ce-subject"), value("ce-bucket"));
    whole(out, 204, b"");
}

fn number(query: &str) -> u64 {
    query.parse().unwrap_or(0)
}

fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(status);
    let body = response.body().expect("a body, the first time");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: &OutgoingBody, bytes: &[u8]) -> bool {
    let stream = body.write().expect("a stream, one at a time");
    bytes.chunks(4096).all(|chunk| stream.blocking_write_and_flush(chunk).is_ok())
}

fn whole(out: ResponseOutparam, status: u16, bytes: &[u8]) {
    let body = begin(out, status);
    write(&body, bytes);
    let _ = OutgoingBody::finish(body, None);
}

/// A chunk, a pause, a chunk: what a caller must see as it comes.
fn stream(out: ResponseOutparam, chunks: usize, pause_ms: u64) {
    let body = begin(out, 200);
    {
        let stream = body.write().expect("a stream");
        let chunk = [b'x'; 4096];
        let chunk = if pause_ms == 0 { &chunk[..] } else { b"drip\n" };
        for _ in 0..chunks {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return;
            }
            if pause_ms > 0 {
                std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// A body that traps in the middle.
fn cut(out: ResponseOutparam) {
    let body = begin(out, 200);
    write(&body, b"the first half\n");
    std::thread::sleep(std::time::Duration::from_millis(50));
    panic!("asked to break off");
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("a body, the first time");
    let stream = body.stream().expect("a stream, the first time");
    let answer = begin(out, 200);
    {
        let sink = answer.write().expect("a stream");
        loop {
            match stream.blocking_read(64 * 1024) {
                Ok(bytes) => {
                    for chunk in bytes.chunks(4096) {
                        if sink.blocking_write_and_flush(chunk).is_err() {
                            return;
                        }
                    }
                }
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(_)) => return,
            }
        }
    }
    let _ = OutgoingBody::finish(answer, None);
}

/// Reads all before it answers.
fn read(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("a body, the first time");
    let stream = body.stream().expect("a stream, the first time");
    let mut bytes = 0;
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes += chunk.len(),
            Err(StreamError::Closed) => return whole(out, 200, bytes.to_string().as_bytes()),
            Err(StreamError::LastOperationFailed(_)) => return whole(out, 500, b"the body broke off"),
        }
    }
}

fn headers(request: &IncomingRequest, out: ResponseOutparam) {
    let mut lines: Vec<String> = request
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value)))
        .collect();
    lines.sort();
    whole(out, 200, lines.join("\n").as_bytes());
}

/// Asks another server: `/fetch?127.0.0.1:8080`.
fn fetch(authority: &str, out: ResponseOutparam) {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some("/"));
    let answer = match outgoing_handler::handle(request, None) {
        Ok(future) => {
            future.subscribe().block();
            match future.get() {
                Some(Ok(Ok(response))) => format!("answered {}", response.status()),
                Some(Ok(Err(code))) => format!("failed: {code:?}"),
                _ => "failed: no answer".to_owned(),
            }
        }
        Err(code) => format!("refused: {code:?}"),
    };
    whole(out, 200, answer.as_bytes());
}

/// How often this instance was called: 1, unless instances are used again.
fn count(out: ResponseOutparam) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    whole(out, 200, calls.to_string().as_bytes());
}
