//! Whether a call is run on this node or handed to another, and handing it over.
//!
//! It is run here as long as there is room, or an instance that waits. A node that may not or cannot run it hands it to the one
//! that [`Places`] says, once: what was handed over is run where it is. On a machine that is alone this is one comparison.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper_util::{client::legacy::Client, rt::TokioTimer};
use rouse_scheduler::place::{self, Need, Places};
use rouse_types::{
    Code, Delivery, FunctionVersion, Isolation, Refusal, Source,
    event::DELIVERY_HEADER,
    invocation::LAMBDA_HEADER,
    node::{NODES_HEADER, Neighbour, Neighbours},
};

use crate::{
    answer,
    body::{Body, BodyError, Count, RequestBody},
    forward::Connector,
    handle::Executor,
    run::{Arrived, request_refusal},
    table::Picked,
};

/// The node itself, and the others.
struct Known {
    own: Neighbour,
    others: Places,
}

/// What this gateway knows of the other nodes, and the way to them.
pub(crate) struct Mesh {
    /// By isolation: the memory of the largest instance that is surely run here, in MiB.
    room: [AtomicU64; 2],
    known: Mutex<Option<Arc<Known>>>,
    client: Client<Connector, RequestBody>,
}

/// What is run here without a look at the other nodes.
fn room(known: &Known, isolation: Isolation) -> u64 {
    let Known { own, others } = known;
    match isolation {
        _ if others.nodes().is_empty() => u64::MAX,
        _ if !own.takes_work || !own.isolations.contains(&isolation) => 0,
        Isolation::Wasm => u64::MAX,
        Isolation::Container => own.load.room_mib,
    }
}

