//! How many bytes a tenant's objects have, where they may have no more than so many.
//!
//! Nothing is counted for a tenant without a limit. The first change under one counts what is there; from then on each change
//! takes its room before it is committed, and gives it back if it comes to nothing, so that many at once overshoot by nothing.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rouse_store::records::PAGE_MAX;
use rouse_types::{Quotas, TenantId};

use super::{
    Error, Inner, Object,
    record::{self, OBJECTS},
};

/// Tells one file from the one that replaced it: its inode, and when it was changed, in nanoseconds.
type Seen = (u64, i64, i64);

/// The limits, and what is used.
#[derive(Debug)]
pub(super) struct Room {
    /// The state folder with the limits; none where there are none.
    state: Option<PathBuf>,
    limits: Mutex<(Option<Seen>, Quotas)>,
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
        Self { state, limits: Mutex::default(), used: Mutex::default() }
    }

    /// How many bytes the tenant's objects may have. A file that cannot be read leaves the limits as they were.
    fn limit(&self, tenant: &TenantId) -> Option<u64> {
        let state = self.state.as_ref()?;
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let file = fs::metadata(state.join(rouse_quota::FILE)).ok();
        let seen = file.map(|file| (file.ino(), file.mtime(), file.mtime_nsec()));
        if limits.0 != seen {
            match rouse_quota::read(state) {
                Ok(quotas) => *limits = (seen, quotas),
                Err(error) => tracing::error!(%error, "the limits of tenants cannot be read"),
            }
        }
        limits.1.get(tenant)?.limits.object_bytes
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

impl Inner {
    /// Counts what a tenant with a limit has, once, while nothing changes.
    pub(super) async fn count(&self, tenant: &TenantId) -> Result<(), Error> {
        if self.room.limit(tenant).is_none() || self.room.used().contains_key(tenant) {
            return Ok(());
        }
        let _buckets = self.buckets.write().await;
        let (prefix, mut after, mut used) = (format!("{tenant}/"), None, 0_u64);
        loop {
            let page = self.records.scan(OBJECTS, &prefix, after.as_deref(), PAGE_MAX).await?;
            for found in &page.records {
                used = used.saturating_add(record::read::<Object>(found)?.size);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.room.used().entry(tenant.clone()).or_insert(used);
        Ok(())
    }
}
