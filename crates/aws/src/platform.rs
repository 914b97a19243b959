//! The platform behind the face: control, which deploys, and the gateways, which run calls. Calls go on while control
//! is away.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use rouse_api::{
    Client, DeployEvent, DeployRequest, actions,
    wire::{self, Address, Answer, Timeouts},
};
use rouse_types::{
    AliasName, AppName, AppSnapshot, Code, Digest, FunctionName, InstanceInfo, InstanceState, LambdaCall,
    Refusal, TenantId, invocation::LAMBDA_HEADER,
};

/// For an invocation: the longest time-out of a function, and the wait for its turn and its start.
const INVOKE_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(1),
    head: Duration::from_secs(1_020),
    idle: Duration::from_secs(1_020),
};

/// For a question to the process of events: a receiver waits for 20 seconds at most, a purge for the disk.
const EVENTS_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(1),
    head: Duration::from_secs(60),
    idle: Duration::from_secs(60),
};
/// Ten messages of the size that others than SQS' clients may send, escaped.
const EVENTS_BYTES_MAX: usize = 128 << 20;

/// The way to the platform's other processes.
#[derive(Debug)]
pub(crate) struct Platform {
    state: PathBuf,
    turn: AtomicUsize,
}

impl Platform {
    pub(crate) fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), turn: AtomicUsize::new(0) }
    }

    fn client(&self) -> Result<Client, Refusal> {
        let token = std::fs::read_to_string(self.state.join("control/token")).map_err(|error| {
            Refusal::new(Code::ControlUnavailable, format!("the control token cannot be read: {error}"))
        })?;
        let socket = self.state.join("run/control.sock");
        Client::new(&format!("unix:{}", socket.display()), Some(token))
    }

    /// Uploads code that the platform does not have.
    pub(crate) async fn upload(&self, digest: &Digest, bytes: Bytes) -> Result<(), Refusal> {
        let client = self.client()?;
        if !client.has_blob(digest).await? {
            client.put_blob_bytes(bytes).await?;
        }
        Ok(())
    }

    /// Calls at once that the operator grants a tenant, if that was said.
    pub(crate) async fn concurrency(&self, tenant: &TenantId) -> Result<Option<u32>, Refusal> {
        Ok(self.client()?.limits(tenant).await?.concurrency)
    }

    /// Has control write down that an action begins; what it is called.
    pub(crate) async fn begin_action(&self, begin: &actions::Begin) -> Result<String, Refusal> {
        self.client()?.begin_action(begin).await
    }

    /// Has control write down what came of it.
    pub(crate) async fn end_action(&self, key: String, how: actions::How) -> Result<(), Refusal> {
        self.client()?.end_action(&actions::End { key, how }).await
    }

    /// Deploys an app, and waits until it is live.
    pub(crate) async fn deploy(
        &self,
        tenant: &TenantId,
        app: &AppName,
        request: &DeployRequest,
    ) -> Result<(), Refusal> {
        let mut events = self.client()?.deploy(tenant, app, request).await?;
        while let Some(event) = events.next().await {
            match event? {
                DeployEvent::Live { .. } => return Ok(()),
                DeployEvent::Failed { refusal } => return Err(refusal),
                _ => {}
            }
        }
        Err(Refusal::new(Code::ControlUnavailable, "the deployment was cut off"))
    }

    /// Deletes an app; one that is not there is gone already.
    pub(crate) async fn delete(&self, tenant: &TenantId, app: &AppName) -> Result<(), Refusal> {
        match self.client()?.delete_app(tenant, app).await {
            Err(refusal) if refusal.code != Code::AppNotFound => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Deletes an alias of a function; one that is not there is gone already.
    pub(crate) async fn delete_alias(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        alias: &AliasName,
    ) -> Result<(), Refusal> {
        match self.client()?.delete_alias(tenant, function, alias).await {
            Err(refusal) if !matches!(refusal.code, Code::AliasNotFound | Code::FunctionNotFound) => {
                Err(refusal)
            }
            _ => Ok(()),
        }
    }

    /// Reads an object of a tenant, up to a size in bytes. Control is not asked.
    pub(crate) async fn object(
        &self,
        tenant: &TenantId,
        at: (&str, &str),
        bytes_max: usize,
    ) -> Result<Bytes, Refusal> {
        let socket = self.state.join("run/objects.sock");
        let client = Client::new(&format!("unix:{}", socket.display()), None)?;
        let mut all = bytes::BytesMut::new();
        let mut too_large = false;
        let got = client.get_object(tenant, at, |bytes| {
            too_large = all.len() + bytes.len() > bytes_max;
            if too_large {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            all.extend_from_slice(&bytes);
            Ok(())
        });
        match got.await {
            Ok(_) => Ok(all.freeze()),
            Err(_) if too_large => Err(Refusal::new(
                Code::CodeTooLarge,
                format!("The object is larger than the {bytes_max} bytes that code may have"),
            )),
            Err(refusal) => Err(refusal),
        }
    }

    /// Runs a function: the gateway's answer, whose body may still be coming.
    pub(crate) async fn invoke(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        alias: &str,
        call: &LambdaCall,
        payload: Bytes,
    ) -> Result<Response<Answer>, Refusal> {
        let gateway = self.gateway()?;
        let call = serde_json::to_string(call).unwrap_or_default();
        let length = payload.len();
        let request = Request::post(format!("/invoke/{tenant}/{function}?alias={alias}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, length)
            // Without it the outcome of a streamed answer is not sent.
            .header(header::TE, "trailers")
            .header(LAMBDA_HEADER, call)
            .body(Full::new(payload).map_err(|never| match never {}).boxed_unsync())
            .map_err(|_: http::Error| Refusal::new(Code::BadRequest, "the client's context is no header"))?;
        let request: Request<crate::Body> = request;
        Box::pin(wire::exchange(&Address::Unix(gateway), request, INVOKE_TIMEOUTS)).await.map_err(|error| {
            tracing::warn!(%error, "a gateway did not answer an invocation");
            Refusal::new(Code::NodeUnavailable, "the process that runs the function broke off")
        })
    }

    /// How many instances of the version that an alias names are there, not counting those that still start.
    pub(crate) async fn instances(
        &self,
        tenant: &TenantId,
        app: &AppName,
        function: &FunctionName,
        alias: &str,
    ) -> Result<u64, Refusal> {
        let lost = |what: &str| Refusal::new(Code::Internal, format!("{what} cannot be read"));
        let path = self.state.join("apps").join(tenant.as_str()).join(format!("{app}.json"));
        let bytes = tokio::fs::read(path).await.map_err(|_| lost("what is deployed"))?;
        let snapshot: AppSnapshot = serde_json::from_slice(&bytes).map_err(|_| lost("what is deployed"))?;
        let route = snapshot.functions.iter().find(|route| route.function == *function);
        let version = route.and_then(|route| route.aliases.get(alias)?.heaviest());
        let listed = self.ask("node.sock", http::Method::GET, "/ps", Bytes::new()).await?;
        let listed: Vec<InstanceInfo> =
            serde_json::from_slice(&listed).map_err(|_| lost("the list of instances"))?;
        let is_one = |one: &&InstanceInfo| {
            one.tenant == *tenant
                && one.function == *function
                && Some(one.version) == version
                && one.state != InstanceState::Starting
        };
        Ok(listed.iter().filter(is_one).count() as u64)
    }

    /// Asks the process that keeps events and queues.
    pub(crate) async fn events(
        &self,
        method: http::Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, Refusal> {
        self.ask("events.sock", method, path, body).await
    }

    /// Asks a process that listens on a socket.
    async fn ask(
        &self,
        socket: &str,
        method: http::Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, Refusal> {
        let away = || {
            let (code, what) = match socket {
                "node.sock" => (Code::NodeUnavailable, "runs functions"),
                _ => (Code::EventsUnavailable, "keeps queues"),
            };
            Refusal::new(code, format!("the process that {what} is not there at the moment"))
                .retry_after(Duration::from_secs(1))
        };
        let request = Request::builder().method(method).uri(path).body(Full::new(body));
        let request = request.map_err(|_| Refusal::new(Code::BadRequest, "this is no name of a queue"))?;
        let address = Address::Unix(self.state.join("run").join(socket));
        let lost = |error: wire::Error| {
            tracing::warn!(socket, %error, "a process did not answer");
            away()
        };
        let answer = Box::pin(wire::exchange(&address, request, EVENTS_TIMEOUTS)).await.map_err(lost)?;
        let status = answer.status();
        let read = Limited::new(answer.into_body(), EVENTS_BYTES_MAX).collect().await;
        let bytes = read.map_err(|_| away())?.to_bytes();
        if status.is_success() {
            return Ok(bytes);
        }
        Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| away()))
    }

    /// The gateways in turn, as far as they listen.
    fn gateway(&self) -> Result<PathBuf, Refusal> {
        let run = self.state.join("run");
        let entries = std::fs::read_dir(run).into_iter().flatten().filter_map(Result::ok);
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with("gateway-") && name.ends_with(".sock")
            })
            .collect();
        found.sort();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = found.len().max(1);
        found.into_iter().nth(turn % count).ok_or_else(|| {
            Refusal::new(Code::NodeUnavailable, "no gateway is there at the moment")
                .retry_after(Duration::from_secs(1))
        })
    }
}
