//! Requests that ask to change the protocol (RFC 9110 §7.8), as WebSockets do: once the code has agreed, bytes pass
//! between the client's connection and the node's, both ways, until either ends.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::copy_bidirectional_with_sizes;

/// Bytes in flight, each way: whoever reads slowly holds up who writes.
const BUFFER_BYTES: usize = 16 << 10;

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
    /// Passes bytes until either side ends. The node holds how long that may take.
    pub(crate) async fn tunnel(self, connections: Gauge) {
        let Ok((client, node)) = tokio::try_join!(self.client, self.node) else { return };
        connections.inc();
        let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
        // However it ends, it has ended: both are closed.
        let _ = copy_bidirectional_with_sizes(&mut client, &mut node, BUFFER_BYTES, BUFFER_BYTES).await;
        connections.dec();
    }
}
