//! What the code posts as the answer to a call: whole, or piece by piece.

use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use super::{ReadError, Reply, accepted, ok, read, refuse, too_large, wrong_post};
use crate::lambda::{
    body::Piece,
    exchange::{Exchange, Posted, RuntimeError, StreamEnd, Wrong},
};

/// Pieces of a streamed answer that wait for the caller: then the code waits.
const PIECES_MAX: usize = 4;

/// Takes the answer to a call, whole or streamed.
pub(super) async fn take(exchange: &Exchange, id: &str, request: Request<Incoming>) -> Reply {
    if let Err(wrong) = exchange.check(id) {
        return wrong_post(wrong);
    }
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let streaming = text("lambda-runtime-function-response-mode")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("streaming"));
    let announces_trailers = request.headers().contains_key(header::TRAILER);
    if streaming {
        let content_type = text("content-type").map(str::to_owned);
        return match exchange.take(id) {
            Ok(posted) => {
                stream(exchange, posted, content_type, announces_trailers, request.into_body()).await
            }
            Err(wrong) => wrong_post(wrong),
        };
    }
    let max = exchange.response_bytes_max;
    let whole = read(request.into_body(), max).await;
    // The right to answer is taken only now, so that a post that broke may be tried again.
    let posted = match exchange.take(id) {
        Ok(posted) => posted,
        Err(wrong) => return wrong_post(wrong),
    };
    match whole {
        Ok(body) => accepted(posted, Posted::Whole(body)),
        Err(ReadError::TooLarge) => {
            drop(posted.send(Posted::TooLarge(max)));
            too_large(max)
        }
        Err(ReadError::Broken) => {
            exchange.put_back(id, posted);
            refuse(StatusCode::BAD_REQUEST, "InvalidRequest", "the body broke off")
        }
    }
}

/// Passes a streamed answer on, piece by piece; the code waits when the caller is slow.
async fn stream(
    exchange: &Exchange,
    posted: oneshot::Sender<Posted>,
    content_type: Option<String>,
    announces_trailers: bool,
    mut body: Incoming,
) -> Reply {
    let max = exchange.response_bytes_max;
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    if posted.send(Posted::Stream { content_type, pieces: receiver }).is_err() {
        return wrong_post(Wrong::State);
    }
    let mut left = max;
    let mut trailers = HeaderMap::new();
    let end = loop {
        match body.frame().await {
            None => break end_of(&trailers),
            Some(Err(_)) => break StreamEnd::Broken,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.len() as u64 > left => break StreamEnd::TooLarge(max),
                Ok(data) => {
                    if announces_trailers && let Some(told) = trailers_as_data(&data) {
                        break end_of(&told);
                    }
                    left -= data.len() as u64;
                    if !data.is_empty() && pieces.send(Piece::Data(data)).await.is_err() {
                        return wrong_post(Wrong::State);
                    }
                }
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            },
        }
    };
    let reply = match end {
        StreamEnd::TooLarge(max) => too_large(max),
        _ => ok(),
    };
    drop(pieces.send(Piece::End(end)).await);
    reply
}

/// An error midway is told in the trailers, with a body in base64.
fn end_of(trailers: &HeaderMap) -> StreamEnd {
    use base64::Engine as _;
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let Some(kind) = text("lambda-runtime-function-error-type") else { return StreamEnd::Complete };
    let body = text("lambda-runtime-function-error-body").unwrap_or_default();
    let body = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
    StreamEnd::Error(RuntimeError::read(Some(kind), &body))
}

/// The trailers of an error as the last piece of the body: so `lambda_runtime` for Rust sends them (1.5), which
/// hands its body to a client that takes no trailers.
fn trailers_as_data(data: &[u8]) -> Option<HeaderMap> {
    const KIND: &str = "lambda-runtime-function-error-type";
    let lines = data.strip_suffix(b"\r\n")?;
    // Most pieces are told apart by their first bytes.
    lines.get(..KIND.len()).filter(|name| name.eq_ignore_ascii_case(KIND.as_bytes()))?;
    let mut trailers = HeaderMap::new();
    for line in std::str::from_utf8(lines).ok()?.split("\r\n") {
        let (name, value) = line.split_once(": ")?;
        let name: http::HeaderName = name
            .parse()
            .ok()
            .filter(|name: &http::HeaderName| name == KIND || name == "lambda-runtime-function-error-body")?;
        trailers.insert(name, value.parse().ok()?);
    }
    Some(trailers)
}
