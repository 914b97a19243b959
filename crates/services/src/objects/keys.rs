//! Access keys: who may ask, and for which tenant.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rouse_types::TenantId;
use s3s::auth::SecretKey;

/// The access keys that are in force. Whoever owns them sets and removes them while requests are served. Cheap to
/// clone.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<HashMap<String, Key>>>);

#[derive(Clone)]
struct Key {
    secret: SecretKey,
    tenant: TenantId,
}

impl Keys {
    /// No keys: every request is refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a key in force, in place of one of the same id.
    pub fn set(&self, access_key: impl Into<String>, secret: impl Into<String>, tenant: TenantId) {
        let key = Key { secret: SecretKey::from(secret.into()), tenant };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(access_key.into(), key);
    }

    /// Takes a key out of force; tells whether it was in.
    pub fn remove(&self, access_key: &str) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(access_key).is_some()
    }

    pub(super) fn secret(&self, access_key: &str) -> Option<SecretKey> {
        self.find(access_key).map(|key| key.secret)
    }

    pub(super) fn tenant(&self, access_key: &str) -> Option<TenantId> {
        self.find(access_key).map(|key| key.tenant)
    }

    // The id is no secret, so finding it need not take constant time; signatures are compared in constant time.
    fn find(&self, access_key: &str) -> Option<Key> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(access_key).cloned()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        write!(f, "Keys({count})")
    }
}
