//! Function URLs as they are called: at `/_url/<id>/…`, and at any host `<id>.lambda-url.<region>.…`.
//!
//! ```text
//!   request ─▶ whose URL ─▶ preflight? answered here ─▶ AuthType: signature ─▶ event, payload format 2.0
//!                        ◀─ CORS ◀─ whole, or as it streams ◀─ gateway ◀───────────┘
//! ```
//!
//! Source: AWS Lambda Developer Guide, "Creating and managing Lambda function URLs".

mod cors;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use rouse_api::wire::Answer;
use rouse_contract::lambda::{
    environment::xray,
    http_answer::{self, Head},
    http_event, prelude,
};
use rouse_types::{
    InvocationId, LambdaCall, TraceContext,
    invocation::{ERROR_HEADER, FUNCTION_ERROR_HEADER, ID_HEADER},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Body,
    error::AwsError,
    face::{Around, Face},
    lambda::{
        config::platform_alias,
        invoke::{self, ANSWER_BYTES_MAX, Reached, put},
        op::Op,
    },
    names::{self, LATEST, Scope},
    server::{Way, answer, body_of},
    state::{self, Function},
};

/// What addresses by path begin with: no bucket's name has an underscore.
pub(crate) const PATH: &str = "/_url/";
/// What follows the id in an address by host.
const HOST: &str = "lambda-url";
/// As long as AWS' ids are.
const ID_CHARS: usize = 32;

/// Which function answers at a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) tenant: rouse_types::TenantId,
    pub(crate) region: String,
    pub(crate) function: String,
    /// An alias, or `$LATEST`.
    pub(crate) qualifier: String,
}

/// A new id.
pub(crate) fn new_id() -> String {
    crate::face::uuid().replace('-', "")
}

/// The id in an address, and the path that the function sees.
pub(crate) fn target<'a>(host: Option<&'a str>, path: &'a str) -> Option<(&'a str, &'a str)> {
    let is_id = |id: &str| id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(rest) = path.strip_prefix(PATH) {
        let (id, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        return Some((id, path));
    }
    let (id, rest) = host?.split_once('.')?;
    (is_id(id) && rest.split('.').next() == Some(HOST)).then_some((id, path))
}

/// A URL that is called, with what is set of it.
pub(crate) struct Found {
    id: String,
    place: Place,
    config: Value,
    /// Whether the policy of what it calls lets everyone in.
    is_open: bool,
}

/// A request to a URL, whose body is yet to be read.
pub(crate) struct Asked<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) path: &'a str,
    pub(crate) way: Way,
}

/// What is said to whoever may not call, and of a URL that there is not.
pub(crate) fn forbidden() -> Response<Body> {
    let mut response =
        answer(StatusCode::FORBIDDEN, "application/json", json!({ "Message": "Forbidden" }).to_string());
    put(response.headers_mut(), "x-amzn-errortype", "AccessDeniedException");
    response
}

/// Finds the URL of an id.
pub(crate) async fn find(face: &Arc<Face>, id: &str) -> Result<Option<Found>, AwsError> {
    let Some(place) = face.store.named::<Place>(state::URLS, id).await? else { return Ok(None) };
    let function = face.store.get::<Function>(state::FUNCTIONS, &place.tenant, &place.function).await?;
    let Some(function) = function.map(|at| at.value) else { return Ok(None) };
    // One that was deleted, and perhaps made again with another id.
    let config = function.urls.get(&place.qualifier).filter(|config| config["Id"] == id).cloned();
    let own = Some(place.qualifier.as_str()).filter(|qualifier| *qualifier != LATEST).unwrap_or_default();
    let is_open =
        function.policies.get(own).is_some_and(|policy| policy.statements.iter().any(lets_everyone));
    Ok(config.map(|config| Found { id: id.to_owned(), place, config, is_open }))
}

/// Whether a statement of a policy lets anyone call a URL whose `AuthType` is `NONE`.
fn lets_everyone(statement: &Value) -> bool {
    let anyone = &statement["Principal"];
    let action = statement["Action"].as_str().unwrap_or_default();
    // What it says of accounts and sources is true of nobody who did not sign.
    let holds = |(key, wanted): (&String, &Value)| match key.as_str() {
        "lambda:FunctionUrlAuthType" => wanted == "NONE",
        "lambda:InvokedViaFunctionUrl" => wanted == "true",
        _ => false,
    };
    let conditions = statement["Condition"].as_object().into_iter().flatten();
    statement["Effect"] == "Allow"
        && (anyone == "*" || anyone["AWS"] == "*")
        && ["lambda:InvokeFunctionUrl", "lambda:*", "*"].contains(&action)
        && conditions.filter_map(|(_, keys)| keys.as_object()).flatten().all(holds)
}

