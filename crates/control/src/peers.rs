//! The platform's other processes, as control reaches them: over their sockets, each within bounds. One that
//! is not there is no error: it reads what is live when it starts.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use rouse_api::wire::{self, Address, Answer, Timeouts};
use rouse_types::{
    AppName, InstanceInfo, NodeState, TenantId, Work,
    node::{Load, Neighbours},
};

/// Our own processes on our own machine answer at once; a gateway that compiles nothing has no reason to
/// take longer, and a stuck one must not stop a deployment.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(1), head: Duration::from_secs(5), idle: Duration::from_secs(5) };
/// For what may go through many events.
const EVENTS_TIMEOUTS: Timeouts = Timeouts { head: Duration::from_secs(60), ..TIMEOUTS };
/// For the upload of an object, which may be 5 GiB: one that stops coming ends sooner, by its client's body.
const OBJECTS_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(12 * 3_600), idle: Duration::from_secs(60), ..TIMEOUTS };
/// For an invocation: the longest time-out of a function, and the wait for its turn and its start.
const INVOKE_TIMEOUTS: Timeouts =
    Timeouts { head: Duration::from_secs(3_600 + 120), idle: Duration::from_secs(3_600 + 120), ..TIMEOUTS };
/// What one process may tell of itself.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The sockets of the others.
#[derive(Debug)]
pub(crate) struct Peers {
    run: PathBuf,
    turn: AtomicUsize,
}

/// What one process told.
#[derive(Debug)]
pub(crate) struct Told {
    /// Its name: `gateway-0`, `node`.
    pub(crate) process: String,
    /// Its answer's body.
    pub(crate) body: Bytes,
}

impl Peers {
    pub(crate) fn new(state: &Path) -> Self {
        Self { run: state.join("run"), turn: AtomicUsize::new(0) }
    }

