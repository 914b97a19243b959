//! Access keys: records of the store, and the file that whoever checks signatures reads.

use std::{fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rouse_api::{KeyInfo, KeyRequest, NewKey};
use rouse_store::{
    Records, access_keys,
    records::{Expect, Write},
};
use rouse_types::{AccessKey, AccessKeys, Code, Refusal, Role, TenantId, access_key};

use crate::{
    control::Control,
    state::{self, Committed, KEYS},
};

/// Keys of one tenant: bounds the file.
const KEYS_MAX: usize = 100;

impl Control {
    pub(crate) async fn create_key(&self, tenant: &TenantId, wanted: KeyRequest) -> Result<NewKey, Refusal> {
        let role = wanted.role.unwrap_or_else(access_key::role);
        if role == Role::Billing {
            let what = "AWS' clients ask for nothing that the role billing may";
            return Err(Refusal::new(Code::BadRequest, what)
                .hint("make an API key for invoices: `rouse key create --role billing`"));
        }
        let known = state::scan::<AccessKey>(&self.records, KEYS, &format!("{tenant}/")).await?;
        if known.len() >= KEYS_MAX {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("tenant '{tenant}' has {KEYS_MAX} access keys already"),
            )
            .hint("`rouse access-key delete` those that are no longer needed"));
        }
        let failed = |error: io::Error| state::io_refusal("make an access key", &error);
        let mut random = [0; 46];
        io::Read::read_exact(&mut fs::File::open("/dev/urandom").map_err(failed)?, &mut random)
            .map_err(failed)?;
        // As AWS' own look: 20 characters of which the first four say what it is, and 40.
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let id: String =
            random[30..].iter().map(|byte| char::from(letters[usize::from(byte % 32)])).collect();
        let id = format!("AKIA{id}");
        let secret = STANDARD.encode(&random[..30]);
        let key = AccessKey {
            tenant: tenant.clone(),
            secret: secret.clone(),
            created: self.config.clock.now(),
            role,
        };
        let write = state::put(KEYS, format!("{tenant}/{id}"), &key, Expect::Absent)?;
        self.commit_keys(vec![write]).await?;
        Ok(NewKey { id, secret })
    }

    pub(crate) async fn list_keys(&self, tenant: &TenantId) -> Result<Vec<KeyInfo>, Refusal> {
        let keys = state::scan::<AccessKey>(&self.records, KEYS, &format!("{tenant}/")).await?;
        Ok(keys.into_iter().map(|at| info(id(&at.key), &at.value)).collect())
    }

    pub(crate) async fn delete_key(&self, tenant: &TenantId, id: &str) -> Result<KeyInfo, Refusal> {
        let missing = || {
            Refusal::new(Code::BadRequest, format!("tenant '{tenant}' has no access key '{id}'"))
                .hint("`rouse access-key list` shows which there are")
        };
        if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(missing());
        }
        let key = format!("{tenant}/{id}");
        let found = state::get::<AccessKey>(&self.records, KEYS, &key).await?.ok_or_else(missing)?;
        self.commit_keys(vec![state::delete(KEYS, key, state::unchanged(Some(&found)))]).await?;
        Ok(info(id.to_owned(), &found.value))
    }

    pub(crate) async fn delete_all_keys(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let keys = state::scan::<AccessKey>(&self.records, KEYS, &format!("{tenant}/")).await?;
        let writes: Vec<Write> =
            keys.into_iter().map(|at| state::delete(KEYS, at.key, Expect::Any)).collect();
        if writes.is_empty() { Ok(()) } else { self.commit_keys(writes).await }
    }

    async fn commit_keys(&self, writes: Vec<Write>) -> Result<(), Refusal> {
        let _lock = self.locks.hold("keys".to_owned()).await;
        if state::commit(&self.records, writes).await? == Committed::Conflict {
            return Err(state::contended());
        }
        write(&self.records, &self.config.state).await
    }
}

fn info(id: String, key: &AccessKey) -> KeyInfo {
    KeyInfo { id, created: key.created, role: key.role }
}

fn id(key: &str) -> String {
    key.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Makes the file what the store says: after each change, and at the start, should a crash have come between.
pub(crate) async fn write(records: &Records, state: &Path) -> Result<(), Refusal> {
    let keys = state::scan::<AccessKey>(records, KEYS, "").await?;
    let keys: AccessKeys = keys.into_iter().map(|at| (id(&at.key), at.value)).collect();
    access_keys::replace(state, &keys).map_err(|error| state::io_refusal("write the access keys", &error))
}
