//! API keys: records of the store, by their ids. Their text is told once and kept nowhere.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rouse_api::{ApiKeyInfo, ApiKeyRequest, NewApiKey, RotateRequest};
use rouse_store::{
    Records, file,
    records::{Expect, Write},
};
use rouse_types::{
    ApiKey, Code, Digest, Grant, Refusal, TenantId, Timestamp,
    api_key::{self, TenantKeys},
};

use crate::{
    control::Control,
    state::{self, At, Committed},
};

/// Keys of one tenant: bounds what gateways hold.
const KEYS_MAX: usize = 100;
/// Sessions of one tenant at a time, for the same reason: each of many people, and a busy day's builds.
const SESSIONS_MAX: usize = 1_000;
/// Functions that one key is for.
pub(crate) const FUNCTIONS_MAX: usize = 50;
/// A note's length, in bytes.
const NOTE_BYTES_MAX: usize = 200;
/// How long an old key still does when nothing is said: a day, in which its users learn of the new one.
const OVERLAP_SECONDS: u64 = 24 * 3_600;
/// The longest overlap and the longest life that can be asked for: ten years.
const SECONDS_MAX: u64 = 10 * 366 * 24 * 3_600;

impl Control {
    pub(crate) async fn create_api_key(
        &self,
        tenant: &TenantId,
        request: ApiKeyRequest,
    ) -> Result<NewApiKey, Refusal> {
        let ApiKeyRequest { role, functions, expires_in_seconds, note } = request;
        let wrong = |what: String, hint: &str| Err(Refusal::new(Code::BadRequest, what).hint(hint));
        if functions.len() > FUNCTIONS_MAX {
            return wrong(
                format!("a key is for {FUNCTIONS_MAX} functions at most"),
                "leave them out: then it is for all",
            );
        }
        if note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES_MAX || note.contains(char::is_control)) {
            return wrong(
                format!("a note is one line of {NOTE_BYTES_MAX} bytes at most"),
                "say it in fewer words",
            );
        }
        if expires_in_seconds.is_some_and(|seconds| seconds == 0 || seconds > SECONDS_MAX) {
            return wrong(
                "a key lives for a second to ten years".to_owned(),
                "leave the time out: then it stays",
            );
        }
        let now = self.config.clock.now();
        let key = ApiKey {
            tenant: tenant.clone(),
            role,
            functions,
            digest: Digest::of(b""),
            created: now,
            expires: expires_in_seconds.map(|seconds| after(now, seconds)),
            note,
            rotated_to: None,
            session: None,
        };
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        self.check_room(tenant, now).await?;
        let (id, new, write) = made(key)?;
        self.commit_api_keys(tenant, vec![write]).await?;
        tracing::info!(%tenant, key = id, "made an API key");
        Ok(new)
    }

    /// Refuses one key more than a tenant may have. Those that have expired make room.
    async fn check_room(&self, tenant: &TenantId, now: Timestamp) -> Result<(), Refusal> {
        let keys = self.keys_of(tenant).await?;
        let kept = keys.iter().filter(|at| at.value.session.is_none() && !at.value.has_expired(now)).count();
        if kept < KEYS_MAX {
            return Ok(());
        }
        Err(Refusal::new(Code::BadRequest, format!("tenant '{tenant}' has {KEYS_MAX} API keys already"))
            .hint("`rouse key revoke` those that are no longer needed"))
    }

    /// Commits a session's key with what else belongs to the sign-in: all of it, or nothing if `with` expects what is
    /// no longer so. The caller holds the lock of the tenant's keys.
    pub(crate) async fn begin_session(
        &self,
        key: ApiKey,
        mut with: Vec<Write>,
    ) -> Result<Option<NewApiKey>, Refusal> {
        let (tenant, now) = (key.tenant.clone(), self.config.clock.now());
        let keys = self.keys_of(&tenant).await?;
        let under_way = keys.iter().filter(|at| at.value.session.is_some() && !at.value.has_expired(now));
        if under_way.count() >= SESSIONS_MAX {
            return Err(Refusal::new(
                Code::TooManyRequests,
                format!("tenant '{tenant}' has {SESSIONS_MAX} sessions already"),
            )
            .hint(
                "`rouse logout` ends one, and so does its time; an owner ends others with `rouse key revoke`",
            )
            .retry_after(std::time::Duration::from_secs(60)));
        }
        let (_, new, write) = made(key)?;
        with.push(write);
        Ok(self.commit_api_keys_if(&tenant, with).await?.then_some(new))
    }

    /// Deletes what let someone in, with the sessions that it did let in: both or, if it changed meanwhile, neither.
    /// `write` deletes or changes it. The caller holds the lock of the tenant's keys.
    pub(crate) async fn end_sessions(
        &self,
        tenant: &TenantId,
        by: &Grant,
        write: Write,
    ) -> Result<bool, Refusal> {
        let let_in = |at: &At<ApiKey>| at.value.session.as_ref().is_some_and(|session| session.by == *by);
        let keys = self.keys_of(tenant).await?.into_iter().filter(let_in);
        let mut writes: Vec<_> = keys.map(|at| state::delete(state::API_KEYS, at.key, Expect::Any)).collect();
        writes.push(write);
        self.commit_api_keys_if(tenant, writes).await
    }

    /// Ends all sessions that an issuer's tokens began.
    pub(crate) async fn end_sessions_of(&self, tenant: &TenantId, issuer: &str) -> Result<(), Refusal> {
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        let of = |at: &At<ApiKey>| at.value.session.as_ref().is_some_and(|session| session.issuer == issuer);
        let keys = self.keys_of(tenant).await?.into_iter().filter(of);
        let writes: Vec<_> = keys.map(|at| state::delete(state::API_KEYS, at.key, Expect::Any)).collect();
        if writes.is_empty() { Ok(()) } else { self.commit_api_keys(tenant, writes).await }
    }

    async fn keys_of(&self, tenant: &TenantId) -> Result<Vec<At<ApiKey>>, Refusal> {
        let mut keys = state::scan::<ApiKey>(&self.records, state::API_KEYS, "").await?;
        keys.retain(|at| at.value.tenant == *tenant);
        keys.sort_by_key(|at| at.value.created);
        Ok(keys)
    }

    pub(crate) async fn list_api_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKeyInfo>, Refusal> {
        Ok(self.keys_of(tenant).await?.into_iter().map(|at| shown(at.key, at.value)).collect())
    }

    /// The key of this id, if it is this tenant's.
    async fn api_key(&self, tenant: &TenantId, id: &str) -> Result<At<ApiKey>, Refusal> {
        let missing = || {
            Refusal::new(Code::KeyNotFound, format!("tenant '{tenant}' has no API key '{id}'"))
                .hint("`rouse key list` shows which there are")
        };
        // Only what looks like an id is asked for: names of records are narrower than paths.
        let text = format!("{}{id}_x", api_key::PREFIX);
        let id = api_key::id(&text).ok_or_else(missing)?;
        let found = state::get::<ApiKey>(&self.records, state::API_KEYS, id).await?;
        found.filter(|at| at.value.tenant == *tenant).ok_or_else(missing)
    }

    /// Makes a key like an old one, which does for a while longer.
    pub(crate) async fn rotate_api_key(
        &self,
        tenant: &TenantId,
        id: &str,
        request: RotateRequest,
    ) -> Result<NewApiKey, Refusal> {
        let overlap = request.overlap_seconds.unwrap_or(OVERLAP_SECONDS);
        if overlap > SECONDS_MAX {
            return Err(Refusal::new(Code::BadRequest, "the overlap is longer than ten years")
                .hint("leave it out: then it is a day"));
        }
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        let mut old = self.api_key(tenant, id).await?;
        if let Some(next) = &old.value.rotated_to {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("the key {id} was rotated already, to {next}"),
            )
            .hint(format!("`rouse key rotate {next}` replaces that one")));
        }
        if old.value.session.is_some() {
            return Err(Refusal::new(Code::BadRequest, format!("the key {id} is of a session"))
                .hint("`rouse login` begins another"));
        }
        let now = self.config.clock.now();
        self.check_room(tenant, now).await?;
        // As long as the old one's life was.
        let expires =
            old.value.expires.map(|end| Timestamp(now.0 + end.0.saturating_sub(old.value.created.0)));
        let key = ApiKey { created: now, expires, ..old.value.clone() };
        let (new_id, new, write) = made(key)?;
        let end = after(now, overlap);
        old.value.expires = Some(old.value.expires.map_or(end, |expires| expires.min(end)));
        old.value.rotated_to = Some(new_id);
        let expect = state::unchanged(Some(&old));
        let replaced = state::put(state::API_KEYS, old.key.clone(), &old.value, expect)?;
        self.commit_api_keys(tenant, vec![write, replaced]).await?;
        Ok(new)
    }

    pub(crate) async fn revoke_api_key(&self, tenant: &TenantId, id: &str) -> Result<ApiKeyInfo, Refusal> {
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        let found = self.api_key(tenant, id).await?;
        let expect = state::unchanged(Some(&found));
        self.commit_api_keys(tenant, vec![state::delete(state::API_KEYS, found.key.clone(), expect)]).await?;
        Ok(shown(found.key, found.value))
    }

    pub(crate) async fn revoke_all_api_keys(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        let keys = self.keys_of(tenant).await?;
        let writes: Vec<_> =
            keys.into_iter().map(|at| state::delete(state::API_KEYS, at.key, Expect::Any)).collect();
        if writes.is_empty() { Ok(()) } else { self.commit_api_keys(tenant, writes).await }
    }

    /// Commits a change of a tenant's keys, and forgets those that have expired.
    async fn commit_api_keys(&self, tenant: &TenantId, writes: Vec<Write>) -> Result<(), Refusal> {
        if self.commit_api_keys_if(tenant, writes).await? { Ok(()) } else { Err(state::contended()) }
    }

    /// The same; false when something is not as a write expects, and nothing was done.
    async fn commit_api_keys_if(&self, tenant: &TenantId, mut writes: Vec<Write>) -> Result<bool, Refusal> {
        let now = self.config.clock.now();
        for At { key, value, .. } in self.keys_of(tenant).await? {
            if value.has_expired(now) && !writes.iter().any(|write| write.key == key) {
                writes.push(state::delete(state::API_KEYS, key, Expect::Any));
            }
        }
        match state::commit(&self.records, writes).await? {
            Committed::Done => {}
            Committed::Conflict => return Ok(false),
        }
        write(&self.records, &self.config.state, Some(tenant)).await?;
        self.peers.notify_keys(tenant).await.map_err(|why| {
            tracing::error!(why, %tenant, "a gateway goes on with the keys of before");
            let what = format!("the keys have changed, but a gateway still takes those before: {why}");
            Refusal::new(Code::Internal, what)
                .hint("look into the platform's log; any further change of keys tells it again")
        })?;
        Ok(true)
    }
}

