//! The API's client: one method for each operation. What goes wrong, here or there, is a
//! [`Refusal`] that can be shown as it is.

mod budget;
mod events;
mod identity;
mod keys;
mod lines;
mod objects;
mod secrets;
mod tenants;
mod upload;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use rouse_types::{
    Alias, AliasName, AppName, Code, Digest, FunctionName, InstanceInfo, InvocationId, LogLine, Outcome,
    Refusal, TenantId, invocation,
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::lines::Lines;
use crate::{
    AliasAnswer, AppDetail, AppSummary, AuditKey, AuditQuery, COST_HEADER, CertificateInfo, DeleteAnswer,
    DeployEvent, DeployRequest, FunctionSummary, HEARTBEAT, Info, InvoiceQuery, LogsQuery, OUTCOME_HEADER,
    RollbackAnswer, RollbackRequest, UsageQuery, UsageReport, VersionInfo,
    operation::{Id, path},
    query::{self, InvokeQuery},
    wire::{self, Address, Answer, Timeouts, Trust},
};

/// Most answers come at once; reading a month's usage may take a moment.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    head: Duration::from_secs(30),
    idle: Duration::from_secs(HEARTBEAT.as_secs() * 4),
};
/// For the largest upload over a slow line: 256 MiB at 150 KB/s.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// For an invocation: the longest time-out of a function, and the wait for its turn and its start.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(3_600 + 120);
/// The largest answer that is held in memory: an app's history, metrics, a function's answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Speaks to one platform.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    token: Option<String>,
}

/// What came of an invocation.
#[derive(Debug, Clone)]
pub struct InvokeAnswer {
    /// The answer's status: the function's own if it gave one.
    pub status: u16,
    /// Its id.
    pub invocation: Option<InvocationId>,
    /// How it ended.
    pub outcome: Outcome,
    /// Billed milliseconds.
    pub billed_ms: Option<u64>,
    /// What it costs by the price sheet, in billionths of its currency.
    pub cost_nanos: Option<u64>,
    /// The time by part, as the header `server-timing` has it.
    pub server_timing: Option<String>,
    /// What the platform says about a failure; the body is the function's own answer otherwise.
    pub refusal: Option<Refusal>,
    /// All headers of the answer.
    pub headers: HeaderMap,
    /// The answer's body.
    pub body: Bytes,
}

