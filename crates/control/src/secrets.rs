//! Secrets: sealed records of the store, and the files that whoever starts functions reads.

use std::collections::{BTreeMap, BTreeSet};

use rouse_api::{DeployRequest, SecretInfo, SecretValue, SecretsSealed};
use rouse_store::{
    records::Expect,
    secrets::{self, Keyring, Sealed, SealedSecrets},
};
use rouse_types::{
    AppSnapshot, Code, FunctionName, Refusal, TenantId, Timestamp, function::is_secret_name, limits,
};
use serde::{Deserialize, Serialize};

use crate::{
    control::Control,
    state::{self, At, Committed, SECRETS},
};

/// Secrets of one tenant: bounds the file.
const SECRETS_MAX: usize = 1_000;

/// A secret as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Secret {
    created: Timestamp,
    updated: Timestamp,
    sealed: Sealed,
}

fn failed(error: &secrets::Error) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "secrets cannot be had");
    Refusal::new(Code::Internal, error.to_string()).hint("see <state>/secrets and the platform's log")
}

fn damaged(key: &str) -> Refusal {
    Refusal::new(Code::Internal, format!("the record of the secret '{key}' names no tenant"))
        .hint("the store is damaged: restore it")
}

/// The name in a record's key, which is `<tenant>/<name>`.
fn name_in(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}

fn missing(tenant: &TenantId, name: &str) -> Refusal {
    Refusal::new(Code::SecretNotFound, format!("tenant '{tenant}' has no secret '{name}'"))
        .hint(format!("`rouse secret set {name}` sets it; `rouse secret list` shows which there are"))
}

impl Control {
    pub(crate) async fn put_secret(
        &self,
        tenant: &TenantId,
        name: &str,
        SecretValue { value }: SecretValue,
    ) -> Result<SecretInfo, Refusal> {
        if !is_secret_name(name) {
            let what = format!("'{}' is no name of a secret", shown(name));
            return Err(Refusal::new(Code::BadRequest, what)
                .hint("use 1 to 64 letters, digits, '-', '_' and '.', a letter or digit first"));
        }
        if value.is_empty() || value.len() > limits::ENV_BYTES_MAX || value.contains('\0') {
            let most = limits::ENV_BYTES_MAX;
            let what =
                format!("the value of '{name}' is empty, has more than {most} bytes, or a NUL character");
            return Err(
                Refusal::new(Code::BadRequest, what).hint("a secret is one environment variable's value")
            );
        }
        let _lock = self.locks.hold("secrets".to_owned()).await;
        let known = state::scan::<Secret>(&self.records, SECRETS, &format!("{tenant}/")).await?;
        let key = format!("{tenant}/{name}");
        let before = known.iter().find(|at| at.key == key);
        if before.is_none() && known.len() >= SECRETS_MAX {
            let what = format!("tenant '{tenant}' has {SECRETS_MAX} secrets already");
            return Err(Refusal::new(Code::BadRequest, what).hint("delete those that are no longer needed"));
        }
        let keys = Keyring::open(&self.config.state).map_err(|error| failed(&error))?;
        let now = self.config.clock.now();
        let sealed = keys.seal(tenant, name, &value).map_err(|error| failed(&error))?;
        let created = before.map_or(now, |at| at.value.created);
        let secret = Secret { created, updated: now, sealed };
        let write = state::put(SECRETS, key, &secret, state::unchanged(before))?;
        if state::commit(&self.records, vec![write]).await? == Committed::Conflict {
            return Err(state::contended());
        }
        self.hand_over(tenant).await?;
        let functions = self.users(tenant).remove(name).unwrap_or_default();
        Ok(SecretInfo { name: name.to_owned(), created, updated: now, functions })
    }

    pub(crate) async fn list_secrets(&self, tenant: &TenantId) -> Result<Vec<SecretInfo>, Refusal> {
        let known = state::scan::<Secret>(&self.records, SECRETS, &format!("{tenant}/")).await?;
        let mut users = self.users(tenant);
        let show = |At { key, value: Secret { created, updated, .. }, .. }: At<Secret>| {
            let name = name_in(&key).to_owned();
            let functions = users.remove(&name).unwrap_or_default();
            SecretInfo { name, created, updated, functions }
        };
        Ok(known.into_iter().map(show).collect())
    }

