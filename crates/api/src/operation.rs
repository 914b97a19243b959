//! Every operation of the API, once: the router, the OpenAPI document and the client all come from here.

use http::Method;
use rouse_types::{Code, Refusal};
use schemars::{Schema, SchemaGenerator};

mod access;
mod build;
mod cluster;
mod identity;
mod table;

use crate::percent::{decode, encode};

pub use access::{Access, access};
pub use table::ALL;

/// One operation.
#[derive(Debug)]
pub struct Operation {
    /// Which: also its `operationId`.
    pub id: Id,
    /// Its method. `GET` answers `HEAD`, too, unless there is an operation of its own.
    pub method: Method,
    /// Its path, with `{names}` for whole segments.
    pub path: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Its query.
    pub query: Option<SchemaOf>,
    /// Its request's body.
    pub request: Body,
    /// Its answer's body.
    pub response: Body,
    /// Whether it needs no token.
    pub open: bool,
}

/// What makes the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a body holds.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// Nothing.
    Empty,
    /// One JSON value.
    Json(SchemaOf),
    /// JSON values, one a line.
    Lines(SchemaOf),
    /// Any bytes.
    Bytes,
    /// Text that people or other tools read.
    Text,
}

/// Names an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is told of in its operation's summary, next to its path")]
pub enum Id {
    Info,
    ClusterStatus,
    PutNode,
    WhoAmI,
    CreateTenant,
    ListTenants,
    GetTenant,
    DeleteTenant,
    CreateApiKey,
    ListApiKeys,
    RotateApiKey,
    RevokeApiKey,
    SignInOptions,
    SignIn,
    SignOut,
    ListProviders,
    PutProvider,
    DeleteProvider,
    ListMembers,
    PutMember,
    DeleteMember,
    ListTrust,
    PutTrust,
    DeleteTrust,
    HasBlob,
    PutBlob,
    Deploy,
    ListApps,
    GetApp,
    DeleteApp,
    Rollback,
    ListFunctions,
    ListVersions,
    PutAlias,
    GetAlias,
    DeleteAlias,
    Invoke,
    CreateKey,
    ListKeys,
    PutSecret,
    ListSecrets,
    DeleteSecret,
    RotateSecretsKey,
    DeleteKey,
    GetLimits,
    PutLimits,
    GetBudget,
    PutBudget,
    DeleteBudget,
    ListEvents,
    GetEvent,
    CancelEvent,
    RedriveEvents,
    PurgeEvents,
    ListTriggers,
    ListQueues,
    CreateQueue,
    GetQueue,
    UpdateQueue,
    DeleteQueue,
    SendMessage,
    ReceiveMessages,
    DeleteMessage,
    PurgeQueue,
    RedriveQueue,
    ListBuckets,
    CreateBucket,
    DeleteBucket,
    ListObjects,
    PutObject,
    GetObject,
    DeleteObject,
    ListTopics,
    PublishEvents,
    Logs,
    Usage,
    Invoice,
    AuditExport,
    AuditLog,
    PlatformAuditLog,
    AuditKey,
    ListCertificates,
    Ps,
    Metrics,
    Health,
    Ready,
    Openapi,
}

