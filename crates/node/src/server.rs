//! The node's socket: HTTP from our own gateways and control.
//!
//! A request with the header [`INVOCATION_HEADER`] is a call, whatever its method and path, for those are the
//! caller's. Without it: `PUT /apps/<tenant>/<app>`, `PUT /quotas`, `GET /work`, `GET /load`, `GET /ps`, `GET /metrics`.

mod connection;

use std::{future::Future, io, path::Path, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rouse_quota::{Leave, Quota};
use rouse_sandbox::Driver;
use rouse_types::{Code, Contract, Invocation, Refusal, invocation::INVOCATION_HEADER};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    Config, Error, apps,
    instance::{Around, Shared},
    job::{Job, Request as CallerRequest, RequestBody, key},
    journals::Journals,
    metrics::Metrics,
    owner::{self, Command},
    pool::{Pool, Versions},
    reply::{AnswerBody, answer, json_body, refuse, with_type},
};

/// Connections of all gateways together. Each call of a gateway holds one.
const CONNECTIONS_MAX: usize = 16_384;
/// A body, whatever the function takes: its own limit is checked when it is known whose it is. Lambda's payloads
/// are handed over whole, so they are held in memory.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// The kernel has no more descriptors, say: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A wall clock that jumped must not make a call look older than this.
const BEFORE_MAX: Duration = Duration::from_secs(3_600);

/// Serves until `shutdown`, then lets calls under way end, within [`Config::drain`].
///
/// The socket is there before the snapshots are read, so that callers wait instead of failing; calls are taken
/// once all are read.
///
/// # Errors
/// [`Error`] if the socket or a journal cannot be made. Later errors are logged, and end nothing.
pub async fn serve<D: Driver>(config: Config<D>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let listener = bind(&config.socket)?;
    if let Err(error) = rouse_contract::lambda::runtime::install_clients(&config.state) {
        // Functions of Node.js suffer, and those of Python start slower.
        tracing::error!(%error, "the clients of runtimes cannot be put in their place");
    }
    let around = Around {
        quota: Arc::new(Quota::open(&config.state, rouse_quota::NODE, Arc::clone(&config.clock))?),
        clock: config.clock,
        journals: Journals::open(&config.state)?,
        metrics: Arc::new(Metrics::new()),
        pricing: config.pricing,
        over: Arc::default(),
    };
    let mut pool = Pool::new(around.clone(), config.memory_budget_bytes, config.starts_max);
    for snapshot in apps::read_all(&config.state) {
        pool.apply(snapshot);
    }
    let (commands, receiver) = mpsc::channel(owner::COMMANDS_MAX);
    let (state, versions) = (config.state.clone(), pool.versions());
    let shared = Arc::new(Shared::new(config.driver, config.state, around.clone()));
    let node = Arc::new(Node { driver: Arc::clone(&shared.driver), state, around, commands, versions });
    let mut owner = JoinSet::new();
    owner.spawn(owner::run(pool, shared, receiver, config.drain));

    accept(listener, &node, config.drain, shutdown).await;
    // The last handle closes the owner's queue: it drains what still runs, and ends.
    drop(node);
    drop(std::fs::remove_file(&config.socket));
    if let Some(Err(error)) = owner.join_next().await {
        tracing::error!(%error, "the owner failed");
    }
    Ok(())
}

fn bind(socket: &Path) -> Result<UnixListener, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |action| move |source| Error::Io { action, path: socket.to_owned(), source };
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir).map_err(failed("make the folder of"))?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed("listen at"))?;
    // Our own processes alone.
    let mode = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(socket, mode).map_err(failed("protect"))?;
    Ok(listener)
}

