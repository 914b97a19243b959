//! How many bytes a tenant's objects have, where they may have no more than so many.
//!
//! Parts of uploads under way count like objects; their completion gives up their room and takes the object's in one step.
//!
//! Nothing is counted for a tenant without a limit. The first change under one counts what is there; from then on each change
//! takes its room before it is committed, and gives it back if it comes to nothing, so that many at once overshoot by nothing.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rouse_quota::Limits;
use rouse_store::records::PAGE_MAX;
use rouse_types::TenantId;

use super::{
    Error, Object, Objects,
    files::FileId,
    name,
    record::{self, OBJECTS, UPLOADS},
};

/// The limits, and what is used.
#[derive(Debug)]
pub(super) struct Room {
    /// None where there are none.
    limits: Option<Limits>,
    used: Mutex<HashMap<TenantId, u64>>,
}

/// Room that a change has taken; given back unless it is kept.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    room: &'a Room,
    tenant: &'a TenantId,
    before: u64,
    after: u64,
    kept: bool,
}

impl Room {
    pub(super) fn new(state: Option<PathBuf>) -> Self {
        Self { limits: state.map(|state| Limits::new(&state)), used: Mutex::default() }
    }

    /// How many bytes the tenant's objects may have.
    fn limit(&self, tenant: &TenantId) -> Option<u64> {
        self.limits.as_ref()?.of(tenant)?.object_bytes
    }

    fn used(&self) -> MutexGuard<'_, HashMap<TenantId, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the room of what an object shall be, instead of what it is.
    pub(super) fn take<'a>(
        &'a self,
        tenant: &'a TenantId,
        before: u64,
        after: u64,
    ) -> Result<Taken<'a>, Error> {
        let limit = self.limit(tenant);
        if let Some(used) = self.used().get_mut(tenant)
            && let Some(more) = after.checked_sub(before)
        {
            let wanted = used.saturating_add(more);
            if let Some(limit) = limit.filter(|&limit| more > 0 && wanted > limit) {
                return Err(Error::QuotaExceeded { used: *used, limit });
            }
            *used = wanted;
        }
        Ok(Taken { room: self, tenant, before, after, kept: false })
    }
}

impl Taken<'_> {
    /// The change is committed.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // What grows was counted when it was taken; what shrinks is counted once it is committed.
        let less = match (self.kept, self.after.checked_sub(self.before)) {
            (true, Some(_)) => 0,
            (true, None) => self.before - self.after,
            (false, more) => more.unwrap_or_default(),
        };
        if let Some(used) = self.room.used().get_mut(self.tenant) {
            *used = used.saturating_sub(less);
        }
    }
}

impl Objects {
    /// Counts what a tenant with a limit has, once, while nothing changes.
    pub(super) async fn count(&self, tenant: &TenantId) -> Result<(), Error> {
        let inner = &self.0;
        if inner.room.limit(tenant).is_none() || inner.room.used().contains_key(tenant) {
            return Ok(());
        }
        let _buckets = inner.buckets.write().await;
        let (prefix, mut used) = (format!("{tenant}/"), 0_u64);
        for namespace in [OBJECTS, UPLOADS] {
            let mut after = None;
            loop {
                let page = inner.records.scan(namespace, &prefix, after.as_deref(), PAGE_MAX).await?;
                for found in &page.records {
                    let bytes = match namespace {
                        OBJECTS => record::read::<Object>(found)?.size,
                        _ => {
                            let id = found.key.rsplit(name::BREAK).next().and_then(|id| id.parse().ok());
                            self.part_bytes(id).await?
                        }
                    };
                    used = used.saturating_add(bytes);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        inner.room.used().entry(tenant.clone()).or_insert(used);
        Ok(())
    }

    /// The bytes of an upload's parts.
    async fn part_bytes(&self, upload: Option<FileId>) -> Result<u64, Error> {
        let Some(upload) = upload else { return Ok(0) };
        Ok(self.parts(upload).await?.iter().map(|(_, part)| part.size).sum())
    }
}
