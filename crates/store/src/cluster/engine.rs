//! The connection to the engine: asking it, and proving that it keeps what it acknowledges.
//!
//! JetStream is spoken through its documented JSON API over requests (docs.nats.io, "JetStream wire API reference"), by the
//! core client alone.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, HeaderMap, RequestErrorKind, connection::State};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// The oldest server that is taken. Before it, what was acknowledged could be lost after a stream had been purged.
const VERSION_MIN: (i64, i64, i64) = (2, 14, 6);
/// The release that everything was measured with; older ones are taken with a warning.
const VERSION_WANTED: (i64, i64, i64) = (2, 15, 0);
/// How long one question may take. A new leader is elected within 4 to 9 seconds; meanwhile, it is asked again.
const ASK_MAX: Duration = Duration::from_secs(1);
/// How long a write is tried before it is refused: longer than an election.
pub(super) const TRY_MAX: Duration = Duration::from_secs(15);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// An answer of the server's monitor.
const MONITOR_BYTES_MAX: usize = 1 << 20;
/// Streams together are bounded by the server's own limit on storage; one of them by this, in bytes.
pub(super) const STREAM_BYTES_MAX: i64 = 64 << 30;

/// Where the engine is, and how it is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Its servers: `nats://[user:password@]host:4222`, or `tls://…`; several are split by commas.
    pub servers: String,
    /// The servers' monitors, `http://host:8222`, which prove that each syncs what it acknowledges. Without any, that is
    /// believed and a warning is logged.
    pub monitors: Vec<String>,
    /// On how many servers everything is kept: 1, 3 or 5.
    pub replicas: u8,
    /// After how many bytes of a log its tables are copied, so that the log can be cut.
    pub copy_after_bytes: u64,
}

/// See [`Options::copy_after_bytes`]: a node that starts anew reads at most about twice as much.
pub const COPY_AFTER_BYTES_DEFAULT: u64 = 64 << 20;

impl Options {
    /// One replica at these servers; no monitor.
    #[must_use]
    pub fn new(servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            monitors: Vec::new(),
            replicas: 1,
            copy_after_bytes: COPY_AFTER_BYTES_DEFAULT,
        }
    }
}

/// A cluster, joined. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cluster {
    client: Client,
    replicas: u8,
    copy_after_bytes: u64,
}

/// What the engine answered: its JSON, or its refusal.
#[derive(Debug)]
pub(super) enum Answer {
    Done(Value),
    /// Error code ("err_code" of JetStream's errors.json) and text.
    Refused(u64, String),
}

impl Cluster {
    /// Connects, and checks that the engine is one that can be relied on.
    ///
    /// # Errors
    /// [`Error::Away`] if nobody answers; [`Error::Engine`] if the server is too old, has no JetStream, or does not sync
    /// what it acknowledges.
    pub async fn join(options: &Options) -> Result<Self, Error> {
        if !matches!(options.replicas, 1 | 3 | 5) {
            let replicas = options.replicas;
            return Err(Error::Engine(format!("{replicas} replicas: use 1, 3 or 5")));
        }
        let servers: Vec<&str> = options.servers.split(',').map(str::trim).collect();
        let connect = ConnectOptions::new()
            .name("rouse")
            .ping_interval(Duration::from_secs(2))
            .connection_timeout(Duration::from_secs(3))
            .request_timeout(Some(ASK_MAX))
            .max_reconnects(None)
            .reconnect_delay_callback(|tries| Duration::from_millis(50 * (tries as u64).min(10)));
        let away =
            |error: &dyn std::fmt::Display| Error::Away(format!("{}: {error}", shown(&options.servers)));
        let client = connect.connect(servers).await.map_err(|error| away(&error))?;
        let version = client.server_info().version;
        check_version(&version)?;
        let cluster = Self { client, replicas: options.replicas, copy_after_bytes: options.copy_after_bytes };
        for monitor in &options.monitors {
            check_jsz(monitor, &jsz(monitor).await.map_err(|error| away(&error))?)?;
        }
        if options.monitors.is_empty() {
            tracing::warn!(
                "whether the cluster's engine syncs what it acknowledges is not known: name its servers' monitors"
            );
        }
        match cluster.ask("$JS.API.INFO", &Value::Null).await? {
            Answer::Done(_) => Ok(cluster),
            Answer::Refused(_, text) => Err(Error::Engine(format!(
                "the server at {} has no JetStream for us: {text}. Give it a jetstream {{ }} block",
                shown(&options.servers)
            ))),
        }
    }