async fn accept<D: Driver>(
    listener: UnixListener,
    node: &Arc<Node<D>>,
    drain: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    let (ending, _) = watch::channel(false);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let node = Arc::clone(node);
                    let handle = move |request| {
                        let node = Arc::clone(&node);
                        async move { node.handle(request).await }
                    };
                    connections.spawn(connection::serve(stream, handle, ending.subscribe()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    ending.send_replace(true);
    let until = Instant::now() + drain;
    while let Ok(Some(_)) = tokio::time::timeout_at(until, connections.join_next()).await {}
    // What still runs loses its connection: its caller is told so, and its instance ends.
    connections.shutdown().await;
}

struct Node<D> {
    driver: Arc<D>,
    state: std::path::PathBuf,
    around: Around,
    commands: mpsc::Sender<Command>,
    versions: watch::Receiver<Versions>,
}

impl<D: Driver> Node<D> {
    async fn handle(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let handled = if request.headers().contains_key(INVOCATION_HEADER) {
            Box::pin(self.invoke(request)).await
        } else {
            self.operate(request).await
        };
        handled.unwrap_or_else(|refusal| refuse(&refusal))
    }

    async fn invoke(&self, mut request: Request<Incoming>) -> Result<Response<AnswerBody>, Refusal> {
        let arrived = Instant::now();
        let invocation = invocation(request.headers())?;
        let before = self.around.clock.now().since(invocation.received).min(BEFORE_MAX);
        let version = self.versions.borrow().get(&key(&invocation)).cloned();
        // Servers take the bodies of requests as they come.
        let streams = version.as_ref().is_some_and(|version| version.contract == Contract::Http);
        // One that is not known is refused in a moment.
        let leave = match &version {
            Some(version) => {
                let Around { quota, pricing, .. } = &self.around;
                quota.take(version, invocation.received, pricing).await?
            }
            None => Leave::default(),
        };
        let asks = streams && request.headers().contains_key(header::UPGRADE);
        let upgrade = asks.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        strip(&mut head.headers, streams);
        let body = if streams { RequestBody::Stream(body) } else { RequestBody::Whole(read(body).await?) };
        let (method, uri, version, headers) = (head.method, head.uri, head.version, head.headers);
        let request = CallerRequest { method, uri, version, headers, body, upgrade };
        let (reply, answered) = oneshot::channel();
        let job = Job { invocation, request, arrived, before, tries: 0, leave, reply };
        self.send(Command::Call(Box::new(job))).await?;
        // If the gateway goes away, hyper drops this future, and with it the end that the instance watches.
        let reply = answered.await.map_err(|_| Refusal::new(Code::Internal, "the instance was lost"))?;
        Ok(answer(reply))
    }

    async fn operate(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Refusal> {
        let path = request.uri().path().to_owned();
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match (request.method(), segments.as_slice()) {
            (&Method::PUT, ["apps", tenant, app]) => {
                let bad = |error: rouse_types::name::Error| Refusal::new(Code::BadRequest, error.to_string());
                let (tenant, app) = (tenant.parse().map_err(bad)?, app.parse().map_err(bad)?);
                let snapshot = apps::read(&self.state, &tenant, &app).await?;
                self.ask(|done| Command::Apply(Box::new(snapshot), done)).await?;
                Ok(with_type(StatusCode::NO_CONTENT, "application/json", bytes::Bytes::new()))
            }
            (&Method::PUT, ["quotas"]) => {
                self.around.quota.reload().map_err(|error| {
                    tracing::error!(%error, "what limits tenants cannot be read; what was before stays in force");
                    Refusal::new(Code::Internal, format!("what limits tenants cannot be read: {error}"))
                })?;
                Ok(with_type(StatusCode::NO_CONTENT, "application/json", bytes::Bytes::new()))
            }
            (&Method::GET, ["work"]) => {
                Ok(json_body(StatusCode::OK, &self.ask(Command::Levels).await?.work()))
            }
            (&Method::GET, ["load"]) => Ok(json_body(StatusCode::OK, &self.ask(Command::Load).await?)),
            (&Method::GET, ["ps"]) => Ok(json_body(StatusCode::OK, &self.ask(Command::List).await?)),
            (&Method::GET, ["metrics"]) => {
                let levels = self.ask(Command::Levels).await?;
                // While the spawner is away there is nothing.
                let ahead = self.driver.ahead().await.unwrap_or_default();
                let text = self.around.metrics.text(&levels, &ahead);
                // OpenMetrics, as the crate writes it.
                const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(with_type(StatusCode::OK, TYPE, text.into()))
            }
            (method, _) => {
                Err(Refusal::new(Code::OperationNotFound, format!("no operation {method} {path}"))
                    .hint(format!("a call carries the header {INVOCATION_HEADER}")))
            }
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answered) = oneshot::channel();
        self.send(command(reply)).await?;
        answered.await.map_err(|_| ended())
    }

    async fn send(&self, command: Command) -> Result<(), Refusal> {
        self.commands.send(command).await.map_err(|_| ended())
    }
}

fn ended() -> Refusal {
    Refusal::new(Code::NodeUnavailable, "this node is ending").retry_after(Duration::from_secs(1))
}

fn invocation(headers: &HeaderMap) -> Result<Invocation, Refusal> {
    let value = headers.get(INVOCATION_HEADER).map(http::HeaderValue::as_bytes).unwrap_or_default();
    serde_json::from_slice(value)
        .map_err(|error| Refusal::new(Code::BadRequest, format!("the header {INVOCATION_HEADER}: {error}")))
}

async fn read(mut body: Incoming) -> Result<bytes::Bytes, Refusal> {
    let too_large =
        || Refusal::new(Code::PayloadTooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes"));
    let announced = body.size_hint().exact();
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = |_| Refusal::new(Code::BadRequest, "the body broke off");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if (whole.len() + data.len()) as u64 > BODY_BYTES_MAX {
            return Err(too_large());
        }
        // The usual body comes in one piece, and is not copied.
        if whole.is_empty() && announced == Some(data.len() as u64) {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Takes away what is between the gateway and us: our own words, and those of the connection, unless the contract
/// sees to these.
fn strip(headers: &mut HeaderMap, keeps_connection: bool) {
    let ours: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-rouse-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    if keeps_connection {
        return;
    }
    for name in [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::TRAILER, header::UPGRADE]
    {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}
