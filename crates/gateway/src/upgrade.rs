//! Requests that ask to change the protocol (RFC 9110 §7.8), as WebSockets do: once the code has agreed, bytes pass
//! between the client's connection and the node's, both ways, until either ends.

use std::{pin::pin, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

/// Bytes in flight, each way: whoever reads slowly holds up who writes.
const BUFFER_BYTES: usize = 16 << 10;

/// How long a client may take to close its side once the node has closed its own, which it does when the call has ended:
/// longer than any closing of a WebSocket (RFC 6455 §7.1.1).
const CLOSING_MAX: Duration = Duration::from_secs(10);
/// How long a client may take none of the bytes that wait for it. The node bounds the call, but does not see its own end
/// pass through here while a client that stands still holds it up.
const STALLED_MAX: Duration = Duration::from_secs(300);

/// A request's wish.
pub(crate) struct Asked {
    /// What to change to.
    pub(crate) protocol: HeaderValue,
    client: OnUpgrade,
}

/// What is asked of a request; nothing where its connection cannot change.
pub(crate) fn asked<B>(request: &mut Request<B>) -> Option<Asked> {
    let headers = request.headers();
    let mut words = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    if !words.any(|words| words.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"))) {
        return None;
    }
    let protocol = headers.get(header::UPGRADE)?.clone();
    // Between our own processes HTTP/1.1 is all there is: an offer of HTTP/2 may be left unanswered.
    if protocol.as_bytes().eq_ignore_ascii_case(b"h2c") || request.version() != http::Version::HTTP_11 {
        return None;
    }
    Some(Asked { protocol, client: hyper::upgrade::on(request) })
}

/// Says it to the next hop.
pub(crate) fn put(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

impl Asked {
    /// What comes of it, if the code agreed.
    pub(crate) fn taken(self, response: &mut Response<Incoming>) -> Option<Switched> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let protocol = response.headers().get(header::UPGRADE).cloned().unwrap_or(self.protocol);
        Some(Switched { protocol, client: self.client, node: hyper::upgrade::on(response) })
    }
}

/// Two connections that are no longer HTTP.
pub(crate) struct Switched {
    pub(crate) protocol: HeaderValue,
    client: OnUpgrade,
    node: OnUpgrade,
}

impl Switched {
    /// Passes bytes until both sides have ended. The node holds how long that may take, and a client that does not end
    /// when the node has is not waited for without end.
    pub(crate) async fn tunnel(self, connections: Gauge) {
        let Ok((client, node)) = tokio::try_join!(self.client, self.node) else { return };
        connections.inc();
        carry(TokioIo::new(client), TokioIo::new(node)).await;
        connections.dec();
    }
}

/// However it ends, it has ended: both are closed.
async fn carry(client: impl AsyncRead + AsyncWrite, node: impl AsyncRead + AsyncWrite) {
    let (client_reads, client_writes) = split(client);
    let (node_reads, node_writes) = split(node);
    let mut up = pin!(copy(client_reads, node_writes, None));
    let mut down = pin!(copy(node_reads, client_writes, Some(STALLED_MAX)));
    tokio::select! {
        ended = &mut up => {
            // The node goes on answering a client that has said all, and ends what takes too long.
            if ended.is_ok() {
                let _ = down.await;
            }
        }
        ended = &mut down => {
            if ended.is_ok() {
                let _ = timeout(CLOSING_MAX, up).await;
            }
        }
    }
}

/// Passes bytes to their end, and the end. Whoever takes nothing for `stalled_max` is given up.
async fn copy(
    from: impl AsyncRead,
    to: impl AsyncWrite,
    stalled_max: Option<Duration>,
) -> std::io::Result<()> {
    let (mut from, mut to) = (pin!(from), pin!(to));
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let written = async {
            to.write_all(&buffer[..length]).await?;
            to.flush().await
        };
        match stalled_max {
            Some(most) => timeout(most, written).await??,
            None => written.await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_each_end_is_passed_on() {
        let (client, client_end) = duplex(1 << 10);
        let (mut node, node_end) = duplex(1 << 10);
        let (mut reads, mut writes) = split(client);
        let client = async {
            writes.write_all(b"ping").await.expect("sent");
            writes.shutdown().await.expect("ended");
            let mut heard = Vec::new();
            reads.read_to_end(&mut heard).await.expect("all of it");
            assert_eq!(heard, [7; 5_000], "a client that has said all still hears the rest");
        };
        let node = async {
            let mut heard = String::new();
            node.read_to_string(&mut heard).await.expect("all of it");
            assert_eq!(heard, "ping");
            node.write_all(&[7; 5_000]).await.expect("sent");
            node.shutdown().await.expect("ended");
        };
        tokio::join!(carry(client_end, node_end), client, node);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_end_after_the_node_is_not_waited_for_without_end() {
        let (_client, client_end) = duplex(1 << 10);
        let (node, node_end) = duplex(1 << 10);
        drop(node);
        timeout(CLOSING_MAX * 2, carry(client_end, node_end)).await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (_client, client_end) = duplex(16);
        let (mut node, node_end) = duplex(1 << 10);
        node.write_all(&[7; 500]).await.expect("sent");
        timeout(STALLED_MAX * 2, carry(client_end, node_end)).await.expect("it ends");
    }
}