    fn gateways(&self) -> Vec<(String, PathBuf)> {
        let mut found: Vec<_> = std::fs::read_dir(&self.run)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let name = path.file_name()?.to_str()?.strip_suffix(".sock")?.to_owned();
                name.starts_with("gateway-").then_some((name, path))
            })
            .collect();
        found.sort();
        found
    }

    fn all(&self) -> Vec<(String, PathBuf)> {
        let mut found = self.gateways();
        found.extend([self.events(), self.objects(), self.node()]);
        found
    }

    fn events(&self) -> (String, PathBuf) {
        ("events".to_owned(), self.run.join("events.sock"))
    }

    fn objects(&self) -> (String, PathBuf) {
        ("objects".to_owned(), self.run.join("objects.sock"))
    }

    fn node(&self) -> (String, PathBuf) {
        ("node".to_owned(), self.run.join("node.sock"))
    }

    /// Tells every process that an app has changed, and waits until it is in force there. Gives one warning
    /// for each that is there and could not be told.
    pub(crate) async fn notify(&self, tenant: &TenantId, app: &AppName) -> Vec<String> {
        let path = &format!("/apps/{tenant}/{app}");
        // The node first: a gateway that knows a version sends calls for it at once. What is gone the node knows
        // for a while longer, for calls that are on their way.
        let mut warnings: Vec<String> = put(self.node(), path).await.err().into_iter().collect();
        let others = self.gateways().into_iter().chain([self.objects(), self.events()]);
        warnings
            .extend(join_all(others.map(|peer| put(peer, path))).await.into_iter().filter_map(Result::err));
        for warning in &warnings {
            tracing::warn!(%tenant, %app, warning, "a process may still answer with what was live before");
        }
        warnings
    }

    /// Tells gateways and the node that what limits tenants has changed, and waits until it is in force there.
    ///
    /// # Errors
    /// One that is there could not be told, and goes on with what was before.
    pub(crate) async fn notify_quotas(&self) -> Result<(), String> {
        let told = self.gateways().into_iter().chain([self.node()]).map(|peer| put(peer, "/quotas"));
        join_all(told).await.into_iter().collect()
    }

    /// Tells the gateways that a tenant's keys have changed.
    ///
    /// # Errors
    /// One that is there could not be told, and goes on with the keys before.
    pub(crate) async fn notify_keys(&self, tenant: &TenantId) -> Result<(), String> {
        let path = &format!("/keys/{tenant}");
        join_all(self.gateways().into_iter().map(|peer| put(peer, path))).await.into_iter().collect()
    }

    /// Tells the process of events whether it is to pull from queues.
    ///
    /// # Errors
    /// It is there and could not be told.
    pub(crate) async fn notify_standing(&self, state: NodeState) -> Result<(), String> {
        let (process, socket) = self.events();
        let body = serde_json::to_vec(&state).unwrap_or_default();
        let request = request(Method::PUT, "/standing").map(|_| Full::new(Bytes::from(body)));
        accepted(&process, Box::pin(wire::exchange(&Address::Unix(socket), request, TIMEOUTS)).await)
    }

    /// Tells who the other nodes are. One that is not told hears it in a second.
    pub(crate) async fn notify_neighbours(&self, neighbours: &Neighbours) {
        let body = Bytes::from(serde_json::to_vec(neighbours).unwrap_or_default());
        let mesh = ("mesh".to_owned(), self.run.join("mesh.sock"));
        // Who hands over first: a gateway that knows of a node sends calls for it at once.
        for those in [vec![mesh], self.gateways()] {
            let told = those.into_iter().map(|(process, socket)| {
                let request = request(Method::PUT, "/neighbours").map(|_| Full::new(body.clone()));
                async move {
                    let answered = Box::pin(wire::exchange(&Address::Unix(socket), request, TIMEOUTS)).await;
                    accepted(&process, answered)
                }
            });
            for why in join_all(told).await.into_iter().filter_map(Result::err) {
                tracing::warn!(why, "a process does not know of the other nodes");
            }
        }
    }

    /// What the node's process could take; none while it does not say.
    pub(crate) async fn load(&self) -> Option<Load> {
        let told = Self::ask_those(vec![self.node()], "/load").await;
        serde_json::from_slice(&told.first()?.body).ok()
    }

    /// What is under way in all processes; none while one does not say.
    pub(crate) async fn work(&self) -> Option<Work> {
        let those: Vec<_> = self.gateways().into_iter().chain([self.node(), self.events()]).collect();
        let asked = those.len();
        let told = Self::ask_those(those, "/work").await;
        let work: Vec<Work> =
            told.iter().filter_map(|told| serde_json::from_slice(&told.body).ok()).collect();
        (work.len() == asked).then(|| work.into_iter().fold(Work::default(), Work::and))
    }

    /// What each process that is there answers to a question.
    async fn ask(&self, path: &str) -> Vec<Told> {
        Self::ask_those(self.all(), path).await
    }

    async fn ask_those(those: Vec<(String, PathBuf)>, path: &str) -> Vec<Told> {
        let asked = those.into_iter().map(|(process, socket)| {
            let request = request(Method::GET, path);
            async move {
                let answer = Box::pin(wire::exchange(&Address::Unix(socket), request, TIMEOUTS)).await;
                let answer = match answer {
                    Ok(answer) if answer.status().is_success() => answer,
                    Ok(answer) => {
                        tracing::warn!(process, path, status = %answer.status(), "a process did not answer");
                        return None;
                    }
                    Err(error) => {
                        if !absent(&error) {
                            tracing::warn!(process, path, %error, "a process did not answer");
                        }
                        return None;
                    }
                };
                let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
                Some(Told { process, body: body.to_bytes() })
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The instances of all processes.
    pub(crate) async fn instances(&self) -> Vec<InstanceInfo> {
        let mut all = Vec::new();
        for Told { process, body } in self.ask("/ps").await {
            match serde_json::from_slice::<Vec<InstanceInfo>>(&body) {
                Ok(instances) => all.extend(instances),
                Err(error) => tracing::warn!(process, %error, "a process told of no instances"),
            }
        }
        all
    }

    /// The metrics of all processes.
    pub(crate) async fn metrics(&self) -> Vec<Told> {
        self.ask("/metrics").await
    }

    /// Whether a gateway is there.
    pub(crate) async fn ready(&self) -> bool {
        for (_, socket) in self.gateways() {
            let connected = tokio::time::timeout(TIMEOUTS.connect, tokio::net::UnixStream::connect(socket));
            if matches!(connected.await, Ok(Ok(_))) {
                return true;
            }
        }
        false
    }

    /// The gateway whose turn it is, if one is there.
    pub(crate) async fn gateway(&self) -> Option<PathBuf> {
        let mut gateways = self.gateways();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let middle = turn.checked_rem(gateways.len())?;
        gateways.rotate_left(middle);
        for (_, socket) in gateways {
            let connected = tokio::time::timeout(TIMEOUTS.connect, tokio::net::UnixStream::connect(&socket));
            if matches!(connected.await, Ok(Ok(_))) {
                return Some(socket);
            }
        }
        None
    }

    /// Asks the process of events.
    pub(crate) async fn ask_events<B>(&self, request: Request<B>) -> Result<Response<Answer>, wire::Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Box::pin(wire::exchange(&Address::Unix(self.events().1), request, EVENTS_TIMEOUTS)).await
    }

    /// Asks the process of objects.
    pub(crate) async fn ask_objects<B>(&self, request: Request<B>) -> Result<Response<Answer>, wire::Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Box::pin(wire::exchange(&Address::Unix(self.objects().1), request, OBJECTS_TIMEOUTS)).await
    }

    /// Has a gateway run a function.
    pub(crate) async fn invoke<B>(
        &self,
        gateway: PathBuf,
        request: Request<B>,
    ) -> Result<Response<Answer>, wire::Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Box::pin(wire::exchange(&Address::Unix(gateway), request, INVOKE_TIMEOUTS)).await
    }
}

/// Tells a process to read something anew, and waits until it did. One that is not there reads it when it starts.
async fn put((process, socket): (String, PathBuf), path: &str) -> Result<(), String> {
    let answered =
        Box::pin(wire::exchange(&Address::Unix(socket), request(Method::PUT, path), TIMEOUTS)).await;
    accepted(&process, answered)
}

fn accepted(process: &str, answered: Result<Response<Answer>, wire::Error>) -> Result<(), String> {
    match answered {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("{process} did not take the change: it answered {}", answer.status())),
        Err(error) if absent(&error) => Ok(()),
        Err(error) => Err(format!("{process} was not told of the change: {error}")),
    }
}

fn request(method: Method, path: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    // Names and constants only: it is a path.
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
}

/// Whether the other side is simply not there: no socket, or one that a killed process left.
fn absent(error: &wire::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error, wire::Error::Connect { source, .. } if matches!(source.kind(), NotFound | ConnectionRefused))
}
