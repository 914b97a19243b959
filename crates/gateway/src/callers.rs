//! Who may call a function that is not public: whoever shows a key of its tenant. The keys' digests are read when control
//! changes them, so that a call asks no one and reads nothing.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName, header};
use rouse_types::{
    FunctionVersion, InvokePolicy, TenantId, Timestamp,
    api_key::{self, FOLDER, HEADER, TenantKeys},
};

/// The keys of all tenants, as control wrote them last.
#[derive(Debug)]
pub(crate) struct Callers {
    dir: PathBuf,
    tenants: Mutex<HashMap<TenantId, Arc<TenantKeys>>>,
}

impl Callers {
    pub(crate) fn new(state: &Path) -> Self {
        Self { dir: state.join(FOLDER), tenants: Mutex::default() }
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<TenantKeys>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the keys of every tenant. Those that cannot be read are left out: their functions stay closed.
    pub(crate) fn load_all(&self) {
        // Nothing is there before the first key.
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
            let Some(tenant) = name.and_then(|name| name.parse::<TenantId>().ok()) else { continue };
            if let Err(error) = self.reload(&tenant) {
                tracing::error!(%tenant, %error, "a tenant's keys cannot be read");
            }
        }
    }

    /// Reads the keys of a tenant again.
    pub(crate) fn reload(&self, tenant: &TenantId) -> std::io::Result<()> {
        let keys = match std::fs::read(self.dir.join(format!("{tenant}.json"))) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => TenantKeys::new(),
            Err(error) => return Err(error),
        };
        self.tenants().insert(tenant.clone(), Arc::new(keys));
        Ok(())
    }

    /// Whether a request from outside may call this version. The key that opened it is taken out: it is not the code's.
    pub(crate) fn may(&self, version: &FunctionVersion, headers: &mut HeaderMap, now: Timestamp) -> bool {
        match version.invoke {
            InvokePolicy::Public => true,
            InvokePolicy::Internal => false,
            InvokePolicy::Tenant => self.has_key(version, headers, now),
        }
    }

    fn has_key(&self, version: &FunctionVersion, headers: &mut HeaderMap, now: Timestamp) -> bool {
        let Some(keys) = self.tenants().get(&version.tenant).cloned() else { return false };
        let opens = |text: &str| {
            let key = api_key::id(text).and_then(|id| keys.get(id));
            key.is_some_and(|key| {
                key.is(text)
                    && !key.has_expired(now)
                    && key.role.calls()
                    && key.is_for(version.function.as_str())
            })
        };
        let found = places().into_iter().find(|(name, scheme)| {
            let text = headers.get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| credentials(text, scheme)).is_some_and(opens)
        });
        let Some((name, _)) = found else { return false };
        headers.remove(name);
        true
    }
}

/// Where a key may stand, and behind which scheme.
fn places() -> [(HeaderName, Option<&'static str>); 2] {
    [(header::AUTHORIZATION, Some("bearer")), (HeaderName::from_static(HEADER), None)]
}

fn credentials<'a>(text: &'a str, scheme: &Option<&str>) -> Option<&'a str> {
    match scheme {
        None => Some(text.trim()),
        Some(scheme) => {
            let (given, rest) = text.split_once(' ')?;
            given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_where_clients_put_it() {
        let bearer = Some("bearer");
        assert_eq!(credentials("Bearer rouse_x", &bearer), Some("rouse_x"));
        assert_eq!(credentials("bearer  rouse_x ", &bearer), Some("rouse_x"));
        assert_eq!(credentials("Basic rouse_x", &bearer), None);
        assert_eq!(credentials("rouse_x", &bearer), None);
        assert_eq!(credentials(" rouse_x", &None), Some("rouse_x"));
    }
}
