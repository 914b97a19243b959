//! What the Lambda API remembers, in a store of its own: functions with their versions, aliases and settings. What
//! runs is the platform's; which of its versions stands for which of AWS' is said by aliases there.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rouse_store::{
    Error, Records,
    records::{Expect, PAGE_MAX, Revision},
};
use rouse_types::{Digest, TenantId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{error::AwsError, names::LATEST};

/// Namespaces of the store.
pub(crate) const FUNCTIONS: &str = "functions";
pub(crate) const MAPPINGS: &str = "mappings";
pub(crate) const LAYERS: &str = "layers";
pub(crate) const SIGNING: &str = "signing";
pub(crate) const ROLES: &str = "roles";
/// Function URLs by their ids, which are no tenant's: callers know nothing else.
pub(crate) const URLS: &str = "urls";

/// A function.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Function {
    /// The newest version, which changes.
    pub(crate) latest: Version,
    /// Those that were published.
    pub(crate) versions: BTreeMap<u64, Version>,
    /// The number that is published next.
    pub(crate) next: u64,
    pub(crate) aliases: BTreeMap<String, Alias>,
    /// Resource policies, by qualifier; the function's own under the empty one.
    pub(crate) policies: BTreeMap<String, Policy>,
    pub(crate) reserved: Option<u64>,
    /// By qualifier.
    pub(crate) provisioned: BTreeMap<String, Value>,
    /// By qualifier; `$LATEST` for the function's own.
    pub(crate) urls: BTreeMap<String, Value>,
    /// By qualifier.
    pub(crate) event_invoke: BTreeMap<String, Value>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) recursion: Option<String>,
    /// By qualifier.
    pub(crate) runtime_management: BTreeMap<String, Value>,
    pub(crate) code_signing: Option<String>,
    /// By qualifier.
    pub(crate) scaling: BTreeMap<String, Value>,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Version {
    /// As `GetFunctionConfiguration` shows it, without the names of the function.
    pub(crate) config: Map<String, Value>,
    /// The archive.
    pub(crate) code: Option<Digest>,
    /// Or the image, as it was named.
    pub(crate) image: Option<String>,
    /// The archives of its layers, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) layers: Vec<Digest>,
    /// What it was deployed with.
    #[serde(default)]
    pub(crate) deployed: Option<Capacity>,
    /// Of a published version: the digest of what `$LATEST` was then.
    #[serde(default)]
    pub(crate) essence: Option<Digest>,
}

/// What a version is deployed with that belongs to its function, and changes without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capacity {
    /// Calls of the function at once, if it has its own.
    pub(crate) reserved: Option<u64>,
    /// Instances that are there whether anyone calls or not.
    pub(crate) provisioned: u64,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Alias {
    pub(crate) version: String,
    pub(crate) description: String,
    /// Another version and its share, as the client wrote it.
    pub(crate) weights: BTreeMap<String, Value>,
    pub(crate) revision: String,
}

/// A resource policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Policy {
    pub(crate) statements: Vec<Value>,
    pub(crate) revision: String,
}

impl Version {
    pub(crate) fn text(&self, member: &str) -> &str {
        self.config.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, member: &str) -> u64 {
        self.config.get(member).and_then(Value::as_u64).unwrap_or_default()
    }

    /// All archives that it needs.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.code.into_iter().chain(self.layers.iter().copied())
    }
}

impl Function {
    /// The version of this name: a number, or `$LATEST`.
    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        if name == LATEST {
            return Some(&self.latest);
        }
        self.versions.get(&name.parse().ok()?)
    }

    /// What a version is to be deployed with.
    pub(crate) fn capacity(&self, version: &str) -> Capacity {
        let provisioned = self.provisioned.iter().filter(|(qualifier, _)| {
            *qualifier == version
                || self.aliases.get(*qualifier).is_some_and(|alias| alias.version == version)
        });
        let asked =
            provisioned.filter_map(|(_, config)| config["RequestedProvisionedConcurrentExecutions"].as_u64());
        Capacity { reserved: self.reserved, provisioned: asked.sum() }
    }

    /// Whether nothing of what the function has reserved is for this version: all of it is provisioned for others.
    pub(crate) fn is_shut(&self, version: &str) -> bool {
        let asked = |config: &Value| config["RequestedProvisionedConcurrentExecutions"].as_u64();
        let provisioned: u64 = self.provisioned.values().filter_map(asked).sum();
        self.reserved.is_some_and(|reserved| reserved <= provisioned)
            && self.capacity(version).provisioned == 0
    }

    /// Whether a published version runs with another capacity than it is to have.
    pub(crate) fn differs(&self, number: &str, version: &Version) -> bool {
        version.text("State") == "Active" && version.deployed != Some(self.capacity(number))
    }

    /// All versions with their names, `$LATEST` first.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, &Version)> {
        let published = self.versions.iter().map(|(number, version)| (number.to_string(), version));
        std::iter::once((LATEST.to_owned(), &self.latest)).chain(published)
    }
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    records: Records,
    /// Changes are made one after the other: they are few.
    changes: Arc<Mutex<()>>,
}

