//! The path of one request, as a list.

use std::{
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Response, header, uri::PathAndQuery};
use hyper::body::Incoming;
use rouse_quota::Quota;
use rouse_types::{
    Chain, Code, Contract, InvocationId, LambdaCall, Refusal, Source, TraceContext,
    chain::CHAIN_HEADER,
    invocation::{AFFINITY_HEADER, LAMBDA_HEADER},
    trigger::{CHAIN_MAX, EVENT_BYTES_MAX},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Error,
    admit::Admission,
    answer,
    asynchronous::{self, Events},
    body::{Body, RequestBody},
    callers::Callers,
    components::Components,
    counters::Counters,
    forward::Node,
    journals::{self, Journals},
    mesh::Mesh,
    metrics::Metrics,
    once,
    route::{self, Target},
    run::{self, Arrived, request_refusal},
    table::{self, Picked, Table},
    webhook,
};

/// How often idle components are looked for while there are any.
const SWEEP: Duration = Duration::from_secs(5);

/// All that one gateway holds.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) table: Table,
    pub(crate) callers: Callers,
    pub(crate) admission: Admission,
    pub(crate) quota: Quota,
    pub(crate) components: Components,
    pub(crate) node: Node,
    pub(crate) mesh: Mesh,
    pub(crate) events: Events,
    pub(crate) journals: Arc<Journals>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    sweeping: AtomicBool,
    chance: RandomState,
}

/// Spawns what hyper wants spawned as tasks of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Executor(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// Where a call comes from, as far as it is not told by its request.
pub(crate) struct Origin {
    pub(crate) id: InvocationId,
    pub(crate) attempt: u32,
    pub(crate) source: Source,
    pub(crate) peer: Option<IpAddr>,
    /// The span of whoever sent the event that the call delivers.
    pub(crate) caller: Option<TraceContext>,
    /// Whether it may be put off to later, as its caller may ask.
    pub(crate) defers: bool,
    /// Whether another node handed it over: then it is run here.
    pub(crate) forwarded: bool,
    pub(crate) started: Instant,
}

impl Origin {
    /// A call that someone waits for.
    pub(crate) fn call(source: Source, peer: Option<IpAddr>, started: Instant) -> Self {
        let (id, forwarded) = (InvocationId::new(), false);
        Self { id, attempt: 1, source, peer, caller: None, defers: true, forwarded, started }
    }
}

impl Gateway {
    pub(crate) fn new(config: Config, stop: CancellationToken) -> Result<Arc<Self>, Error> {
        let engine = rouse_wasm::Engine::new(config.pool, &config.state)
            .map_err(|error| Error::Engine(format!("{error:#}")))?;
        let run = config.state.join("run");
        let counters = Arc::new(Counters::open(&run.join("counters"), config.index)?);
        let (tasks, metrics) = (TaskTracker::new(), Metrics::new());
        let writer = format!("gateway-{}", config.index);
        Ok(Arc::new(Self {
            table: Table::new(&config.state),
            quota: Quota::open(&config.state, config.index, Arc::clone(&config.clock))?,
            callers: Callers::new(&config.state),
            admission: Admission::new(counters, config.pool.instances, config.gateways),
            components: Components::new(engine, &config.state),
            // Connections to the node idle for a while; the end of the gateway does not wait for that.
            node: Node::new(run.join("node.sock"), Executor(TaskTracker::new()), metrics.connections.clone()),
            mesh: Mesh::new(run.join("mesh.sock"), Executor(TaskTracker::new())),
            events: Events::new(run.join("events.sock"), Executor(TaskTracker::new())),
            journals: Journals::open(&config.state, &writer, config.metering)?,
            metrics,
            tasks,
            stop,
            sweeping: AtomicBool::new(false),
            chance: RandomState::new(),
            config,
        }))
    }

