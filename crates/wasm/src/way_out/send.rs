//! One request over one connection: HTTP/1.1 (RFC 9112), whose answer's body streams.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep, timeout},
};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody};

/// How long an answer may be silent where the component does not say: its call ends before.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// An answer, and what must be driven for its body to come.
pub(super) type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>);

/// Sends a request and waits for the head of its answer.
pub(super) async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut request: http::Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = Box::pin(connection);
    // What a server of one's own is asked for is the path alone (RFC 9112 §3.2.1); the host has a line of its own.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut connected = true;
    let head = {
        let mut asked = pin!(sender.send_request(request));
        let answered = async {
            tokio::select! {
                answer = &mut asked => answer,
                ended = &mut connection => {
                    connected = false;
                    // It may have ended just after the answer.
                    match ended {
                        Ok(()) => asked.await,
                        Err(error) => Err(error),
                    }
                }
            }
        };
        timeout(options.first_byte_timeout.unwrap_or(SILENCE_MAX), answered).await
    };
    let answer = head.map_err(|_| Error::ConnectionReadTimeout)??;
    let most = options.between_bytes_timeout.unwrap_or(SILENCE_MAX);
    let answer = answer.map(|incoming| {
        let silence = Box::pin(sleep(most));
        Answer { incoming, most, silence }.boxed_unsync()
    });
    let rest = async move { if connected { Ok(connection.await?) } else { Ok(()) } };
    Ok((answer, Box::new(rest)))
}

/// A body that may not be silent for too long.
struct Answer {
    incoming: Incoming,
    most: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            let until = Instant::now() + self.most;
            self.silence.as_mut().reset(until);
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