/// The nodes that a call is handed to, the best first; none if it is to be run here after all.
fn targets(known: &Known, version: &FunctionVersion, chance: u64) -> Option<String> {
    let key = version.key();
    let memory_mib = u64::from(version.limits.memory_mib);
    let need = Need { version: &key, isolation: version.isolation, memory_mib, chance };
    // An instance of its own that waits needs no more room.
    if place::fits(&need, &known.own) {
        return None;
    }
    let names: Vec<&str> = known.others.find(&need).into_iter().map(|node| node.node.as_str()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

impl Mesh {
    pub(crate) fn new(socket: PathBuf, executor: Executor) -> Self {
        let client = Client::builder(executor)
            .http2_only(true)
            .pool_timer(TokioTimer::new())
            // Only a request that never left is sent again, by who hands it over.
            .retry_canceled_requests(false)
            .build(Connector::new(socket));
        Self { room: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)], known: Mutex::default(), client }
    }

    /// Takes what control tells, once a second.
    pub(crate) fn set(&self, Neighbours { own, others }: Neighbours) {
        let known = Known { own, others: Places::new(others) };
        for isolation in [Isolation::Container, Isolation::Wasm] {
            self.room[isolation as usize].store(room(&known, isolation), Ordering::Relaxed);
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(known));
    }

    /// Whether a call may find no room here.
    pub(crate) fn is_short(&self, version: &FunctionVersion) -> bool {
        u64::from(version.limits.memory_mib) > self.room[version.isolation as usize].load(Ordering::Relaxed)
    }

    /// See [`targets`].
    pub(crate) fn targets(&self, version: &FunctionVersion, chance: u64) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        targets(&*known?, version, chance)
    }

    /// Hands a call to one of these nodes, and gives its answer on.
    pub(crate) async fn hand_over(
        &self,
        nodes: &str,
        picked: &Picked,
        arrived: &Arrived,
        source: Source,
        mut request: Request<RequestBody>,
        bytes_in: &Count,
    ) -> Response<Body> {
        let version = &picked.version;
        let delivery = Delivery {
            id: arrived.id,
            tenant: version.tenant.clone(),
            function: version.function.clone(),
            // What was picked here is what runs there.
            alias: Some(version.number.to_string()),
            attempt: arrived.attempt,
            source,
            caller: arrived.caller,
            peer: arrived.peer,
        };
        // As `forward` does: the host is what the caller asked for.
        let host = request.uri().authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok());
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(http::uri::Authority::from_static("mesh"));
        uri.path_and_query = Some(arrived.path.clone());
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        answer::strip(headers);
        if let Some(call) = &arrived.lambda
            && let Ok(call) = HeaderValue::try_from(serde_json::to_string(call).unwrap_or_default())
        {
            headers.insert(LAMBDA_HEADER, call);
        }
        if let Some(host) = host {
            headers.entry(header::HOST).or_insert(host);
        }
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let json = serde_json::to_string(&delivery).expect("plain data");
        headers.insert(DELIVERY_HEADER, HeaderValue::try_from(json).expect("names and digits in ASCII"));
        headers.insert(NODES_HEADER, HeaderValue::try_from(nodes).expect("names in ASCII"));
        match self.client.request(request).await {
            Ok(answer) => answer.map(|body| Body::stream(body.map_err(BodyError::from))),
            Err(error) => {
                let refusal = match bytes_in.failure() {
                    Some(error) => request_refusal(error, version),
                    None => {
                        tracing::warn!(%error, version = %version.key(), "a call was not handed over");
                        let what = format!("'{}' could not be handed to another node", version.function);
                        Refusal::new(Code::NodeUnavailable, what)
                            .hint("call again; the process that does it is being started again")
                            .retry_after(Duration::from_secs(1))
                    }
                };
                answer::refuse(arrived.id, &refusal, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rouse_types::node::Load;

    use super::*;

    fn version(isolation: &str, memory_mib: u32) -> FunctionVersion {
        let json = serde_json::json!({
            "tenant": "t", "app": "a", "function": "f", "number": 3,
            "digest": rouse_types::Digest::of(b""), "code": rouse_types::Digest::of(b""),
            "runtime": "component", "contract": "component", "handler": null, "isolation": isolation, "env": {},
            "limits": rouse_types::Limits { memory_mib, ..Default::default() },
            "scaling": rouse_types::Scaling::default(), "egress": [],
        });
        serde_json::from_value(json).expect("a version")
    }

    fn node(name: &str, room_mib: u64) -> Neighbour {
        Neighbour {
            node: name.to_owned(),
            zone: "z".to_owned(),
            address: Some("127.0.0.1:1".to_owned()),
            takes_work: true,
            isolations: vec![Isolation::Wasm, Isolation::Container],
            cores: 2,
            load: Load { room_mib, budget_mib: 4_096, ..Load::default() },
        }
    }

    fn known(own: Neighbour, others: Vec<Neighbour>) -> Mesh {
        let mesh = Mesh::new("/nowhere".into(), Executor(tokio_util::task::TaskTracker::new()));
        mesh.set(Neighbours { own, others });
        mesh
    }

    fn handed(mesh: &Mesh, version: &FunctionVersion) -> Option<String> {
        mesh.is_short(version).then(|| mesh.targets(version, 7)).flatten()
    }

    #[tokio::test]
    async fn a_call_stays_where_there_is_room_or_nobody_else() {
        let (small, large) = (version("container", 128), version("container", 1_024));
        let alone = Mesh::new("/nowhere".into(), Executor(tokio_util::task::TaskTracker::new()));
        assert!(!alone.is_short(&large), "before anything is known");
        assert!(!known(node("a", 0), Vec::new()).is_short(&large), "there is nobody else");
        let mesh = known(node("a", 512), vec![node("b", 4_096), node("c", 64)]);
        assert_eq!(handed(&mesh, &small), None);
        assert_eq!(handed(&mesh, &large).as_deref(), Some("b"));
        assert_eq!(handed(&mesh, &version("wasm", 1_024)), None, "components run in place");
        assert_eq!(handed(&known(node("a", 0), vec![node("c", 64)]), &large), None, "nobody has room");
    }

    #[tokio::test]
    async fn a_node_that_takes_no_work_or_lacks_the_sandbox_hands_over_what_others_can_run() {
        let own = Neighbour { takes_work: false, ..node("a", 4_096) };
        let mesh = known(own.clone(), vec![node("b", 4_096)]);
        for isolation in ["wasm", "container"] {
            assert_eq!(handed(&mesh, &version(isolation, 128)).as_deref(), Some("b"));
        }
        let other = Neighbour { takes_work: false, ..node("b", 4_096) };
        assert_eq!(handed(&known(own, vec![other]), &version("container", 128)), None, "then here");
        let own = Neighbour { isolations: vec![Isolation::Wasm], ..node("a", 4_096) };
        let mesh = known(own, vec![node("b", 4_096)]);
        assert_eq!(handed(&mesh, &version("container", 128)).as_deref(), Some("b"));
        assert_eq!(handed(&mesh, &version("wasm", 128)), None);
    }

    #[tokio::test]
    async fn an_instance_that_waits_is_used_though_there_is_no_room_for_another() {
        let wanted = version("container", 1_024);
        let warm = |node: Neighbour| Neighbour {
            load: Load { warm: vec![wanted.key()], ..node.load.clone() },
            ..node
        };
        let mesh = known(warm(node("a", 0)), vec![node("b", 4_096)]);
        assert_eq!(handed(&mesh, &wanted), None);
        let mesh = known(node("a", 0), vec![node("b", 4_096), warm(node("c", 0))]);
        assert_eq!(handed(&mesh, &wanted).as_deref(), Some("c,b"));
    }
}
