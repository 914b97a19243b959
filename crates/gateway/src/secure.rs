//! HTTPS: handshakes within bounds, and what callers without TLS are told once it is on.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, uri::Authority};
use hyper_util::rt::TokioIo;
use rouse_tls::{Resolver, challenge};
use rouse_types::{Code, InvocationId, Refusal};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    Error, answer,
    body::Body,
    handle::Gateway,
    server::{self, ACCEPT_PAUSE, Caller, connection},
};

/// Connections of one gateway that are in their handshake: some tens of KiB each. Who comes when all places are taken
/// waits in the kernel's queue, for no longer than those may take.
const HANDSHAKES_MAX: usize = 1_024;
/// How long a handshake may take: three round trips of a slow network, many times over.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The listener for HTTPS.
pub(crate) struct Https {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    /// Where it listens: redirects go there.
    pub(crate) port: u16,
}

impl Https {
    pub(crate) fn new(state: &Path, listener: std::net::TcpListener) -> Result<Self, Error> {
        let listener = server::take(listener)?;
        let port = listener.local_addr().map_err(Error::io("ask for the address of HTTPS"))?.port();
        let config = rouse_tls::server_config(Arc::new(Resolver::new(state)))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { listener, acceptor, handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)), port })
    }

    /// Accepts until the gateway's `stop`.
    pub(crate) async fn accept(self, gateway: &Arc<Gateway>) {
        loop {
            let accepted = async {
                let place = Arc::clone(&self.handshakes).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = gateway.stop.cancelled() => break,
            };
            match accepted {
                (Ok(place), Ok((stream, peer))) => {
                    if server::full(gateway) {
                        continue;
                    }
                    let _ = stream.set_nodelay(true);
                    let (gateway, acceptor) = (Arc::clone(gateway), self.acceptor.clone());
                    gateway.tasks.clone().spawn(async move {
                        if let Some(stream) = handshake(&gateway, acceptor, stream, place).await {
                            let io = TokioIo::new(stream);
                            Box::pin(connection(gateway, io, Caller::Secure(peer.ip()))).await;
                        }
                    });
                }
                (_, Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
                // Nobody closes it.
                (Err(_), _) => break,
            }
        }
    }
}

/// Nothing when it fails, takes too long, or the gateway stops.
async fn handshake(
    gateway: &Gateway,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
) -> Option<TlsStream<TcpStream>> {
    let done = tokio::select! {
        done = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => done,
        () = gateway.stop.cancelled() => return None,
    };
    // Scanners and clients that do not trust the certificate are no news.
    done.inspect_err(|_| tracing::debug!("a handshake took too long"))
        .ok()?
        .inspect_err(|error| tracing::debug!(%error, "a handshake failed"))
        .ok()
}

/// Says for the function that its caller came by HTTPS. Nobody stands between: what the caller says of that is not so.
pub(crate) fn mark<B>(request: &mut Request<B>) {
    request.headers_mut().insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
}

/// What a caller without TLS is told: what an ACME authority asks for, or to come again by HTTPS.
pub(crate) fn elsewhere<B>(state: &Path, request: &Request<B>, port: u16) -> Response<Body> {
    if let Some(text) = challenge::answer(state, request.uri().path()) {
        return Response::new(Body::full(Bytes::from(text)));
    }
    let host = request.uri().authority().map(Authority::as_str);
    let host = host.or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Some(location) = host.and_then(|host| location(host, path, port)) else {
        let refusal =
            Refusal::new(Code::BadRequest, "the platform answers by HTTPS, and this request names no host")
                .hint("call https://, with the host's name");
        return answer::refuse(InvocationId::new(), &refusal, None);
    };
    let mut response = Response::new(Body::empty());
    // The method and the body stay the same (RFC 9110 §15.4.9).
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// The same address by HTTPS. Nothing if the host is none.
fn location(host: &str, path: &str, port: u16) -> Option<HeaderValue> {
    let authority: Authority = host.parse().ok()?;
    let name = authority.host();
    if name.is_empty() || authority.as_str().contains('@') {
        return None;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    HeaderValue::try_from(format!("https://{name}{port}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_host_path_and_query() {
        let to = |host: &str, path: &str, port: u16| {
            location(host, path, port).map(|location| location.to_str().expect("text").to_owned())
        };
        assert_eq!(to("api.example.com", "/a?b=c", 443).as_deref(), Some("https://api.example.com/a?b=c"));
        assert_eq!(to("api.example.com:8080", "/", 8443).as_deref(), Some("https://api.example.com:8443/"));
        assert_eq!(to("[::1]:80", "/", 443).as_deref(), Some("https://[::1]/"));
        for host in ["", "a b", "user@evil.example", "evil.example/x"] {
            assert_eq!(to(host, "/", 443), None, "{host}");
        }
    }

    #[test]
    fn without_tls_an_authority_is_answered_and_others_are_sent_on() {
        let state = tempfile::tempdir().expect("a folder");
        challenge::put(state.path(), "token", "token.thumb").expect("written");
        let asked = |path: &str| {
            let request =
                Request::get(path).header(header::HOST, "shop.example").body(()).expect("a request");
            elsewhere(state.path(), &request, 443)
        };
        assert_eq!(asked("/.well-known/acme-challenge/token").status(), 200);
        let redirected = asked("/.well-known/acme-challenge/other");
        assert_eq!(redirected.status(), 308);
        assert_eq!(
            redirected.headers()[header::LOCATION],
            "https://shop.example/.well-known/acme-challenge/other"
        );
        let request = Request::get("/").body(()).expect("a request");
        assert_eq!(elsewhere(state.path(), &request, 443).status(), 400);
    }

    #[test]
    fn what_a_caller_says_of_its_way_here_is_replaced() {
        let mut request = Request::new(());
        request.headers_mut().append(FORWARDED_PROTO, HeaderValue::from_static("http"));
        request.headers_mut().append(FORWARDED_PROTO, HeaderValue::from_static("gopher"));
        mark(&mut request);
        let said: Vec<_> = request.headers().get_all(FORWARDED_PROTO).iter().collect();
        assert_eq!(said, ["https"]);
    }
}
