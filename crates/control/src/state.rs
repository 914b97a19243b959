//! What control remembers, as records of the store, and nothing else: apps, deployments, functions, versions.
//!
//! | namespace | key | what |
//! |---|---|---|
//! | `apps` | `<tenant>/<app>` | [`App`]; stays when the app is deleted, since numbers are never reused |
//! | `deployments` | `<tenant>/<app>/<number>` | [`Deployment`] |
//! | `functions` | `<tenant>/<function>` | [`Function`]; stays, for the same reason |
//! | `versions` | `<tenant>/<function>/<number>` | [`Version`] |
//! | `domains` | `<domain>` | [`Claim`] |
//! | `certificates` | `<domain>` | `acme::Failed`: orders that came to nothing |
//! | `tenants` | `<tenant>` | `tenants::Tenant`; stays when the tenant is deleted, since names are never reused |
//! | `api-keys` | `<id>` | [`rouse_types::ApiKey`] |
//! | `keys` | `<tenant>/<id>` | [`rouse_types::AccessKey`] |
//! | `providers` | `<name>` | [`rouse_types::Provider`] |
//! | `members` | `<tenant>/<id>` | [`rouse_types::Member`] |
//! | `trust` | `<tenant>/<name>` | [`rouse_types::Trust`] |
//! | `sign-ins` | `<hour>/<digest>/<tenant>` | that a token was exchanged, until the hour after its end |
//! | `nodes` | `<node>` | what an operator asked of a node of the cluster: see `cluster::standing` |
//! | `cluster` | `authority` | the authority of the nodes' certificates, sealed: see `cluster::identity` |
//! | `uploads` | `<digest>/<tenant>` | when a key of the tenant uploaded the code |

use std::collections::BTreeMap;

use rouse_store::{
    Error, Records,
    records::{Expect, Revision, Write},
};
use rouse_types::{
    Alias, AliasName, AppName, Code, Digest, Domain, FunctionName, FunctionVersion, Isolation, Refusal,
    Runtime, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A namespace of the store.
pub(crate) const APPS: &str = "apps";
/// See [`APPS`].
pub(crate) const DEPLOYMENTS: &str = "deployments";
/// See [`APPS`].
pub(crate) const FUNCTIONS: &str = "functions";
/// See [`APPS`].
pub(crate) const VERSIONS: &str = "versions";
/// See [`APPS`].
pub(crate) const DOMAINS: &str = "domains";
/// See [`APPS`].
pub(crate) const CERTIFICATES: &str = "certificates";
/// See [`APPS`].
pub(crate) const TENANTS: &str = "tenants";
/// See [`APPS`].
pub(crate) const API_KEYS: &str = "api-keys";
/// See [`APPS`].
pub(crate) const SECRETS: &str = "secrets";
/// Access keys of AWS' clients.
pub(crate) const KEYS: &str = "keys";
/// See [`APPS`].
pub(crate) const PROVIDERS: &str = "providers";
/// See [`APPS`].
pub(crate) const MEMBERS: &str = "members";
/// See [`APPS`].
pub(crate) const TRUST: &str = "trust";
/// See [`APPS`].
pub(crate) const SIGN_INS: &str = "sign-ins";
/// See [`APPS`].
pub(crate) const NODES: &str = "nodes";
/// See [`APPS`].
pub(crate) const UPLOADS: &str = "uploads";

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct App {
    /// Grows with every change.
    pub(crate) revision: u64,
    /// The deployment that answers; none once the app is deleted.
    pub(crate) live: Option<u64>,
    /// The number that the next deployment gets.
    pub(crate) next: u64,
    /// When the latest deployment was made.
    pub(crate) deployed: Timestamp,
    /// The functions that answer.
    pub(crate) functions: Vec<FunctionName>,
    /// The domains that they have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) domains: BTreeMap<Domain, FunctionName>,
}

/// Whose a domain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) tenant: TenantId,
    pub(crate) app: AppName,
    pub(crate) function: FunctionName,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) number: u64,
    pub(crate) created: Timestamp,
    pub(crate) message: Option<String>,
    pub(crate) functions: Vec<Deployed>,
}

/// One function of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) function: FunctionName,
    pub(crate) version: u64,
    pub(crate) changed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) domains: Vec<Domain>,
}

/// A function's name, whoever has it now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Function {
    /// The app whose it is; none while no app has it.
    pub(crate) app: Option<AppName>,
    /// Its place in the gateways' counters, while an app has it.
    pub(crate) slot: Option<u32>,
    /// The number that the next version gets.
    pub(crate) next: u64,
    /// The version that was deployed last.
    pub(crate) latest: u64,
    /// Its aliases, while an app has it.
    pub(crate) aliases: BTreeMap<AliasName, Alias>,
    /// The versions that are kept.
    pub(crate) versions: BTreeMap<u64, VersionHead>,
}

/// What lists show of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionHead {
    pub(crate) digest: Digest,
    pub(crate) code: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layers: Option<Digest>,
    pub(crate) created: Timestamp,
    pub(crate) runtime: Runtime,
    pub(crate) isolation: Isolation,
}