impl Id {
    /// As `operationId` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::ClusterStatus => "clusterStatus",
            Self::PutNode => "putNode",
            Self::WhoAmI => "whoAmI",
            Self::CreateTenant => "createTenant",
            Self::ListTenants => "listTenants",
            Self::GetTenant => "getTenant",
            Self::DeleteTenant => "deleteTenant",
            Self::CreateApiKey => "createApiKey",
            Self::ListApiKeys => "listApiKeys",
            Self::RotateApiKey => "rotateApiKey",
            Self::RevokeApiKey => "revokeApiKey",
            Self::SignInOptions => "signInOptions",
            Self::SignIn => "signIn",
            Self::SignOut => "signOut",
            Self::ListProviders => "listProviders",
            Self::PutProvider => "putProvider",
            Self::DeleteProvider => "deleteProvider",
            Self::ListMembers => "listMembers",
            Self::PutMember => "putMember",
            Self::DeleteMember => "deleteMember",
            Self::ListTrust => "listTrust",
            Self::PutTrust => "putTrust",
            Self::DeleteTrust => "deleteTrust",
            Self::HasBlob => "hasBlob",
            Self::PutBlob => "putBlob",
            Self::Deploy => "deploy",
            Self::ListApps => "listApps",
            Self::GetApp => "getApp",
            Self::DeleteApp => "deleteApp",
            Self::Rollback => "rollback",
            Self::ListFunctions => "listFunctions",
            Self::ListVersions => "listVersions",
            Self::PutAlias => "putAlias",
            Self::GetAlias => "getAlias",
            Self::DeleteAlias => "deleteAlias",
            Self::Invoke => "invoke",
            Self::CreateKey => "createKey",
            Self::ListKeys => "listKeys",
            Self::PutSecret => "putSecret",
            Self::ListSecrets => "listSecrets",
            Self::DeleteSecret => "deleteSecret",
            Self::RotateSecretsKey => "rotateSecretsKey",
            Self::DeleteKey => "deleteKey",
            Self::GetLimits => "getLimits",
            Self::PutLimits => "putLimits",
            Self::GetBudget => "getBudget",
            Self::PutBudget => "putBudget",
            Self::DeleteBudget => "deleteBudget",
            Self::ListEvents => "listEvents",
            Self::GetEvent => "getEvent",
            Self::CancelEvent => "cancelEvent",
            Self::RedriveEvents => "redriveEvents",
            Self::PurgeEvents => "purgeEvents",
            Self::ListTriggers => "listTriggers",
            Self::ListQueues => "listQueues",
            Self::CreateQueue => "createQueue",
            Self::GetQueue => "getQueue",
            Self::UpdateQueue => "updateQueue",
            Self::DeleteQueue => "deleteQueue",
            Self::SendMessage => "sendMessage",
            Self::ReceiveMessages => "receiveMessages",
            Self::DeleteMessage => "deleteMessage",
            Self::PurgeQueue => "purgeQueue",
            Self::RedriveQueue => "redriveQueue",
            Self::ListBuckets => "listBuckets",
            Self::CreateBucket => "createBucket",
            Self::DeleteBucket => "deleteBucket",
            Self::ListObjects => "listObjects",
            Self::PutObject => "putObject",
            Self::GetObject => "getObject",
            Self::DeleteObject => "deleteObject",
            Self::ListTopics => "listTopics",
            Self::PublishEvents => "publishEvents",
            Self::Logs => "logs",
            Self::Usage => "usage",
            Self::Invoice => "invoice",
            Self::AuditExport => "auditExport",
            Self::AuditLog => "auditLog",
            Self::PlatformAuditLog => "platformAuditLog",
            Self::AuditKey => "auditKey",
            Self::ListCertificates => "listCertificates",
            Self::Ps => "ps",
            Self::Metrics => "metrics",
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Openapi => "openapi",
        }
    }

    /// The operation of this name.
    ///
    /// # Panics
    /// Never: a test holds that each has one.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test holds that each has one")]
    pub fn operation(self) -> &'static Operation {
        ALL.iter().find(|operation| operation.id == self).expect("each id has an operation")
    }
}

/// What a path's `{names}` stand for in one request, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// The value of `{name}`; empty if the template has none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// All names, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The value of `{name}`, read as a type.
    ///
    /// # Errors
    /// It is none of that type.
    pub fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, Refusal> {
        self.get(name).parse().map_err(|error: T::Err| Refusal::new(Code::BadRequest, error.to_string()))
    }
}

/// The longest path that is looked at: the longest key of an object, each of its bytes percent-encoded. Bounds the work.
const PATH_BYTES_MAX: usize = 4_096;

