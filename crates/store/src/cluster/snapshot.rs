//! Copies of a store's tables: they let the log be cut, and let a node begin that has missed what was cut.
//!
//! ```text
//!   tables ──copy──▶ blob ──▶ pointer (digest, how far) ──▶ log cut up to the copy before
//! ```
//!
//! The log keeps what came since the copy before the last: a node that is a little behind goes on without one.

use std::{path::PathBuf, sync::Arc};

use async_nats::HeaderMap;
use rouse_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    blobs::Blobs,
    replica::{Shared, file, remove},
    stream::Published,
};
use crate::Error;

/// Where the newest copy is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pointer {
    /// Its bytes are the blob of this digest.
    pub(super) digest: Digest,
    /// The last entry of the log that is in it.
    pub(super) applied: u64,
    /// Which log: see [`super::stream::Stream`].
    pub(super) log: String,
}

impl Pointer {
    /// The pointer of a store's tables, if it is of this log, with its number in the stream.
    pub(super) async fn get(blobs: &Blobs, name: &str, log: &str) -> Result<Option<(u64, Self)>, Error> {
        let Some(entry) = blobs.stream().last(&subject(name)).await? else { return Ok(None) };
        let pointer = serde_json::from_slice::<Self>(&entry.payload).map_err(|error| {
            Error::Log(format!(
                "the pointer to the copy of {name} cannot be read: {error}; use a later release"
            ))
        })?;
        Ok(Some((entry.sequence, pointer)).filter(|(_, pointer)| pointer.log == log))
    }

    /// Writes it in the place of the one with this number, or of none: whether nobody was faster.
    pub(super) async fn put(&self, blobs: &Blobs, name: &str, before: Option<u64>) -> Result<bool, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", before.unwrap_or(0).to_string());
        let body = serde_json::to_vec(self).map_err(|error| Error::Log(error.to_string()))?;
        Ok(blobs.stream().publish(&subject(name), headers, body.into()).await? != Published::Refused)
    }
}

fn subject(name: &str) -> String {
    format!("rouse.copy.{name}")
}

impl Shared {
    /// Makes a copy and cuts the log. One that fails is made by whoever writes the next entry at which one is due.
    pub(super) async fn copy(self: Arc<Self>) {
        if let Err(error) = self.try_copy().await {
            tracing::warn!(store = self.name, %error, "the tables were not copied, and the log was not cut");
        }
    }

    async fn try_copy(&self) -> Result<(), Error> {
        let blobs = Blobs::open(&self.cluster).await?;
        let before = Pointer::get(&blobs, &self.name, &self.stream.id).await?;
        let path = self.folder.join("copy.db");
        remove(&path);
        let target = path.clone();
        let db = self.db();
        let applied = db.read(move |db| {
            db.execute("VACUUM INTO ?1", [target.to_string_lossy()])?;
            let copy = rusqlite::Connection::open(&target)?;
            Ok(copy.query_row("SELECT applied FROM replica", [], |row| row.get::<_, i64>(0))?.unsigned_abs())
        });
        let applied = applied.await?;
        let digest = blobs.put_file(&path).await;
        remove(&path);
        let digest = digest?;
        let pointer = Pointer { digest, applied, log: self.stream.id.clone() };
        if before.as_ref().is_some_and(|(_, before)| before.applied >= applied) {
            return Ok(());
        }
        if !pointer.put(&blobs, &self.name, before.as_ref().map(|(at, _)| *at)).await? {
            return Ok(());
        }
        if let Some((_, before)) = before {
            self.stream.purge(&json!({ "seq": before.applied + 1 })).await?;
            if before.digest != digest {
                blobs.delete(&before.digest).await?;
            }
        }
        tracing::info!(store = self.name, applied, "the tables were copied");
        Ok(())
    }

    /// Takes the newest copy, since the log begins after what these tables have come to.
    pub(super) async fn restore(&self, first: u64) -> Result<u64, Error> {
        let blobs = Blobs::open(&self.cluster).await?;
        let pointer = Pointer::get(&blobs, &self.name, &self.stream.id).await?.map(|(_, pointer)| pointer);
        let Some(pointer) = pointer.filter(|pointer| pointer.applied + 1 >= first) else {
            return Err(Error::Log(format!(
                "the log of {} begins at {first}, and there is no copy of what came before: restore a backup",
                self.name
            )));
        };
        let part: PathBuf = self.folder.join("fetched.part");
        blobs.get_file(&pointer.digest, &part).await?;
        let path = file(&self.folder, pointer.applied);
        std::fs::rename(&part, &path).map_err(Error::io("name the copy", &path))?;
        tracing::info!(store = self.name, applied = pointer.applied, "the tables begin from a copy");
        self.replace(&path).await
    }
}
