//! Tenants: records of the store. One that was deleted leaves its name behind, which no other gets: whoever had it next
//! would find the logs and the usage of the one before.

use std::{collections::BTreeSet, sync::Arc};

use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use rouse_api::{
    BucketInfo, QueueSummary, TenantInfo,
    operation::{self, Id},
};
use rouse_store::{Records, records::Expect};
use rouse_types::{AccessKey, Code, Refusal, TenantId, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    control::Control,
    state::{self, App, At, Committed},
};

/// The tenant that is there from the start.
const DEFAULT: &str = "default";
/// What another process may list of a tenant.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenant {
    created: Timestamp,
    /// Since when it is gone.
    #[serde(default)]
    deleted: Option<Timestamp>,
}

impl Control {
    /// The tenant of this name.
    pub(crate) async fn tenant(&self, name: &TenantId) -> Result<TenantInfo, Refusal> {
        match self.find(name).await? {
            Some(At { value: Tenant { created, deleted: None }, .. }) => {
                Ok(TenantInfo { tenant: name.clone(), created })
            }
            _ => Err(Refusal::new(Code::TenantNotFound, format!("there is no tenant '{name}'")).hint(
                format!("`rouse tenant create {name}` makes it; `rouse tenant list` shows which there are"),
            )),
        }
    }

    async fn find(&self, name: &TenantId) -> Result<Option<At<Tenant>>, Refusal> {
        state::get(&self.records, state::TENANTS, name.as_str()).await
    }

    pub(crate) async fn list_tenants(&self) -> Result<Vec<TenantInfo>, Refusal> {
        let tenants = state::scan::<Tenant>(&self.records, state::TENANTS, "").await?;
        let show = |At { key, value, .. }: At<Tenant>| {
            let tenant = value.deleted.is_none().then(|| key.parse().ok()).flatten()?;
            Some(TenantInfo { tenant, created: value.created })
        };
        Ok(tenants.into_iter().filter_map(show).collect())
    }

    pub(crate) async fn create_tenant(&self, name: &TenantId) -> Result<TenantInfo, Refusal> {
        match self.find(name).await? {
            Some(At { value: Tenant { deleted: Some(_), .. }, .. }) => {
                return Err(Refusal::new(
                    Code::NameTaken,
                    format!("a tenant '{name}' was deleted, and its name is not given again"),
                )
                .hint("choose another name: the logs and the usage of the one before are kept under it"));
            }
            Some(_) => {}
            None => {
                let tenant = Tenant { created: self.config.clock.now(), deleted: None };
                let write = state::put(state::TENANTS, name.to_string(), &tenant, Expect::Absent)?;
                // Who was faster made the same.
                state::commit(&self.records, vec![write]).await?;
            }
        }
        self.tenant(name).await
    }

    /// Deletes a tenant that has nothing left, with its members and keys.
    pub(crate) async fn delete_tenant(self: &Arc<Self>, name: &TenantId) -> Result<TenantInfo, Refusal> {
        let not_empty = |what: &str, names: Vec<String>, hint: &str| {
            let shown: Vec<String> = names.into_iter().take(10).collect();
            Refusal::new(
                Code::TenantNotEmpty,
                format!("tenant '{name}' still has {what}: {}", shown.join(", ")),
            )
            .hint(format!("delete them first: `rouse --tenant {name} {hint}`"))
        };
        if name.as_str() == DEFAULT {
            return Err(Refusal::new(Code::BadRequest, "the tenant 'default' is always there")
                .hint("delete what it has instead"));
        }
        let found = self.find(name).await?;
        let info = self.tenant(name).await?;
        let apps = self.list_apps(name).await?;
        if !apps.is_empty() {
            let names = apps.into_iter().map(|app| app.app.to_string()).collect();
            return Err(not_empty("apps", names, "delete"));
        }
        let buckets: Vec<BucketInfo> = self.listed(name, Id::ListBuckets).await?;
        if !buckets.is_empty() {
            let names = buckets.into_iter().map(|bucket| bucket.name).collect();
            return Err(not_empty("buckets", names, "bucket delete"));
        }
        let queues: Vec<QueueSummary> = self.listed(name, Id::ListQueues).await?;
        if !queues.is_empty() {
            let names = queues.into_iter().map(|queue| queue.name).collect();
            return Err(not_empty("queues", names, "queue delete"));
        }
        // Keys first: a crash in between leaves a tenant that only the operator reaches, and who asks again.
        self.delete_all_grants(name).await?;
        self.delete_all_keys(name).await?;
        self.revoke_all_api_keys(name).await?;
        self.delete_all_secrets(name).await?;
        let tenant = Tenant { created: info.created, deleted: Some(self.config.clock.now()) };
        let write = state::put(state::TENANTS, name.to_string(), &tenant, state::unchanged(found.as_ref()))?;
        match state::commit(&self.records, vec![write]).await? {
            Committed::Done => Ok(info),
            Committed::Conflict => Err(state::contended()),
        }
    }

    /// What the process that keeps them lists of a tenant.
    async fn listed<T: DeserializeOwned>(&self, tenant: &TenantId, id: Id) -> Result<Vec<T>, Refusal> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(operation::path(id, &[tenant.as_str()]))
            .body(Full::<bytes::Bytes>::default())
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let away = || {
            let code = if id == Id::ListBuckets { Code::ObjectsUnavailable } else { Code::EventsUnavailable };
            Refusal::new(
                code,
                format!("what tenant '{tenant}' has cannot be looked at: a process is not there"),
            )
            .hint("ask again; it is being started again")
            .retry_after(std::time::Duration::from_secs(1))
        };
        let answer = match id {
            Id::ListBuckets => self.peers.ask_objects(request).await,
            _ => self.peers.ask_events(request).await,
        };
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, %tenant, "what a tenant has cannot be looked at");
            away()
        })?;
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|_| away())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|_| away())
    }
}

/// Makes records of the tenants that have something and no record yet: `default`, and those of a release that knew
/// tenants by name alone.
pub(crate) async fn adopt(records: &Records, now: Timestamp) -> Result<(), Refusal> {
    let known = state::scan::<Tenant>(records, state::TENANTS, "").await?;
    let known: BTreeSet<String> = known.into_iter().map(|at| at.key).collect();
    let apps = state::scan::<App>(records, state::APPS, "").await?.into_iter().map(|at| at.key);
    let keys = state::scan::<AccessKey>(records, state::KEYS, "").await?.into_iter().map(|at| at.key);
    let named = apps.chain(keys).filter_map(|key| Some(key.split_once('/')?.0.to_owned()));
    let missing: BTreeSet<String> =
        named.chain([DEFAULT.to_owned()]).filter(|name| !known.contains(name)).collect();
    for name in missing {
        let tenant = Tenant { created: now, deleted: None };
        state::commit(records, vec![state::put(state::TENANTS, name, &tenant, Expect::Absent)?]).await?;
    }
    Ok(())
}