/// A record that was read, and when.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    revision: Revision,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { records: Records::open(path)?, changes: Arc::default() })
    }

    /// Whoever holds this is the only one who changes anything.
    pub(crate) async fn lock(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.changes).lock_owned().await
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        namespace: &str,
        tenant: &TenantId,
        key: &str,
    ) -> Result<Option<At<T>>, AwsError> {
        let key = format!("{tenant}/{key}");
        // A name that no record can have is that of no record.
        let record = match self.records.get(namespace, &key).await {
            Err(Error::Invalid(_)) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let Some(record) = record else { return Ok(None) };
        let value = serde_json::from_slice(&record.value).map_err(|error| damaged(&key, &error))?;
        Ok(Some(At { value, revision: record.revision }))
    }

    /// A record that is found by its key alone.
    pub(crate) async fn named<T: DeserializeOwned>(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<T>, AwsError> {
        let record = match self.records.get(namespace, key).await {
            Err(Error::Invalid(_)) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let read = |record: rouse_store::records::Record| serde_json::from_slice(&record.value);
        record.map(read).transpose().map_err(|error| damaged(key, &error))
    }

    /// Keeps a record that is found by its key alone.
    pub(crate) async fn name<T: Serialize>(
        &self,
        namespace: &str,
        key: &str,
        value: &T,
    ) -> Result<(), AwsError> {
        let value = serde_json::to_vec(value).map_err(|error| AwsError::service(error.to_string()))?;
        let write = rouse_store::records::Write {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            expect: Expect::Any,
            value: Some(value),
        };
        self.records.commit(vec![write]).await.map(drop).map_err(failed)
    }

    /// Forgets such a record.
    pub(crate) async fn unname(&self, namespace: &str, key: &str) -> Result<(), AwsError> {
        self.records.delete(namespace, key, Expect::Any).await.map(drop).map_err(failed)
    }

    /// All of a tenant's records whose keys begin so, by key.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        namespace: &str,
        tenant: &TenantId,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, AwsError> {
        let tenant = format!("{tenant}/");
        self.scan(namespace, &format!("{tenant}{prefix}"), tenant.len()).await
    }

    /// All records whose keys begin so, by what follows the first so many characters.
    pub(crate) async fn scan<T: DeserializeOwned>(
        &self,
        namespace: &str,
        prefix: &str,
        skip: usize,
    ) -> Result<Vec<(String, T)>, AwsError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page =
                self.records.scan(namespace, prefix, after.as_deref(), PAGE_MAX).await.map_err(failed)?;
            for record in page.records {
                let value =
                    serde_json::from_slice(&record.value).map_err(|error| damaged(&record.key, &error))?;
                found.push((record.key[skip..].to_owned(), value));
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn create<T: Serialize>(
        &self,
        namespace: &str,
        tenant: &TenantId,
        key: &str,
        value: &T,
    ) -> Result<(), AwsError> {
        self.write(namespace, tenant, key, value, Expect::Absent).await
    }

    pub(crate) async fn put<T: Serialize>(
        &self,
        namespace: &str,
        tenant: &TenantId,
        key: &str,
        at: &At<T>,
    ) -> Result<(), AwsError> {
        self.write(namespace, tenant, key, &at.value, Expect::At(at.revision)).await
    }

    async fn write<T: Serialize>(
        &self,
        namespace: &str,
        tenant: &TenantId,
        key: &str,
        value: &T,
        expect: Expect,
    ) -> Result<(), AwsError> {
        let value = serde_json::to_vec(value).map_err(|error| AwsError::service(error.to_string()))?;
        if value.len() > rouse_store::records::VALUE_BYTES_MAX {
            return Err(AwsError::new(
                "CodeStorageExceededException",
                "The function has more versions, aliases and settings than can be kept; delete some",
            ));
        }
        let write = rouse_store::records::Write {
            namespace: namespace.to_owned(),
            key: format!("{tenant}/{key}"),
            expect,
            value: Some(value),
        };
        match self.records.commit(vec![write]).await {
            Ok(_) => Ok(()),
            Err(Error::Conflict { .. }) => {
                Err(AwsError::conflict("The resource was changed at the same time; try again"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(crate) async fn delete(&self, namespace: &str, tenant: &TenantId, key: &str) -> Result<(), AwsError> {
        let key = format!("{tenant}/{key}");
        self.records.delete(namespace, &key, Expect::Any).await.map(drop).map_err(failed)
    }
}

pub(crate) fn failed(error: Error) -> AwsError {
    if let Error::Full(_) = error {
        return AwsError::new("CodeStorageExceededException", "The platform's disk is full");
    }
    tracing::error!(%error, "the store of the Lambda API failed");
    AwsError::service("The platform's store failed; its log says why")
}

fn damaged(key: &str, error: &serde_json::Error) -> AwsError {
    tracing::error!(key, %error, "a record of the Lambda API cannot be read");
    AwsError::service("A record cannot be read; the platform's log says which")
}
