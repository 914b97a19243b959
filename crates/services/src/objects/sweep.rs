//! The sweep: aborts uploads that nobody goes on with, and removes what crashes left behind.

use std::{collections::HashSet, time::Duration};

use rouse_store::records::{Expect, PAGE_MAX};
use rouse_types::Timestamp;

use super::{
    Error, Objects,
    files::{FOLDERS, FileId, SWEEP_AGE},
    name,
    record::{self, Content, MANIFESTS, OBJECTS, Object, PARTS, PartRecord, Piece, UPLOADS, UploadRecord},
};

/// How often it is swept.
const EVERY: Duration = Duration::from_secs(24 * 3_600);
/// Files that are looked at in one pass over the records: bounds memory to some 50 MB.
const FILES_AT_ONCE: usize = 1_000_000;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Uploads that were aborted for their age.
    pub uploads: usize,
    /// Parts of uploads that are no more.
    pub parts: usize,
    /// Files that nothing names.
    pub files: usize,
}

impl Objects {
    /// Sweeps now and then every day, until dropped.
    pub async fn maintain(&self) {
        loop {
            match self.sweep().await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(Swept { uploads, parts, files }) => {
                    tracing::info!(uploads, parts, files, "what was left over of objects was removed");
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "what is left over of objects could not be removed: tried again in a day"
                    );
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Sweeps once. May run beside everything else.
    ///
    /// # Errors
    /// What the store or the disk says; what was removed before stays so.
    pub async fn sweep(&self) -> Result<Swept, Error> {
        let now = self.0.clock.now();
        let uploads = self.abort_old(now).await?;
        let parts = self.forget_stranded_parts().await?;
        let until = Timestamp(now.0.saturating_sub(u64::try_from(SWEEP_AGE.as_micros()).unwrap_or(u64::MAX)));
        self.0.files.abort_unfinished().await?;
        let mut files = 0;
        let (mut candidates, mut number) = (HashSet::new(), 0);
        while number < FOLDERS {
            let folder = u8::try_from(number).unwrap_or(u8::MAX);
            candidates.extend(self.0.files.list(folder, until).await?);
            number += 1;
            if candidates.len() >= FILES_AT_ONCE || number == FOLDERS {
                self.drop_named(&mut candidates).await?;
                for kept in self.0.pins.kept() {
                    candidates.remove(&kept);
                }
                files += candidates.len();
                self.0.discard(candidates.drain().collect()).await;
            }
        }
        Ok(Swept { uploads, parts, files })
    }

    async fn abort_old(&self, now: Timestamp) -> Result<usize, Error> {
        let (mut after, mut aborted) = (None, 0);
        loop {
            let page = self.0.records.scan(UPLOADS, "", after.as_deref(), PAGE_MAX).await?;
            after = page.next;
            for found in page.records {
                let UploadRecord { begun, .. } = record::read(&found)?;
                let id = found.key.rsplit(name::BREAK).next().and_then(|id| id.parse::<FileId>().ok());
                let Some(id) = id.filter(|_| now.since(begun) > self.0.config.upload_age_max) else {
                    continue;
                };
                let _upload = self.0.uploads.lock(&id.to_string()).await;
                match self.abort(id, found).await {
                    Ok(()) => aborted += 1,
                    // It was completed or aborted meanwhile.
                    Err(Error::Store(rouse_store::Error::Conflict { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            if after.is_none() {
                return Ok(aborted);
            }
        }
    }

    /// Forgets parts whose upload is no more: of a completion or an abortion that a crash cut off.
    async fn forget_stranded_parts(&self) -> Result<usize, Error> {
        // Uploads that begin later than this are none of those that parts below could lack.
        let begun = self.0.clock.now();
        let (mut living, mut after) = (HashSet::new(), None);
        loop {
            let page = self.0.records.scan(UPLOADS, "", after.as_deref(), PAGE_MAX).await?;
            living.extend(page.records.iter().filter_map(|found| {
                found.key.rsplit(name::BREAK).next().and_then(|id| id.parse::<FileId>().ok())
            }));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let (mut after, mut forgotten) = (None, 0);
        loop {
            let page = self.0.records.scan(PARTS, "", after.as_deref(), PAGE_MAX).await?;
            let stranded = |key: &str| {
                let id = key.split('/').next().and_then(|id| id.parse::<FileId>().ok());
                id.is_some_and(|id| !living.contains(&id) && begun.since(id.made()) > SWEEP_AGE)
            };
            let keys: Vec<&str> =
                page.records.iter().map(|found| &*found.key).filter(|key| stranded(key)).collect();
            if !keys.is_empty() {
                // Their files are removed by the pass over files, unless an object names them.
                let writes = keys.iter().map(|key| record::delete(PARTS, *key, Expect::Any)).collect();
                self.0.records.commit(writes).await?;
                forgotten += keys.len();
            }
            after = page.next;
            if after.is_none() {
                return Ok(forgotten);
            }
        }
    }

    /// Takes out what records name. Parts come before manifests, for a completed upload's files go from the one to the
    /// other.
    async fn drop_named(&self, files: &mut HashSet<FileId>) -> Result<(), Error> {
        for namespace in [PARTS, MANIFESTS, OBJECTS] {
            let mut after = None;
            loop {
                if files.is_empty() {
                    return Ok(());
                }
                let page = self.0.records.scan(namespace, "", after.as_deref(), PAGE_MAX).await?;
                for found in &page.records {
                    match namespace {
                        PARTS => {
                            files.remove(&record::read::<PartRecord>(found)?.file);
                        }
                        MANIFESTS => {
                            for (file, _) in record::read::<Vec<Piece>>(found)? {
                                files.remove(&file);
                            }
                        }
                        _ => {
                            if let Content::File(file) = record::read::<Object>(found)?.content {
                                files.remove(&file);
                            }
                        }
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}