impl Client {
    /// A client of the platform at `url`: `http://host:port`, or `unix:/path/of.sock`.
    ///
    /// # Errors
    /// The URL is neither.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, Refusal> {
        let nobody = || Err("nobody is trusted here".to_owned());
        Self::trusting(url, token, nobody)
    }

    /// The same, with `https://host:port` besides. `trust` says who is trusted, once that is asked.
    ///
    /// # Errors
    /// The URL is none of these, or whom to trust cannot be told.
    pub fn trusting(
        url: &str,
        token: Option<String>,
        trust: impl FnOnce() -> Result<Trust, String>,
    ) -> Result<Self, Refusal> {
        let wrong = |hint: &str| {
            Refusal::new(Code::BadRequest, format!("'{url}' is not the address of a platform")).hint(hint)
        };
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Self { address: Address::Unix(path.into()), token });
        }
        let help = "write https://host:port; on the platform's own machine http://127.0.0.1:8081";
        let (authority, port, secure) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(authority), _) => (authority, 443, true),
            (_, Some(authority)) => (authority, 80, false),
            _ => return Err(wrong(help)),
        };
        let authority: http::uri::Authority =
            authority.trim_end_matches('/').parse().map_err(|_| wrong(help))?;
        let port = authority.port_u16().unwrap_or(port);
        let authority = format!("{}:{port}", authority.host());
        let address = match secure {
            false => Address::Tcp(authority),
            true => {
                let trust = trust().map_err(|why| {
                    Refusal::new(Code::BadRequest, format!("whom to trust cannot be told: {why}"))
                        .hint("name a file of certificates in PEM")
                })?;
                Address::Tls(authority, trust)
            }
        };
        Ok(Self { address, token })
    }

    /// Where it speaks to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What the platform is and offers.
    pub async fn info(&self) -> Result<Info, Refusal> {
        self.get(path(Id::Info, &[])).await
    }

    /// Whether code was uploaded already.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Refusal> {
        let request = self.request(Method::HEAD, path(Id::HasBlob, &[&digest.to_string()]), empty())?;
        let answer = self.send(request, TIMEOUTS).await?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            // A HEAD's answer has no body that could tell more.
            StatusCode::UNAUTHORIZED => {
                Err(Refusal::new(Code::Unauthorized, "the token is missing or wrong")
                    .hint("give an API key or the operator's token with --token or ROUSE_TOKEN"))
            }
            StatusCode::FORBIDDEN => {
                Err(Refusal::new(Code::Forbidden, "a key with this role may not upload code")
                    .hint("`rouse whoami` shows the key's role; deploying takes owner or deployer"))
            }
            status => Err(Refusal::new(Code::Internal, format!("{} answered {status}", self.address))),
        }
    }

    /// Uploads a file under its digest. `progress` is told of the bytes that were sent so far.
    pub async fn put_blob(
        &self,
        digest: &Digest,
        file: &Path,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<(), Refusal> {
        let (bytes, body) = upload::file(file, progress).await?;
        let mut request = self.request(Method::PUT, path(Id::PutBlob, &[&digest.to_string()]), body)?;
        request.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
        self.checked(request, Timeouts { head: UPLOAD_TIMEOUT, ..TIMEOUTS }).await.map(drop)
    }

    /// Uploads bytes under their digest.
    pub async fn put_blob_bytes(&self, bytes: Bytes) -> Result<Digest, Refusal> {
        let digest = Digest::of(&bytes);
        let path = path(Id::PutBlob, &[&digest.to_string()]);
        let request = self.request(Method::PUT, path, full(bytes))?;
        self.checked(request, Timeouts { head: UPLOAD_TIMEOUT, ..TIMEOUTS }).await?;
        Ok(digest)
    }

    /// Puts an app live. What happens is told as it does; the last event says what came of it.
    pub async fn deploy(
        &self,
        tenant: &TenantId,
        app: &AppName,
        request: &DeployRequest,
    ) -> Result<Lines<DeployEvent>, Refusal> {
        let path = path(Id::Deploy, &[tenant.as_str(), app.as_str()]);
        let request = self.request(Method::POST, path, json(request)?)?;
        Ok(Lines::new(self.checked(request, TIMEOUTS).await?.into_body()))
    }

    /// Lists the apps.
    pub async fn apps(&self, tenant: &TenantId) -> Result<Vec<AppSummary>, Refusal> {
        self.get(path(Id::ListApps, &[tenant.as_str()])).await
    }

    /// Shows an app's functions and its history.
    pub async fn app(&self, tenant: &TenantId, app: &AppName) -> Result<AppDetail, Refusal> {
        self.get(path(Id::GetApp, &[tenant.as_str(), app.as_str()])).await
    }

    /// Deletes an app.
    pub async fn delete_app(&self, tenant: &TenantId, app: &AppName) -> Result<DeleteAnswer, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteApp, &[tenant.as_str(), app.as_str()]), empty()).await
    }

    /// Puts an earlier deployment of an app live again: the one before the live one, or the named one.
    pub async fn rollback(
        &self,
        tenant: &TenantId,
        app: &AppName,
        to: Option<u64>,
    ) -> Result<RollbackAnswer, Refusal> {
        let path = path(Id::Rollback, &[tenant.as_str(), app.as_str()]);
        self.ask(Method::POST, path, json(&RollbackRequest { to })?).await
    }

    /// Lists the functions of all apps.
    pub async fn functions(&self, tenant: &TenantId) -> Result<Vec<FunctionSummary>, Refusal> {
        self.get(path(Id::ListFunctions, &[tenant.as_str()])).await
    }

    /// Lists a function's versions that are kept, newest first.
    pub async fn versions(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
    ) -> Result<Vec<VersionInfo>, Refusal> {
        self.get(path(Id::ListVersions, &[tenant.as_str(), function.as_str()])).await
    }

    /// Points an alias at versions.
    pub async fn put_alias(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        name: &AliasName,
        alias: &Alias,
    ) -> Result<AliasAnswer, Refusal> {
        let path = path(Id::PutAlias, &[tenant.as_str(), function.as_str(), name.as_str()]);
        self.ask(Method::PUT, path, json(alias)?).await
    }

    /// Shows an alias.
    pub async fn alias(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        name: &AliasName,
    ) -> Result<AliasAnswer, Refusal> {
        self.get(path(Id::GetAlias, &[tenant.as_str(), function.as_str(), name.as_str()])).await
    }

    /// Deletes an alias.
    pub async fn delete_alias(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        name: &AliasName,
    ) -> Result<DeleteAnswer, Refusal> {
        let path = path(Id::DeleteAlias, &[tenant.as_str(), function.as_str(), name.as_str()]);
        self.ask(Method::DELETE, path, empty()).await
    }

    /// Runs a function once.
    ///
    /// # Errors
    /// It could not be asked to run. A function that ran and failed is an [`InvokeAnswer`] with its outcome.
    pub async fn invoke(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        alias: Option<&str>,
        content_type: &str,
        payload: Bytes,
    ) -> Result<InvokeAnswer, Refusal> {
        let mut path = path(Id::Invoke, &[tenant.as_str(), function.as_str()]);
        let query = query::write(&InvokeQuery { alias: alias.map(str::to_owned), mode: None });
        if !query.is_empty() {
            path = format!("{path}?{query}");
        }
        let mut request = self.request(Method::POST, path, full(payload))?;
        let content_type = content_type
            .parse()
            .map_err(|_| Refusal::new(Code::BadRequest, format!("'{content_type}' is not a media type")))?;
        request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        let timeouts = Timeouts { head: INVOKE_TIMEOUT, idle: INVOKE_TIMEOUT, ..TIMEOUTS };
        let answer = self.send(request, timeouts).await?;
        // Whatever ran has an outcome; without one the API itself refused.
        if !answer.headers().contains_key(OUTCOME_HEADER) {
            return match answer.status().is_success() {
                true => Err(Refusal::new(Code::InvalidResponse, "the answer does not tell an outcome")),
                false => Err(self.refusal(answer).await),
            };
        }
        let (head, body) = answer.into_parts();
        let body = self.collect(body).await?;
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let outcome = text(OUTCOME_HEADER).and_then(outcome).unwrap_or(Outcome::PlatformError);
        let refusal = if outcome == Outcome::Ok { None } else { serde_json::from_slice(&body).ok() };
        Ok(InvokeAnswer {
            status: head.status.as_u16(),
            invocation: text(invocation::ID_HEADER).and_then(|text| text.parse().ok()),
            outcome,
            billed_ms: text(invocation::BILLED_HEADER).and_then(|text| text.parse().ok()),
            cost_nanos: text(COST_HEADER).and_then(|text| text.parse().ok()),
            server_timing: text("server-timing").map(str::to_owned),
            refusal,
            headers: head.headers,
            body,
        })
    }

    /// What functions printed.
    pub async fn logs(&self, tenant: &TenantId, query: &LogsQuery) -> Result<Lines<LogLine>, Refusal> {
        let path = format!("{}?{}", path(Id::Logs, &[tenant.as_str()]), query::write(query));
        let request = self.request(Method::GET, path, empty())?;
        Ok(Lines::new(self.checked(request, TIMEOUTS).await?.into_body()))
    }

    /// What was used and what it costs.
    pub async fn usage(&self, tenant: &TenantId, query: &UsageQuery) -> Result<UsageReport, Refusal> {
        self.get(format!("{}?{}", path(Id::Usage, &[tenant.as_str()]), query::write(query))).await
    }

    /// A month's invoice, such as of `2026-11`, as text.
    pub async fn invoice(
        &self,
        tenant: &TenantId,
        month: &str,
        query: &InvoiceQuery,
    ) -> Result<String, Refusal> {
        let path = format!("{}?{}", path(Id::Invoice, &[tenant.as_str(), month]), query::write(query));
        let request = self.request(Method::GET, path, empty())?;
        let body = self.collect(self.checked(request, TIMEOUTS).await?.into_body()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The ledger's records and seals, line by line as they were written: whoever checks them needs each byte. A stream
    /// whose last line is no end line broke off.
    pub async fn audit_export(
        &self,
        tenant: &TenantId,
        query: &AuditQuery,
    ) -> Result<Lines<Box<serde_json::value::RawValue>>, Refusal> {
        let path = format!("{}?{}", path(Id::AuditExport, &[tenant.as_str()]), query::write(query));
        let request = self.request(Method::GET, path, empty())?;
        Ok(Lines::new(self.checked(request, TIMEOUTS).await?.into_body()))
    }

    /// The public key of the ledger's seals.
    pub async fn audit_key(&self) -> Result<AuditKey, Refusal> {
        self.get(path(Id::AuditKey, &[])).await
    }

    /// What HTTPS at the functions' domains is answered with.
    pub async fn certificates(&self, tenant: &TenantId) -> Result<Vec<CertificateInfo>, Refusal> {
        self.get(path(Id::ListCertificates, &[tenant.as_str()])).await
    }

    /// The instances that are there now.
    pub async fn ps(&self, tenant: &TenantId) -> Result<Vec<InstanceInfo>, Refusal> {
        self.get(path(Id::Ps, &[tenant.as_str()])).await
    }

    /// Metrics of all processes, in Prometheus' text form.
    pub async fn metrics(&self) -> Result<String, Refusal> {
        let request = self.request(Method::GET, path(Id::Metrics, &[]), empty())?;
        let body = self.collect(self.checked(request, TIMEOUTS).await?.into_body()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Whether deployments and calls can be taken.
    pub async fn ready(&self) -> Result<(), Refusal> {
        let request = self.request(Method::GET, path(Id::Ready, &[]), empty())?;
        self.checked(request, TIMEOUTS).await.map(drop)
    }

    fn request(
        &self,
        method: Method,
        path: String,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, Refusal> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        request
            .body(body)
            .map_err(|_| Refusal::new(Code::BadRequest, "the token has characters that no token has"))
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, Refusal> {
        self.ask(Method::GET, path, empty()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: RequestBody,
    ) -> Result<T, Refusal> {
        let mut request = self.request(method, path, body)?;
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let body = self.collect(self.checked(request, TIMEOUTS).await?.into_body()).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Refusal::new(
                Code::InvalidResponse,
                format!("{} answered what is not known: {error}", self.address),
            )
            .hint("the platform may be of another release than this program")
        })
    }

    async fn checked(
        &self,
        request: Request<RequestBody>,
        timeouts: Timeouts,
    ) -> Result<Response<Answer>, Refusal> {
        let answer = self.send(request, timeouts).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    async fn send(
        &self,
        request: Request<RequestBody>,
        timeouts: Timeouts,
    ) -> Result<Response<Answer>, Refusal> {
        Box::pin(wire::exchange(&self.address, request, timeouts)).await.map_err(unreachable)
    }

    async fn refusal(&self, answer: Response<Answer>) -> Refusal {
        let status = answer.status();
        match self.collect(answer.into_body()).await {
            Ok(body) => serde_json::from_slice(&body).unwrap_or_else(|_| {
                Refusal::new(Code::Internal, format!("{} answered {status}", self.address))
                    .hint("is this the address of the control API?")
            }),
            Err(refusal) => refusal,
        }
    }

    async fn collect(&self, body: Answer) -> Result<Bytes, Refusal> {
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(match error.downcast::<wire::Error>() {
                Ok(error) => unreachable(*error),
                Err(_) => Refusal::new(
                    Code::ResponseTooLarge,
                    format!("{} answers more than {ANSWER_BYTES_MAX} bytes", self.address),
                ),
            }),
        }
    }
}

/// What is said when the platform cannot be reached.
fn unreachable(error: wire::Error) -> Refusal {
    let refusal = Refusal::new(Code::ControlUnavailable, error.to_string());
    refusal.hint(match &error {
        wire::Error::Connect { .. } => "start the platform with `rouse serve`, or name another with --url",
        wire::Error::Distrusted { why, .. } => why.hint(),
        // What a server of TLS says to who speaks HTTP is no HTTP.
        wire::Error::Broken { source, address: Address::Tcp(_) } if source.is_parse() => {
            "what answers there speaks no HTTP: if that is HTTPS, write https:// in --url"
        }
        _ => "look into the platform's log, and try again",
    })
}

fn outcome(text: &str) -> Option<Outcome> {
    use serde::{Deserialize as _, de::IntoDeserializer as _};
    let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    Outcome::deserialize(text).ok()
}

fn empty() -> RequestBody {
    full(Bytes::new())
}

fn full(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn json<T: Serialize>(value: &T) -> Result<RequestBody, Refusal> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Refusal::new(Code::BadRequest, format!("cannot write the request: {error}")))?;
    Ok(full(bytes.into()))
}

#[cfg(test)]
mod tests;
