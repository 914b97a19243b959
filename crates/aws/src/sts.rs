//! Security Token Service: who is calling, and credentials for some time. A role parts nobody here: its session may what the key
//! may that it was made for.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use http::{Response, StatusCode};
use rouse_store::access_keys::sessions::{self, Session};
use rouse_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Body,
    error::AwsError,
    face::{self, Around},
    server,
};

/// How long a session lasts, in seconds: unless it is said, and what may be said.
const SECONDS: u64 = 3_600;
const SECONDS_MIN: u64 = 900;
const SECONDS_MAX: u64 = 43_200;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) key: &'a str,
    /// What came beside the key of a session.
    pub(crate) token: Option<&'a str>,
}

/// What the token of a session says.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    role: String,
    session: String,
    /// No two are the same.
    id: String,
}

/// Answers one request in form encoding.
pub(crate) fn answer(
    state: &Path,
    around: &Around,
    caller: Caller<'_>,
    form: &[(String, String)],
) -> Response<Body> {
    let get = |name: &str| form.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let action = get("Action").unwrap_or_default();
    let scope = &around.scope;
    let result = match action {
        "GetCallerIdentity" => {
            let (arn, id) = match session_of(caller) {
                Some(token) => {
                    (assumed(&scope.account, &token), format!("{}:{}", role_id(&token.role), token.session))
                }
                None => (scope.user(), caller.key.to_owned()),
            };
            format!(
                "<Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account>",
                escape(&arn),
                escape(&id),
                scope.account
            )
        }
        "AssumeRole" => match assume(state, around, caller, &get) {
            Ok(result) => result,
            Err(refused) => return *refused,
        },
        other => {
            let text = format!("Could not find operation {other} for version 2011-06-15");
            return error("InvalidAction", &text, StatusCode::BAD_REQUEST);
        }
    };
    xml(action, &result, "https://sts.amazonaws.com/doc/2011-06-15/")
}

/// The session that a caller's key and token are of.
fn session_of(caller: Caller<'_>) -> Option<Token> {
    let (session, token) = (Session::of(caller.key)?, caller.token?);
    let bytes = URL_SAFE.decode(token).ok().filter(|_| session.has_token(token))?;
    serde_json::from_slice(&bytes).ok()
}

fn assumed(account: &str, token: &Token) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{}/{}", token.role, token.session)
}

fn role_id(role: &str) -> String {
    format!("AROA{}", &rouse_types::Digest::of(role.as_bytes()).hex()[..17].to_uppercase())
}

fn assume<'a>(
    state: &Path,
    around: &Around,
    caller: Caller<'_>,
    get: &impl Fn(&str) -> Option<&'a str>,
) -> Result<String, Box<Response<Body>>> {
    let scope = &around.scope;
    let invalid = |value: &str, member: &str, constraint: &str| {
        let text = format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
        );
        Box::new(error("ValidationError", &text, StatusCode::BAD_REQUEST))
    };
    let session = get("RoleSessionName").unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if session.len() < 2 {
        return Err(invalid(
            session,
            "roleSessionName",
            "Member must have length greater than or equal to 2",
        ));
    }
    if session.len() > 64 {
        return Err(invalid(session, "roleSessionName", "Member must have length less than or equal to 64"));
    }
    if !session.chars().all(fits) {
        let form = r"Member must satisfy regular expression pattern: [\w+=,.@-]*";
        return Err(invalid(session, "roleSessionName", form));
    }
    let asked = get("DurationSeconds").map_or(Some(SECONDS), |text| text.parse().ok());
    let seconds = match asked {
        Some(seconds) if seconds < SECONDS_MIN => {
            let least = format!("Member must have value greater than or equal to {SECONDS_MIN}");
            return Err(invalid(&seconds.to_string(), "durationSeconds", &least));
        }
        Some(seconds) if seconds <= SECONDS_MAX => seconds,
        _ => {
            let most = format!("Member must have value less than or equal to {SECONDS_MAX}");
            return Err(invalid(get("DurationSeconds").unwrap_or_default(), "durationSeconds", &most));
        }
    };
    let arn = get("RoleArn").unwrap_or_default();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let role = match parts.as_slice() {
        ["arn", _, "iam", "", account, role] if *account == scope.account => role.strip_prefix("role/"),
        _ => None,
    };
    // AWS tells no one which roles there are.
    let Some(role) = role.and_then(|role| role.rsplit('/').next()).filter(|role| !role.is_empty()) else {
        let user = scope.user();
        let text = format!("User: {user} is not authorized to perform: sts:AssumeRole on resource: {arn}");
        return Err(Box::new(error("AccessDenied", &text, StatusCode::FORBIDDEN)));
    };
    let own = Token { role: role.to_owned(), session: session.to_owned(), id: face::uuid() };
    let token = URL_SAFE.encode(serde_json::to_vec(&own).unwrap_or_default());
    let until = Timestamp::from_millis(around.now.as_millis() + seconds * 1_000);
    let (id, secret) = sessions::begin(state, caller.key, until, &token).map_err(|failed| {
        tracing::error!(%failed, "no session can be made");
        let text = "The installation's secret cannot be read; its log says why";
        Box::new(error("InternalFailure", text, StatusCode::INTERNAL_SERVER_ERROR))
    })?;
    let second = i64::try_from(until.as_millis() / 1_000).unwrap_or(i64::MAX);
    let end = jiff::Timestamp::from_second(second).map(|time| time.to_string()).unwrap_or_default();
    Ok(format!(
        "<Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{token}</SessionToken><Expiration>{end}</Expiration></Credentials>\
         <AssumedRoleUser><AssumedRoleId>{}:{}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser>",
        escape(&role_id(role)),
        escape(session),
        escape(&assumed(&scope.account, &own))
    ))
}

/// An answer in the form of the query protocol.
pub(crate) fn xml(action: &str, result: &str, namespace: &str) -> Response<Body> {
    let id = face::uuid();
    let text = format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
    );
    server::answer(StatusCode::OK, "text/xml", text)
}

/// What whoever speaks the query protocol is told of a request that was not let in: errors have other names there.
pub(crate) fn refused(told: &AwsError) -> Response<Body> {
    let name = match told.name {
        "UnrecognizedClientException" => "InvalidClientTokenId",
        "InvalidSignatureException" => "SignatureDoesNotMatch",
        other => other.strip_suffix("Exception").unwrap_or(other),
    };
    error(name, &told.message, StatusCode::from_u16(told.status()).unwrap_or(StatusCode::BAD_REQUEST))
}

/// An error in the form of the query protocol.
pub(crate) fn error(code: &str, message: &str, status: StatusCode) -> Response<Body> {
    let text = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error>\
         <RequestId>{}</RequestId></ErrorResponse>",
        escape(message),
        face::uuid()
    );
    server::answer(status, "text/xml", text)
}

/// A text as XML has it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