    pub(crate) async fn delete_secret(&self, tenant: &TenantId, name: &str) -> Result<SecretInfo, Refusal> {
        if !is_secret_name(name) {
            return Err(missing(tenant, &shown(name)));
        }
        let _lock = self.locks.hold("secrets".to_owned()).await;
        let key = format!("{tenant}/{name}");
        let found = state::get::<Secret>(&self.records, SECRETS, &key).await?;
        let found = found.ok_or_else(|| missing(tenant, name))?;
        if let Some(functions) = self.users(tenant).remove(name) {
            let names: Vec<String> = functions.iter().map(ToString::to_string).collect();
            let what = format!("the secret '{name}' is used by {}", names.join(", "));
            return Err(Refusal::new(Code::SecretInUse, what).hint("deploy them without it first"));
        }
        let (created, updated) = (found.value.created, found.value.updated);
        let write = state::delete(SECRETS, key, state::unchanged(Some(&found)));
        if state::commit(&self.records, vec![write]).await? == Committed::Conflict {
            return Err(state::contended());
        }
        self.hand_over(tenant).await?;
        Ok(SecretInfo { name: name.to_owned(), created, updated, functions: Vec::new() })
    }

    /// Deletes all secrets of a tenant that has no functions left.
    pub(crate) async fn delete_all_secrets(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let _lock = self.locks.hold("secrets".to_owned()).await;
        let known = state::scan::<Secret>(&self.records, SECRETS, &format!("{tenant}/")).await?;
        if known.is_empty() {
            return Ok(());
        }
        let writes = known.into_iter().map(|at| state::delete(SECRETS, at.key, Expect::Any)).collect();
        state::commit(&self.records, writes).await?;
        self.write_of(tenant).await
    }

    /// Seals all secrets under a new key, while functions go on to start.
    pub(crate) async fn rotate_secrets_key(&self) -> Result<SecretsSealed, Refusal> {
        let _lock = self.locks.hold("secrets".to_owned()).await;
        let mut keys = Keyring::open(&self.config.state).map_err(|error| failed(&error))?;
        keys.add().map_err(|error| failed(&error))?;
        match self.seal_anew(&mut keys).await? {
            (secrets, None) => Ok(SecretsSealed { secrets }),
            (_, Some(error)) => Err(failed(&error)),
        }
    }

    /// Seals what an older key sealed, and drops the older keys once nothing needs them. Gives how many secrets there are, and
    /// why one of them cannot be opened, if so.
    async fn seal_anew(&self, keys: &mut Keyring) -> Result<(usize, Option<secrets::Error>), Refusal> {
        let known = state::scan::<Secret>(&self.records, SECRETS, "").await?;
        let secrets = known.len();
        let (mut tenants, mut closed) = (BTreeSet::new(), None);
        for at in known {
            let name = name_in(&at.key);
            let tenant =
                at.key.strip_suffix(name).and_then(|rest| rest.strip_suffix('/')).unwrap_or_default();
            let tenant: TenantId = tenant.parse().map_err(|_| damaged(&at.key))?;
            tenants.insert(tenant.clone());
            if keys.is_newest(&at.value.sealed) {
                continue;
            }
            let value = match keys.unseal(&tenant, name, &at.value.sealed) {
                Ok(value) => value,
                Err(error) => {
                    closed = Some(error);
                    continue;
                }
            };
            let sealed = keys.seal(&tenant, name, &value).map_err(|error| failed(&error))?;
            let expect = state::unchanged(Some(&at));
            let write = state::put(SECRETS, at.key.clone(), &Secret { sealed, ..at.value }, expect)?;
            if state::commit(&self.records, vec![write]).await? == Committed::Conflict {
                return Err(state::contended());
            }
        }
        for tenant in tenants {
            self.write_of(&tenant).await?;
        }
        self.seal_authority_anew(keys).await?;
        if closed.is_none() {
            keys.drop_old().map_err(|error| failed(&error))?;
        }
        Ok((secrets, closed))
    }