impl Found {
    /// The answer to a preflight, if this is one and not the function's own affair.
    pub(crate) fn preflight(&self, asked: &Asked<'_>) -> Option<Response<Body>> {
        let headers = &asked.parts.headers;
        if self.config["Cors"].is_null() || !cors::is_preflight(&asked.parts.method, headers) {
            return None;
        }
        let mut response = Response::new(body_of(""));
        response.headers_mut().extend(cors::headers(&self.config["Cors"], headers, true));
        Some(response)
    }

    /// Whether those who do not sign may call it.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether callers must sign.
    pub(crate) fn is_signed(&self) -> bool {
        self.config["AuthType"] != "NONE"
    }

    pub(crate) fn is_of(&self, tenant: &rouse_types::TenantId) -> bool {
        self.place.tenant == *tenant
    }

    /// Calls the function, for whoever may. `key` is what the request was signed with.
    pub(crate) async fn call(
        &self,
        face: &Arc<Face>,
        asked: &Asked<'_>,
        key: Option<String>,
        body: &Bytes,
    ) -> Response<Body> {
        let mut response = match self.run(face, asked, key, body).await {
            Ok(response) => response,
            Err(error) => error.rest_json(),
        };
        if !self.config["Cors"].is_null() {
            // What is set here stands in place of what the function says.
            let told = cors::headers(&self.config["Cors"], &asked.parts.headers, false);
            for (name, value) in &told {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    async fn run(
        &self,
        face: &Arc<Face>,
        asked: &Asked<'_>,
        key: Option<String>,
        body: &Bytes,
    ) -> Result<Response<Body>, AwsError> {
        let Place { tenant, region, function, qualifier } = &self.place;
        let account = names::account(tenant);
        let scope = Scope { tenant: tenant.clone(), account, region: region.clone() };
        let now = face.config.clock.now();
        let around = Around { scope, url: String::new(), now };
        let mut input = json!({ "FunctionName": function });
        if qualifier != LATEST {
            input["Qualifier"] = qualifier.as_str().into();
        }
        let op = Op { face, around: &around, input: &input };
        let reached = op.reach().await?;
        let payload = self.event(&around, asked, key, body);
        let call = LambdaCall { arn: reached.arn.clone(), client_context: None };
        let (own, alias) = (names::platform(function), platform_alias(&reached.version));
        let answer = face.platform.invoke(tenant, &own, &alias, &call, payload).await;
        let answer = answer.map_err(|refusal| invoke::error(&reached, &refusal))?;
        let headers = answer.headers();
        let id = headers.get(ID_HEADER).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let has_failed = headers.contains_key(FUNCTION_ERROR_HEADER) || headers.contains_key(ERROR_HEADER);
        let mut response = if has_failed {
            // Refused, which is told; or failed, of which callers of a URL are told nothing.
            Box::pin(invoke::whole(&reached, answer)).await?;
            failed()
        } else if self.config["InvokeMode"] == "RESPONSE_STREAM" {
            streamed(&reached, answer).await?
        } else {
            whole(&reached, answer).await?
        };
        if let Some(id) = id {
            put(response.headers_mut(), "x-amzn-requestid", &id);
        }
        Ok(response)
    }

    /// The request as the function sees it.
    fn event(&self, around: &Around, asked: &Asked<'_>, key: Option<String>, body: &Bytes) -> Bytes {
        let Asked { parts, path, way: Way { peer, scheme, .. } } = asked;
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        // Both are pieces of a URI that was parsed already.
        let uri = Uri::try_from(format!("{path}{query}")).unwrap_or_default();
        let mut headers = parts.headers.clone();
        let port = around_port(&headers, scheme);
        for (name, value) in [
            ("x-forwarded-for", peer.to_string()),
            ("x-forwarded-proto", (*scheme).to_owned()),
            ("x-forwarded-port", port),
        ] {
            put(&mut headers, name, &value);
        }
        let scope = &around.scope;
        let url = http_event::Url {
            id: self.id.clone(),
            domain: format!("{}.{HOST}.{}.on.aws", self.id, scope.region),
            caller: key.map(|access_key| http_event::Caller {
                access_key,
                account_id: scope.account.clone(),
                caller_id: scope.account.clone(),
                user_arn: scope.user(),
                user_id: scope.account.clone(),
            }),
        };
        let id = InvocationId::new();
        http_event::write(&http_event::Input {
            tenant: &scope.tenant,
            function: &names::platform(&self.place.function),
            id,
            received: around.now,
            peer: Some(*peer),
            trace: &xray(&TraceContext::of(None, id)),
            method: &parts.method,
            uri: &uri,
            version: parts.version,
            headers: &headers,
            body,
            url: Some(&url),
        })
    }
}

/// The port that a client addressed.
fn around_port(headers: &HeaderMap, scheme: &str) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port);
    let default = if scheme == "https" { "443" } else { "80" };
    port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or(default).to_owned()
}

fn failed() -> Response<Body> {
    answer(StatusCode::BAD_GATEWAY, "application/json", "Internal Server Error".to_owned())
}

/// An answer that is passed on once it is there.
async fn whole(reached: &Reached, answer: Response<Answer>) -> Result<Response<Body>, AwsError> {
    let (head, body) = answer.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).cloned();
    let collected = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => collected,
        Err(error) => {
            tracing::debug!(name = reached.name, %error, "an answer to a function URL broke off");
            return Ok(failed());
        }
    };
    // A streamed answer tells at its end how it went.
    if collected.trailers().is_some_and(|trailers| trailers.contains_key(ERROR_HEADER)) {
        return Ok(failed());
    }
    let payload = collected.to_bytes();
    let read = if kind.as_ref().is_some_and(|kind| kind == prelude::CONTENT_TYPE) {
        prelude::Reader::default().push(&payload).map(|whole| whole.unwrap_or_else(|| plain(None, &payload)))
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_err() {
        // What a function streams need be no JSON.
        Ok(plain(kind, &payload))
    } else {
        http_answer::read(&payload)
    };
    match read {
        Ok((head, body)) => Ok(with_head(head, body_of(body))),
        Err(error) => {
            tracing::debug!(name = reached.name, %error, "an answer to a function URL is none");
            Ok(failed())
        }
    }
}