/// Makes the files that gateways read what the store says: of one tenant, or of all.
pub(crate) async fn write(records: &Records, state: &Path, only: Option<&TenantId>) -> Result<(), Refusal> {
    let mut tenants: BTreeMap<TenantId, TenantKeys> = BTreeMap::new();
    if let Some(tenant) = only {
        tenants.insert(tenant.clone(), TenantKeys::new());
    }
    for At { key, value, .. } in state::scan::<ApiKey>(records, state::API_KEYS, "").await? {
        if only.is_none_or(|tenant| value.tenant == *tenant) {
            tenants.entry(value.tenant.clone()).or_default().insert(key, value);
        }
    }
    let folder = state.join(api_key::FOLDER);
    let files = move || {
        for (tenant, keys) in tenants {
            file::replace(&folder.join(format!("{tenant}.json")), &serde_json::to_vec(&keys)?)?;
        }
        Ok(())
    };
    let done = tokio::task::spawn_blocking(files).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| state::io_refusal("write a tenant's keys", &error))
}

pub(crate) fn after(now: Timestamp, seconds: u64) -> Timestamp {
    Timestamp(now.0.saturating_add(seconds.saturating_mul(1_000_000)))
}

fn shown(id: String, key: ApiKey) -> ApiKeyInfo {
    let ApiKey { role, functions, created, expires, note, rotated_to, session, .. } = key;
    ApiKeyInfo { id, role, functions, created, expires, note, rotated_to, session }
}

/// Gives a key its text: the id, what is told of it, and the write that keeps its digest.
fn made(mut key: ApiKey) -> Result<(String, NewApiKey, Write), Refusal> {
    let failed = |error: io::Error| state::io_refusal("make an API key", &error);
    let mut random = [0; 32 + api_key::ID_CHARS];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom").map_err(failed)?, &mut random)
        .map_err(failed)?;
    let (secret, name) = random.split_at(32);
    let letters = b"abcdefghijklmnopqrstuvwxyz234567";
    let id: String = name.iter().map(|byte| char::from(letters[usize::from(byte % 32)])).collect();
    let text = format!("{}{id}_{}", api_key::PREFIX, URL_SAFE_NO_PAD.encode(secret));
    key.digest = Digest::of(text.as_bytes());
    let write = state::put(state::API_KEYS, id.clone(), &key, Expect::Absent)?;
    Ok((id.clone(), NewApiKey { key: text, info: shown(id, key) }, write))
}
