//! Just enough HTTP to call a function and show its answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// A header's value, empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// One call: a GET without a body, a POST with one.
pub(crate) fn call(to: SocketAddr, path: &str, body: Option<&str>) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
        .with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close, te\r\nte: trailers\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("read the answer to {method} {path}"))?;
    parse(&bytes).with_context(|| format!("answer to {method} {path}"))
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        bail!("no whole answer: {}", String::from_utf8_lossy(bytes));
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.lines().next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    // The first line has no colon, so it is no field.
    let headers = fields(&head);
    let mut answer = Answer { status: status.context("no status")?, headers, body: String::new() };
    let body = &bytes[end + 4..];
    if answer.header("transfer-encoding") == "chunked" {
        let (body, trailers) = dechunk(body)?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer.headers.extend(fields(&String::from_utf8_lossy(trailers)));
    } else {
        answer.body = String::from_utf8_lossy(body).into_owned();
    }
    Ok(answer)
}

fn fields(text: &str) -> Vec<(String, String)> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// The body, and the trailers behind it.
fn dechunk(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("cut off in a chunk's size")?;
        let size = usize::from_str_radix(str::from_utf8(&rest[..line])?.trim(), 16)?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Ok((body, rest));
        }
        body.extend_from_slice(rest.get(..size).context("cut off in a chunk")?);
        rest = rest.get(size + 2..).context("cut off after a chunk")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_chunks_is_put_together() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: u\r\n\r\n";
        let answer = parse(bytes).unwrap();
        assert_eq!((answer.status, answer.header("x-a"), answer.header("x-t")), (200, "b", "u"));
        assert_eq!(answer.body, "abcde");
    }

    #[test]
    fn an_answer_that_was_cut_off_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
