//! Functions that drain a queue by a mapping of AWS' face, beside those whose triggers do: kept on the disk, and known in
//! memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rouse_api::queues::Mapping;
use rouse_store::{
    Error, Records,
    records::{Expect, PAGE_MAX, Write},
};
use rouse_types::{Code, Refusal, TenantId};

use crate::{accept::store, dispatch::Events, queue};

const NAMESPACE: &str = "mappings";
/// Mappings of one tenant.
const MAPPINGS_MAX: usize = 1_000;

/// The mappings that are in force, by tenant and id.
#[derive(Debug)]
pub(crate) struct Mappings {
    records: Records,
    all: Mutex<BTreeMap<(TenantId, String), Arc<Mapping>>>,
}

impl Mappings {
    pub(crate) async fn open(records: Records) -> Result<Self, Error> {
        let (mut all, mut after) = (BTreeMap::new(), None);
        loop {
            let page = records.scan(NAMESPACE, "", after.as_deref(), PAGE_MAX).await?;
            for record in page.records {
                match serde_json::from_slice::<Mapping>(&record.value) {
                    Ok(mapping) => {
                        let key = (mapping.tenant.clone(), mapping.id.clone());
                        drop(all.insert(key, Arc::new(mapping)));
                    }
                    Err(error) => tracing::error!(key = record.key, %error, "a mapping cannot be read"),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(Self { records, all: Mutex::new(all) });
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(TenantId, String), Arc<Mapping>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a queue.
    pub(crate) fn of(&self, tenant: &TenantId, queue: &str) -> Vec<Arc<Mapping>> {
        let all = self.all();
        let of = all.values().filter(|mapping| mapping.tenant == *tenant && mapping.queue == queue);
        of.cloned().collect()
    }

    async fn write(&self, tenant: &TenantId, id: &str, value: Option<&Mapping>) -> Result<(), Error> {
        let value = value.map(|mapping| serde_json::to_vec(mapping).unwrap_or_default());
        let key = format!("{tenant}/{id}");
        let write = Write { namespace: NAMESPACE.to_owned(), key, expect: Expect::Any, value };
        self.records.commit(vec![write]).await.map(drop)
    }
}

impl Events {
    /// Puts a mapping in force; its queue is made when it is not there.
    pub(crate) async fn put_mapping(self: &Arc<Self>, mapping: Mapping) -> Result<(), Refusal> {
        let key = (mapping.tenant.clone(), mapping.id.clone());
        {
            let all = self.mappings.all();
            let count = all.keys().filter(|(tenant, _)| *tenant == key.0).count();
            if count >= MAPPINGS_MAX && !all.contains_key(&key) {
                let what = format!("tenant '{}' has {MAPPINGS_MAX} mappings already", key.0);
                return Err(Refusal::new(Code::TooManyRequests, what));
            }
        }
        self.ensure(&mapping.tenant, &mapping.queue).await?;
        let written = self.mappings.write(&key.0, &key.1, Some(&mapping)).await;
        written.map_err(|error| store(&error))?;
        let queue = queue::named(&mapping.tenant, &mapping.queue);
        self.mappings.all().insert(key, Arc::new(mapping));
        self.poke(&queue);
        Ok(())
    }

    /// Takes a mapping out of force. Calls that are under way end.
    pub(crate) async fn drop_mapping(&self, tenant: &TenantId, id: &str) -> Result<(), Refusal> {
        self.mappings.write(tenant, id, None).await.map_err(|error| store(&error))?;
        self.mappings.all().remove(&(tenant.clone(), id.to_owned()));
        Ok(())
    }
}