    /// Whether the engine can be reached at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn copy_after_bytes(&self) -> u64 {
        self.copy_after_bytes
    }

    pub(super) fn replicas(&self) -> u8 {
        self.replicas
    }

    /// Asks the engine something that may be asked again, until it answers.
    pub(super) async fn ask(&self, subject: &str, question: &Value) -> Result<Answer, Error> {
        let payload = if question.is_null() { Bytes::new() } else { question.to_string().into() };
        let answer = self.send(subject, HeaderMap::new(), payload, false).await?;
        serde_json::from_slice(&answer.payload).map(sort).map_err(|error| {
            Error::Engine(format!("the cluster's engine does not answer {subject} in JSON: {error}"))
        })
    }

    /// Publishes to a stream: what carries an id or an expectation is sent again until it is acknowledged.
    pub(super) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Answer, Error> {
        let answer = self.send(subject, headers, payload, true).await?;
        serde_json::from_slice(&answer.payload).map(sort).map_err(|error| {
            Error::Engine(format!("the acknowledgement of {subject} is not one of JetStream: {error}"))
        })
    }

    /// A request, tried until something answers that is no passing trouble.
    pub(super) async fn send(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        writes: bool,
    ) -> Result<async_nats::Message, Error> {
        let end = Instant::now() + TRY_MAX;
        let mut sent = false;
        loop {
            let trouble = if self.is_connected() {
                sent = true;
                match self
                    .client
                    .request_with_headers(subject.to_owned(), headers.clone(), payload.clone())
                    .await
                {
                    Ok(answer) => match passing(&answer.payload) {
                        None => return Ok(answer),
                        Some(trouble) => trouble,
                    },
                    // Nobody listened, so nothing was written by this try.
                    Err(error) if error.kind() == RequestErrorKind::NoResponders => error.to_string(),
                    Err(error) if error.kind() == RequestErrorKind::MaxPayloadExceeded => {
                        return Err(Error::Engine(format!("{subject}: {error}; raise its max_payload")));
                    }
                    Err(error) => error.to_string(),
                }
            } else {
                "there is no connection".to_owned()
            };
            if Instant::now() >= end {
                let error = if sent && writes { Error::Unknown } else { Error::Away };
                return Err(error(trouble));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What a refusal says that passes: there is no leader at the moment, servers are just starting, or an earlier try of the
/// same write has not come to its end.
fn passing(payload: &[u8]) -> Option<String> {
    const NO_PEERS: u64 = 10_005;
    const CLUSTER_NOT_AVAILABLE: u64 = 10_006;
    const TEMPORARILY_UNAVAILABLE: u64 = 10_008;
    const NOT_LEADER: u64 = 10_009;
    const ID_IN_PROCESS: u64 = 10_158;
    const TOO_MANY_REQUESTS: u64 = 10_167;
    /// With the reason in its text: no room, or a store that is just closed or led by another server.
    const STORE_FAILED: u64 = 10_077;
    const NO_ROOM: [&str; 3] = ["maximum", "no space", "insufficient"];
    // A refusal is short.
    if payload.len() > 1_024 {
        return None;
    }
    let answer = serde_json::from_slice::<Value>(payload).ok()?;
    let code = answer["error"]["err_code"].as_u64()?;
    let text = answer["error"]["description"].as_str().unwrap_or("it is without a leader");
    let passes = match code {
        NO_PEERS | CLUSTER_NOT_AVAILABLE | TEMPORARILY_UNAVAILABLE | NOT_LEADER => true,
        ID_IN_PROCESS | TOO_MANY_REQUESTS => true,
        STORE_FAILED => !NO_ROOM.iter().any(|why| text.contains(why)),
        _ => false,
    };
    passes.then(|| text.to_owned())
}

fn sort(answer: Value) -> Answer {
    match answer.get("error") {
        Some(error) => Answer::Refused(
            error["err_code"].as_u64().unwrap_or_default(),
            error["description"].as_str().unwrap_or("no reason given").to_owned(),
        ),
        None => Answer::Done(answer),
    }
}

fn check_version(found: &str) -> Result<(), Error> {
    let mut parts = found.split(['.', '-']).map(|part| part.parse::<i64>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    let version = (part(), part(), part());
    let (major, minor, patch) = VERSION_MIN;
    if version < VERSION_MIN {
        return Err(Error::Engine(format!(
            "the server is NATS {found}: use {major}.{minor}.{patch} or newer, which keeps what it acknowledges"
        )));
    }
    if version < VERSION_WANTED {
        tracing::warn!(version = found, "Rouse was measured with NATS 2.15; this server is older");
    }
    Ok(())
}

/// Whether a server says of itself that it syncs before it acknowledges. Old ones ignore the setting in silence.
fn check_jsz(monitor: &str, jsz: &Value) -> Result<(), Error> {
    if jsz["config"]["sync_always"] == Value::Bool(true) {
        return Ok(());
    }
    Err(Error::Engine(format!(
        "the server at {monitor} acknowledges what is not on its disk: set `sync_interval: always` in its jetstream block"
    )))
}

/// Reads `/jsz` of a server's monitor.
async fn jsz(monitor: &str) -> Result<Value, String> {
    let read = async {
        let authority = monitor.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stream = tokio::net::TcpStream::connect(&authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request =
            hyper::Request::get("/jsz?config=true").header("host", authority).body(Empty::<Bytes>::new())?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            Ok(Limited::new(answer.into_body(), MONITOR_BYTES_MAX).collect().await?.to_bytes())
        };
        // The connection is driven by this task alone, and ends with it.
        let body: Result<Bytes, Box<dyn std::error::Error + Send + Sync>> = tokio::select! {
            answer = answer => answer,
            ended = connection => Err(ended.err().map_or_else(|| "it hung up".into(), Into::into)),
        };
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(serde_json::from_slice(&body?)?)
    };
    match tokio::time::timeout(Duration::from_secs(5), read).await {
        Ok(read) => read.map_err(|error| format!("its monitor {monitor}: {error}")),
        Err(_) => Err(format!("its monitor {monitor} does not answer")),
    }
}

/// A random name, in hexadecimal digits, and its bytes.
pub(super) fn random() -> Result<(String, [u8; 16]), Error> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| Error::Engine("the operating system gives no random numbers".to_owned()))?;
    Ok((hex::encode(bytes), bytes))
}

/// Addresses without the passwords that they may carry.
fn shown(servers: &str) -> String {
    let one = |server: &str| match server.rsplit_once('@') {
        Some((_, host)) => host.to_owned(),
        None => server.trim().to_owned(),
    };
    servers.split(',').map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_that_is_too_old_or_syncs_late_is_refused_with_what_to_change() {
        for found in ["2.9.10", "2.12.8", "2.14.5", "nonsense"] {
            assert!(check_version(found).unwrap_err().to_string().contains("2.14.6"), "{found}");
        }
        for found in ["2.14.6", "2.15.1", "2.15.0-RC.1", "3.0.0"] {
            assert!(check_version(found).is_ok(), "{found}");
        }
        assert!(check_jsz("m", &json!({"config": {"sync_always": true}})).is_ok());
        for late in
            [json!({"config": {"sync_interval": 120}}), json!({}), json!({"config": {"sync_always": "true"}})]
        {
            let error = check_jsz("m", &late).unwrap_err().to_string();
            assert!(error.contains("sync_interval: always"), "{error}");
        }
    }

    #[test]
    fn what_passes_is_told_apart_from_what_does_not() {
        let passes = |code: u64, text: &str| {
            let answer = json!({"error": {"code": 503, "err_code": code, "description": text}});
            passing(answer.to_string().as_bytes()).is_some()
        };
        assert!(passes(10_008, "JetStream system temporarily unavailable"));
        assert!(passes(10_158, "duplicate message id is in process"));
        assert!(passes(10_077, "store is closed"));
        for full in
            ["maximum bytes exceeded", "write: no space left on device", "insufficient storage resources"]
        {
            assert!(!passes(10_077, full), "{full}");
        }
        assert!(!passes(10_071, "wrong last sequence: 5"));
        assert!(passing(br#"{"stream":"x","seq":1}"#).is_none());
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("nats://u:p@a:4222, nats://b:4222"), "a:4222, nats://b:4222");
    }
}