    /// Answers a request that came in from outside.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let started = Instant::now();
        let host = request.uri().authority().map(http::uri::Authority::as_str);
        let host = host.or_else(|| request.headers().get(header::HOST)?.to_str().ok()).map(str::to_owned);
        let path = request.uri().path().to_owned();
        let owner = self.table.owner(host.as_deref());
        let target = match &owner {
            Some(owner) => {
                let (tenant, function) = (owner.tenant.as_str(), owner.function.as_str());
                Some(Target { tenant, function, alias: None, path: &path })
            }
            None => route::target(host.as_deref(), &path, &self.config.domain),
        };
        let Some(target) = target else {
            let refusal =
                Refusal::new(Code::FunctionNotFound, "this address names no function").hint(format!(
                    "functions answer at /fn/<tenant>/<function>/ and <function>.<tenant>.{}",
                    self.config.domain
                ));
            self.metrics.refused(refusal.code);
            return answer::refuse(InvocationId::new(), &refusal, None);
        };
        self.invoke(request, &target, Origin::call(Source::Http, Some(peer), started)).await
    }

    /// Answers a request to a known target. Every step that refuses says why; nothing before `run` costs.
    pub(crate) async fn invoke(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        target: &Target<'_>,
        origin: Origin,
    ) -> Response<Body> {
        let Origin { id, attempt, source, peer, caller: sender, defers, forwarded, started } = origin;
        let refuse = |refusal: Refusal| {
            self.metrics.refused(refusal.code);
            answer::refuse(id, &refusal, None)
        };
        // What another of our processes asks for was let in there.
        let outside = defers && source == Source::Http;
        // Which version: by its alias' weights, at a point that the caller may hold still.
        let picked = match self.table.pick(target, outside, || self.point(request.headers())) {
            Ok(picked) => picked,
            Err(refusal) => return refuse(refusal),
        };
        // A webhook's path is for who signs, whatever else the function is for.
        let webhook = outside.then(|| webhook::of(&picked, target.path)).flatten();
        // Who: whom it is not for is told that it is not there.
        if outside && webhook.is_none() {
            let now = self.config.clock.now();
            if !self.callers.may(&picked.version, request.headers_mut(), now) {
                return refuse(table::not_found(target));
            }
        }
        // How large: refused before the body is read where its length is said.
        let mut bytes_max = picked.version.limits.request_body_bytes;
        if webhook.is_some() {
            bytes_max = bytes_max.min(EVENT_BYTES_MAX as u64);
        }
        if said_length(request.headers()).is_some_and(|bytes| bytes > bytes_max) {
            RequestBody::new(request.into_body(), bytes_max).0.refuse().await;
            return refuse(request_refusal(crate::body::Error::TooLarge(bytes_max), &picked.version));
        }
        let arrived = Arrived {
            id,
            attempt,
            at: self.config.clock.now(),
            started,
            peer,
            caller: sender.or_else(|| caller(request.headers())),
            lambda: (source == Source::Invoke).then(|| lambda(request.headers())).flatten(),
            path: path_and_query(target.path, request.uri().query()),
        };
        let (mut parts, body) = request.into_parts();
        let (body, bytes_in) = RequestBody::new(body, bytes_max);
        if let Some(webhook) = webhook {
            let request = Request::from_parts(parts, body);
            return webhook.take(self, target.alias, &arrived, request, &bytes_in).await;
        }
        if defers && asynchronous::asked(&parts.headers) {
            let request = Request::from_parts(parts, body);
            return self.events.accept(&picked, target.alias, &arrived, source, request, &bytes_in).await;
        }
        // An event's chain was looked at before it was delivered, and is longer by this call already.
        let chain = if defers {
            let chain = Chain::read(asynchronous::text(&parts.headers, CHAIN_HEADER).unwrap_or_default());
            if chain.loops(&picked.version.function) {
                return refuse(self.stopped(&picked, id, &chain));
            }
            Some(chain)
        } else {
            None
        };
        if defers && let Some(window) = once::window(&picked, &parts.headers) {
            let request = Request::from_parts(parts, body);
            let how = (source, window);
            return Box::pin(self.events.once(&picked, target.alias, &arrived, how, request, &bytes_in))
                .await;
        }
        if let Some(chain) = chain {
            let chain = chain.then(&picked.version.function).to_string();
            // Names, digits and punctuation.
            if let Ok(chain) = HeaderValue::try_from(chain) {
                parts.headers.insert(CHAIN_HEADER, chain);
            }
        }
        // How often: before anything of the call costs more than this look.
        if let Err(refusal) = self.quota.rate(&picked.version) {
            return refuse(refusal);
        }
        // Where: here, unless it lacks what another node has. An upgrade is of this connection.
        if self.mesh.is_short(&picked.version)
            && !forwarded
            && !parts.headers.contains_key(header::UPGRADE)
            && let Some(nodes) = self.mesh.targets(&picked.version, self.chance.hash_one(id))
        {
            let pause = match picked.version.contract {
                Contract::Http => picked.version.limits.timeout(),
                Contract::Component | Contract::Lambda => Duration::ZERO,
            };
            let request = Request::from_parts(parts, body.patient(pause));
            return Box::pin(self.mesh.hand_over(&nodes, &picked, &arrived, source, request, &bytes_in))
                .await;
        }
        match picked.version.contract {
            Contract::Component => {
                run::run(self, picked, arrived, Request::from_parts(parts, body), bytes_in).await
            }
            Contract::Lambda => {
                let request = Request::from_parts(parts, body);
                self.node.forward(&picked, &arrived, source, request, &bytes_in).await
            }
            Contract::Http => {
                // The server hears each piece when it comes, and may be in a conversation with the client.
                let body = body.patient(picked.version.limits.timeout());
                let request = Request::from_parts(parts, body);
                self.node.forward(&picked, &arrived, source, request, &bytes_in).await
            }
        }
    }

    /// A loop that is stopped: its function's log says so, and who called it is told.
    fn stopped(self: &Arc<Self>, picked: &Picked, id: InvocationId, chain: &Chain) -> Refusal {
        let function = &picked.version.function;
        let what =
            format!("a loop was stopped: the chain of calls has passed '{function}' {CHAIN_MAX} times");
        let say = journals::sink(&self.journals, &self.config.clock, &picked.version, id);
        say(rouse_wasm::Stream::Platform, &format!("{what}: {chain}"));
        Refusal::new(Code::LoopDetected, what)
            .hint(format!("the header {CHAIN_HEADER} names the functions that it passed: {chain}"))
    }

    /// A point of an alias' range: a hash of the caller's key if there is one, else chance.
    fn point(&self, headers: &HeaderMap) -> u64 {
        match headers.get(AFFINITY_HEADER) {
            // Not the process' own keys: every gateway must come to the same point.
            Some(key) => stable_hash(key.as_bytes()),
            None => self.chance.hash_one(InvocationId::new()),
        }
    }

    /// Sees to it that what idles is dropped. Runs while there is something to drop, then ends.
    pub(crate) fn sweep_later(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::SeqCst) {
            return;
        }
        let gateway = Arc::clone(self);
        self.tasks.spawn(async move {
            while gateway.stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                let (components, instances) = gateway.components.sweep(Instant::now());
                if components + instances == 0 {
                    break;
                }
            }
            gateway.sweeping.store(false, Ordering::SeqCst);
        });
    }
}