    /// Makes the files what the store says, at the start: a crash may have come between the two, or while the key was
    /// changed. A secret that does not open, for the file of keys was lost or is another node's, keeps its functions from
    /// starting, and nothing else.
    pub(crate) async fn write_secrets(&self) -> Result<(), Refusal> {
        let mut keys = Keyring::prepare(&self.config.state).map_err(|error| failed(&error))?;
        if let (_, Some(error)) = self.seal_anew(&mut keys).await? {
            tracing::error!(%error, "put the keys that sealed the secrets into <state>/secrets/keys, or set them anew");
        }
        Ok(())
    }

    async fn write_of(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let known = state::scan::<Secret>(&self.records, SECRETS, &format!("{tenant}/")).await?;
        let sealed = known.into_iter().map(|at| (name_in(&at.key).to_owned(), at.value.sealed));
        let sealed: SealedSecrets = sealed.collect();
        secrets::write(&self.config.state, tenant, &sealed)
            .map_err(|error| state::io_refusal("write the secrets", &error))
    }

    /// Writes a tenant's file, and has whoever holds secrets read it again.
    async fn hand_over(&self, tenant: &TenantId) -> Result<(), Refusal> {
        self.write_of(tenant).await?;
        for app in self.list_apps(tenant).await? {
            // One that could not be told is logged there, and starts functions with the new value anyway.
            let _ = self.peers.notify(tenant, &app.app).await;
        }
        Ok(())
    }

    /// The live functions that have a secret in their environment, by the secret's name.
    fn users(&self, tenant: &TenantId) -> BTreeMap<String, Vec<FunctionName>> {
        let mut users = BTreeMap::<String, Vec<FunctionName>>::new();
        let folder = self.config.state.join("apps").join(tenant.as_str());
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let snapshot = std::fs::read(entry.path()).ok();
            let snapshot = snapshot.and_then(|bytes| serde_json::from_slice::<AppSnapshot>(&bytes).ok());
            for route in snapshot.into_iter().flat_map(|snapshot| snapshot.functions) {
                for secret in route.versions.values().flat_map(|version| version.secrets.values()) {
                    let of = users.entry(secret.clone()).or_default();
                    if !of.contains(&route.function) {
                        of.push(route.function.clone());
                    }
                }
            }
        }
        users
    }

    /// A deployment with the values of its secrets among the variables: what its triggers name may be one of them. Refused
    /// when a secret is not there.
    pub(crate) async fn with_secrets(
        &self,
        tenant: &TenantId,
        request: &DeployRequest,
    ) -> Result<DeployRequest, Refusal> {
        let mut request = request.clone();
        if request.functions.iter().all(|function| function.secrets.is_empty()) {
            return Ok(request);
        }
        let keys = Keyring::open(&self.config.state).map_err(|error| failed(&error))?;
        for function in &mut request.functions {
            for (variable, name) in &function.secrets {
                if function.env.contains_key(variable) {
                    let what = format!(
                        "function '{}': the variable {variable} is in `env` and in `secrets`",
                        function.name
                    );
                    return Err(Refusal::new(Code::ManifestInvalid, what).hint("leave one of the two out"));
                }
                function.env.insert(variable.clone(), self.secret_value(&keys, tenant, name).await?);
            }
        }
        Ok(request)
    }

    async fn secret_value(&self, keys: &Keyring, tenant: &TenantId, name: &str) -> Result<String, Refusal> {
        let found = state::get::<Secret>(&self.records, SECRETS, &format!("{tenant}/{name}")).await?;
        let found = found.ok_or_else(|| missing(tenant, name))?;
        keys.unseal(tenant, name, &found.value.sealed).map_err(|error| failed(&error))
    }

    /// The name and the password of a registry that a secret holds.
    pub(crate) async fn registry_login(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<(String, String), Refusal> {
        let keys = Keyring::open(&self.config.state).map_err(|error| failed(&error))?;
        let value = self.secret_value(&keys, tenant, name).await?;
        let login = value.trim_end_matches('\n').split_once(':').filter(|(user, _)| !user.is_empty());
        let (user, password) = login.ok_or_else(|| {
            Refusal::new(Code::BadRequest, format!("the secret '{name}' is no login to a registry"))
                .hint(format!("set it as user:password: `rouse secret set {name}`"))
        })?;
        Ok((user.to_owned(), password.to_owned()))
    }
}

fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}