fn plain(kind: Option<HeaderValue>, payload: &Bytes) -> (Head, Bytes) {
    let usual = HeaderValue::from_static("application/octet-stream");
    (Head::plain(kind.unwrap_or(usual)), payload.clone())
}

/// An answer that is passed on as it comes; one that a handler returned whole is as any other.
async fn streamed(reached: &Reached, answer: Response<Answer>) -> Result<Response<Body>, AwsError> {
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    if kind.as_ref().is_none_or(|kind| kind == "application/json") {
        return whole(reached, answer).await;
    }
    let mut body = answer.into_body();
    if kind.as_ref().is_none_or(|kind| kind != prelude::CONTENT_TYPE) {
        let head = plain(kind, &Bytes::new()).0;
        return Ok(with_head(head, pieces(Bytes::new(), body)));
    }
    let mut reader = prelude::Reader::default();
    loop {
        let Some(Ok(frame)) = body.frame().await else { return Ok(failed()) };
        let Ok(data) = frame.into_data() else { return Ok(failed()) };
        match reader.push(&data) {
            Ok(None) => {}
            Ok(Some((head, first))) => return Ok(with_head(head, pieces(first, body))),
            Err(error) => {
                tracing::debug!(name = reached.name, %error, "an answer to a function URL is none");
                return Ok(failed());
            }
        }
    }
}

/// What came already, and what is to come. The platform's own trailers stay here.
fn pieces(first: Bytes, rest: Answer) -> Body {
    let begun = (Some(first).filter(|first| !first.is_empty()), rest);
    StreamBody::new(futures_util::stream::unfold(begun, |(first, mut rest)| async move {
        if let Some(first) = first {
            return Some((Ok(Frame::data(first)), (None, rest)));
        }
        loop {
            return match rest.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Some((Ok(Frame::data(data)), (None, rest))),
                    Err(_) => continue,
                },
                Err(error) => Some((Err(std::io::Error::other(error)), (None, rest))),
            };
        }
    }))
    .boxed_unsync()
}

fn with_head(head: Head, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_a_path_and_in_a_host() {
        let id = new_id();
        assert_eq!(id.len(), ID_CHARS);
        let path = format!("/_url/{id}/a/b");
        assert_eq!(target(Some("127.0.0.1:4566"), &path), Some((id.as_str(), "/a/b")));
        assert_eq!(target(None, &path[..path.len() - 4]), Some((id.as_str(), "/")));
        let host = format!("{id}.lambda-url.us-east-1.localhost:4566");
        assert_eq!(target(Some(&host), "/a"), Some((id.as_str(), "/a")));
        for other in ["bucket.lambda-url.example", "127.0.0.1", &format!("{id}.s3.example")] {
            assert_eq!(target(Some(other), "/a"), None, "{other}");
        }
    }
}