/// FNV-1a (the IETF draft's parameters) with a final mix: the same on every machine and in every version.
fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(bytes);
    let hash = hasher.finish();
    // The low bits of FNV alone are poor, and a modulus looks at little else.
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn said_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The caller's span. One that is malformed is as none: the specification says to begin anew then.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent")?.to_str().ok()?.parse().ok()
}

/// What one of our own processes says of a call by AWS' Lambda API.
fn lambda(headers: &HeaderMap) -> Option<LambdaCall> {
    serde_json::from_slice(headers.get(LAMBDA_HEADER)?.as_bytes()).ok()
}

fn path_and_query(path: &str, query: Option<&str>) -> PathAndQuery {
    let path = if path.is_empty() { "/" } else { path };
    let joined = match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    // Both are pieces of a URI that was parsed already.
    joined.unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_to_the_same_point_everywhere() {
        assert_eq!(stable_hash(b"user-1"), stable_hash(b"user-1"));
        let buckets: Vec<_> = (0..10_000).map(|i| stable_hash(format!("user-{i}").as_bytes()) % 10).collect();
        for bucket in 0..10 {
            let hits = buckets.iter().filter(|&&b| b == bucket).count();
            assert!((800..1_200).contains(&hits), "bucket {bucket} has {hits} of 10,000");
        }
    }

    #[test]
    fn a_trace_is_taken_on_or_begun() {
        let id = InvocationId::new();
        let mut headers = HeaderMap::new();
        assert_eq!(caller(&headers), None);
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", given.parse().expect("a header"));
        let span = TraceContext::of(caller(&headers), id).to_string();
        assert!(span.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && span.ends_with("-01"), "{span}");
        assert_ne!(span, given, "the function's calls hang below this invocation");
    }

    #[test]
    fn a_function_sees_its_own_path_and_the_whole_query() {
        assert_eq!(path_and_query("", Some("a=1&b")), "/?a=1&b");
        assert_eq!(path_and_query("/x/y", None), "/x/y");
    }
}