/// The operation that a request means. Pure, since strangers choose its input.
///
/// # Errors
/// There is none of this method and path; the hint tells of the methods that the path has.
pub fn find(method: &Method, path: &str) -> Result<(&'static Operation, Params), Refusal> {
    let mut methods = Vec::new();
    if path.len() <= PATH_BYTES_MAX {
        let candidates =
            ALL.iter().filter_map(|operation| Some((operation, match_path(operation.path, path)?)));
        for (operation, params) in candidates {
            if operation.method == *method {
                return Ok((operation, params));
            }
            methods.push((operation, params));
        }
    }
    // RFC 9110 §9.3.2: a HEAD is a GET without the answer's body, which hyper leaves out by itself.
    if *method == Method::HEAD
        && let Some(at) = methods.iter().position(|(operation, _)| operation.method == Method::GET)
    {
        return Ok(methods.swap_remove(at));
    }
    let shown: String = path.chars().take(200).collect();
    let refusal = Refusal::new(Code::OperationNotFound, format!("the API has no operation {method} {shown}"));
    Err(if methods.is_empty() {
        refusal.hint("GET /openapi.json lists all operations")
    } else {
        let known: Vec<_> = methods.iter().map(|(operation, _)| operation.method.as_str()).collect();
        refusal.hint(format!("this path takes {}", known.join(", ")))
    })
}

fn match_path(template: &'static str, path: &str) -> Option<Params> {
    let mut params = Vec::new();
    let mut parts = path.split('/');
    for expected in template.split('/') {
        let part = parts.next()?;
        match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => params.push((name, decode(part).filter(|value| !value.is_empty())?)),
            None if expected == part => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(Params(params))
}

/// The path of an operation with its `{names}` filled in, in their order.
#[must_use]
pub fn path(id: Id, values: &[&str]) -> String {
    let mut values = values.iter();
    let parts = id.operation().path.split('/').map(|part| match part.starts_with('{') {
        true => encode(values.next().copied().unwrap_or_default()),
        false => part.to_owned(),
    });
    let path = parts.collect::<Vec<_>>().join("/");
    debug_assert!(values.next().is_none(), "more values than names in {path}");
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_operation_is_found_by_the_path_that_is_made_for_it() {
        for operation in ALL {
            let names = operation.path.matches('{').count();
            let values: Vec<String> = (0..names).map(|i| format!("v{i}/ä $%")).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let path = path(operation.id, &values);
            let (found, params) = find(&operation.method, &path).expect(&path);
            assert_eq!(found.id, operation.id);
            assert_eq!(params.0.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), values);
            assert_eq!(operation.id.operation().path, operation.path);
        }
    }

    #[test]
    fn an_unknown_path_or_method_is_refused_with_the_next_step() {
        let refusal = find(&Method::GET, "/v2/info").expect_err("unknown");
        assert_eq!(refusal.code, Code::OperationNotFound);
        let refusal = find(&Method::POST, "/v1/info").expect_err("a wrong method");
        assert_eq!(refusal.hint.as_deref(), Some("this path takes GET"));
        for path in ["", "/", "/v1/info/", "//v1/info", "/v1/tenants//apps", "/v1/tenants/%zz/apps"] {
            assert!(find(&Method::GET, path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_head_is_answered_by_the_get_of_its_path() {
        assert_eq!(find(&Method::HEAD, "/v1/info").expect("info").0.id, Id::Info);
        assert_eq!(find(&Method::HEAD, "/v1/blobs/x").expect("a blob").0.id, Id::HasBlob);
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_without_harm(path in "\\PC{0,60}", method in "GET|PUT|HEAD") {
            let method: Method = method.parse().expect("a method");
            let _ = find(&method, &path);
            let _ = find(&method, &format!("/v1/tenants/{path}/apps"));
        }
    }
}
