//! One connection of a gateway: HTTP/1.1, where each call holds one and may make a tunnel of it, or HTTP/2, where many
//! calls share one and trailers need no announcement.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use rouse_types::limits::{HEADER_BYTES_MAX, HEADERS_MAX};
use tokio::{net::UnixStream, sync::watch, task::JoinSet};

use super::CONNECTIONS_MAX;
use crate::reply::AnswerBody;

/// Bytes of one request's body that wait for its function, over HTTP/2.
const STREAM_BYTES_MAX: u32 = 64 << 10;
/// The same of all requests of one gateway: a thousand that wait hold up no other.
const CONNECTION_BYTES_MAX: u32 = 64 << 20;

/// Serves a connection until it ends, or `ending` and its calls have ended.
pub(super) async fn serve<F: Future<Output = Response<AnswerBody>> + Send + 'static>(
    stream: UnixStream,
    handle: impl Fn(Request<Incoming>) -> F,
    mut ending: watch::Receiver<bool>,
) {
    let service = service_fn(|request| {
        let answered = handle(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let tasks = Arc::default();
    let mut builder = auto::Builder::new(Executor(Arc::downgrade(&tasks)));
    builder
        .http1()
        .max_buf_size(2 * HEADER_BYTES_MAX)
        // The caller's headers, and ours.
        .max_headers(HEADERS_MAX + 16);
    builder
        .http2()
        .timer(TokioTimer::new())
        // As many calls as could each have a connection.
        .max_concurrent_streams(u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_BYTES_MAX)
        .initial_connection_window_size(CONNECTION_BYTES_MAX)
        .max_header_list_size(u32::try_from(2 * HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = async move { drop(ending.wait_for(|ending| *ending).await) };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = ended => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Runs the calls of a connection over HTTP/2, which end with it. Not their owner: tasks that owned the set that they
/// are in would live for ever.
#[derive(Clone)]
struct Executor(Weak<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move { drop(future.await) });
    }
}
