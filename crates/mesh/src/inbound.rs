//! What other nodes hand over: only nodes of this cluster get so far as to ask.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Either;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rouse_types::{Code, Refusal, event::DELIVERY_HEADER, limits::HEADER_BYTES_MAX, node::FORWARDED_HEADER};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{ACCEPT_PAUSE, Answer, Executor, Mesh, STREAMS_MAX, refuse, status};

/// Connections at once: some for each node there may be.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts until the process' `stop`.
pub(crate) async fn accept(mesh: &Arc<Mesh>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = mesh.stop.cancelled() => break,
        };
        match accepted {
            (Ok(place), Ok((stream, from))) => {
                let _ = stream.set_nodelay(true);
                let own = Arc::clone(mesh);
                mesh.tasks.spawn(async move { Box::pin(connection(own, stream, from, place)).await });
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

async fn connection(mesh: Arc<Mesh>, stream: TcpStream, from: SocketAddr, _place: OwnedSemaphorePermit) {
    let shown = match mesh.identities.now() {
        Ok(Some(shown)) => shown,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(%error, "this node cannot show who it is to other nodes");
            return;
        }
    };
    let acceptor = TlsAcceptor::from(Arc::clone(&shown.server));
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let done = tokio::select! {
        done = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => done.unwrap_or_else(|_| Err(late())),
        () = mesh.stop.cancelled() => return,
    };
    let stream = match done {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%from, %error, "who came as a node of this cluster is refused");
            return;
        }
    };
    let Some(node) = shown.identity.peer(stream.get_ref().1.peer_certificates()) else {
        tracing::warn!(%from, "who came as a node of this cluster is refused: its certificate names none");
        return;
    };
    let Ok(node) = HeaderValue::try_from(node) else { return };
    let service = service_fn(|request| {
        let (mesh, node) = (Arc::clone(&mesh), node.clone());
        async move { Ok::<_, Infallible>(Box::pin(handle(&mesh, node, request)).await) }
    });
    let connection = http2::Builder::new(Executor(mesh.tasks.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = mesh.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of another node ended early");
    }
}

/// Answers one request of another node: a call, or whether a version is here.
async fn handle(mesh: &Mesh, node: HeaderValue, mut request: Request<Incoming>) -> Answer {
    let asks = request.method() == Method::GET && request.uri().path().starts_with("/versions/");
    if request.headers().contains_key(DELIVERY_HEADER) {
        request.headers_mut().insert(FORWARDED_HEADER, node);
    } else if !asks {
        return status(StatusCode::NOT_FOUND);
    }
    match mesh.gateways.send(request.map(Either::Left)).await {
        Ok(answer) => answer.map(Either::Left),
        Err(error) => {
            tracing::warn!(%error, "a gateway did not answer another node's call");
            let what = "the node that the call was handed to did not answer it";
            refuse(&Refusal::new(Code::NodeUnavailable, what).retry_after(Duration::from_secs(1)))
        }
    }
}