impl VersionHead {
    /// What was uploaded for it.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> + use<> {
        std::iter::once(self.code).chain(self.layers)
    }
}

/// A version, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) version: FunctionVersion,
    pub(crate) created: Timestamp,
}

/// A record and the revision that it was read at.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) key: String,
    pub(crate) value: T,
    pub(crate) revision: Revision,
}

/// What a write expects, of what was read before.
pub(crate) fn unchanged<T>(read: Option<&At<T>>) -> Expect {
    read.map_or(Expect::Absent, |at| Expect::At(at.revision))
}

pub(crate) fn app_key(tenant: &TenantId, app: &AppName) -> String {
    format!("{tenant}/{app}")
}

pub(crate) fn function_key(tenant: &TenantId, function: &FunctionName) -> String {
    format!("{tenant}/{function}")
}

/// Numbers are padded so that keys sort as the numbers do.
pub(crate) fn numbered(key: &str, number: u64) -> String {
    format!("{key}/{number:020}")
}

/// The record under this key.
pub(crate) async fn get<T: DeserializeOwned>(
    records: &Records,
    namespace: &str,
    key: &str,
) -> Result<Option<At<T>>, Refusal> {
    let record = records.get(namespace, key).await.map_err(|error| refusal(&error))?;
    record.map(|record| decode(namespace, record)).transpose()
}

/// All records whose keys begin with `prefix`, by key.
pub(crate) async fn scan<T: DeserializeOwned>(
    records: &Records,
    namespace: &str,
    prefix: &str,
) -> Result<Vec<At<T>>, Refusal> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = records
            .scan(namespace, prefix, after.as_deref(), rouse_store::records::PAGE_MAX)
            .await
            .map_err(|error| refusal(&error))?;
        for record in page.records {
            found.push(decode(namespace, record)?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

fn decode<T: DeserializeOwned>(
    namespace: &str,
    record: rouse_store::records::Record,
) -> Result<At<T>, Refusal> {
    let value = serde_json::from_slice(&record.value).map_err(|error| {
        tracing::error!(namespace, key = record.key, %error, "a record cannot be read");
        Refusal::new(Code::Internal, format!("the record {namespace}/{} cannot be read", record.key))
            .hint("was the state folder used by a later release?")
    })?;
    Ok(At { key: record.key, value, revision: record.revision })
}

/// A write of a value.
pub(crate) fn put<T: Serialize>(
    namespace: &str,
    key: String,
    value: &T,
    expect: Expect,
) -> Result<Write, Refusal> {
    let value = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(namespace, key, %error, "a record cannot be written");
        Refusal::new(Code::Internal, format!("the record {namespace}/{key} cannot be written"))
    })?;
    Ok(Write { namespace: namespace.to_owned(), key, expect, value: Some(value) })
}

/// A write that deletes.
pub(crate) fn delete(namespace: &str, key: String, expect: Expect) -> Write {
    Write { namespace: namespace.to_owned(), key, expect, value: None }
}

/// What came of a commit that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// All of it is on the disk.
    Done,
    /// Someone else was faster; read again, think again.
    Conflict,
}

/// Makes all writes or none.
pub(crate) async fn commit(records: &Records, writes: Vec<Write>) -> Result<Committed, Refusal> {
    match records.commit(writes).await {
        Ok(_) => Ok(Committed::Done),
        Err(Error::Conflict { .. }) => Ok(Committed::Conflict),
        Err(error) => Err(refusal(&error)),
    }
}

/// How often a change is thought through again after a conflict. Each conflict is someone else's success.
pub(crate) const ATTEMPTS_MAX: usize = 8;

/// What is said when all attempts met a conflict.
pub(crate) fn contended() -> Refusal {
    Refusal::new(Code::Internal, "others changed the same at the same time, again and again")
        .hint("try again")
        .retry_after(std::time::Duration::from_secs(1))
}

/// What is said when the disk is full.
pub(crate) fn full() -> Refusal {
    Refusal::new(Code::StorageFull, "the platform's disk is full: nothing new is taken, what is live goes on")
        .hint("free space below the state folder, or delete apps with `rouse delete`")
}

/// What a client is told of a store's error; the rest goes to the log.
pub(crate) fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Full(what) => {
            tracing::warn!(what, "the disk is full");
            full()
        }
        Error::Digest { expected, found } => {
            Refusal::new(Code::BadRequest, format!("the content is {found}, not {expected} as announced"))
                .hint("upload it again")
        }
        error => error.unavailable().unwrap_or_else(|| {
            tracing::error!(%error, source = ?std::error::Error::source(error), "the store failed");
            Refusal::new(Code::Internal, "the platform's store failed").hint("look into the platform's log")
        }),
    }
}

/// What is said of an I/O error of ours.
pub(crate) fn io_refusal(action: &str, error: &std::io::Error) -> Refusal {
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        return full();
    }
    tracing::error!(%error, "cannot {action}");
    Refusal::new(Code::Internal, format!("the platform cannot {action}")).hint("look into the platform's log")
}
