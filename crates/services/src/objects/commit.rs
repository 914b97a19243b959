//! The one place that changes what an object is: reads what is there, asks what shall be, and commits that with its
//! event in one transaction.

use rouse_store::records::{Expect, Write};

use super::{
    Caller, Error, EventKind, Inner, Object, ObjectEvent, Objects,
    files::FileId,
    record::{self, BUCKETS, Content, MANIFESTS, OBJECTS, Piece},
};

/// What shall become of an object.
pub(super) struct Change {
    pub(super) kind: EventKind,
    /// What it shall be; none deletes it.
    pub(super) object: Option<Object>,
    /// What else belongs to the transaction.
    pub(super) extra: Vec<Write>,
    /// Bytes that were counted for it already: of parts that it is made of, or that go with it.
    pub(super) counted: u64,
}

impl Objects {
    /// Changes an object as `decide` says when told what is there; if that is nothing, nothing is done. `files` are
    /// the new object's, removed if it comes to nothing. Goes on when the caller stops waiting.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        files: Vec<FileId>,
        decide: impl FnOnce(Option<&Object>) -> Result<Option<Change>, Error> + Send + 'static,
    ) -> Result<Option<Object>, Error> {
        let (objects, caller) = (self.clone(), caller.clone());
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let task = self.0.tasks.spawn(async move {
            // Files are removed when nothing is locked any more, for a bucket far away takes its time.
            let applied = match objects.count(&caller.tenant).await {
                Ok(()) => objects.0.apply(&caller, &bucket, &key, decide).await,
                Err(error) => Err(error),
            };
            match applied {
                Ok((object, old)) => {
                    objects.0.discard(old).await;
                    Ok(object)
                }
                // The store is closing: whether the transaction took place is unknown.
                Err(Error::Stopping) => Err(Error::Stopping),
                Err(error) => {
                    objects.0.discard(files).await;
                    Err(error)
                }
            }
        });
        task.await.unwrap_or(Err(Error::Stopping))
    }
}

impl Inner {
    /// Gives what the object is now, or was if it is deleted, and the files that nothing names or reads any more.
    async fn apply(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        decide: impl FnOnce(Option<&Object>) -> Result<Option<Change>, Error>,
    ) -> Result<(Option<Object>, Vec<FileId>), Error> {
        let _buckets = self.buckets.read().await;
        let name = record::object_key(&caller.tenant, bucket, key);
        let _key = self.keys.lock(&name).await;
        self.bucket(caller, bucket).await?;
        let found = self.records.get(OBJECTS, &name).await?;
        let current: Option<Object> = found.as_ref().map(record::read).transpose()?;
        let Some(Change { kind, object, extra, counted }) = decide(current.as_ref())? else {
            return Ok((None, Vec::new()));
        };
        let ticket = self.outbox.ticket()?;
        let Some(about) = object.as_ref().or(current.as_ref()) else {
            return Ok((None, Vec::new()));
        };
        let event = ObjectEvent {
            sequence: ticket.sequence,
            tenant: caller.tenant.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            kind,
            size: about.size,
            etag: about.etag.clone(),
            content_type: about.attributes.headers.content_type.clone(),
            version: about.version.to_string(),
            time: self.clock.now(),
            requester: caller.requester.clone(),
        };
        let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::At(found.revision));
        let mut writes = vec![record::write(OBJECTS, name, expect, object.as_ref())?, ticket.write(&event)?];
        writes.extend(extra);
        let mut old = match &current {
            Some(Object { content: Content::Parts { manifest, .. }, .. }) => {
                writes.push(record::delete(MANIFESTS, manifest.to_string(), Expect::Any));
                self.pieces(*manifest).await?.unwrap_or_default().into_iter().map(|(file, _)| file).collect()
            }
            Some(Object { content: Content::File(file), .. }) => vec![*file],
            None => Vec::new(),
        };
        let size = |object: Option<&Object>| object.map_or(0, |object| object.size);
        let before = size(current.as_ref()).saturating_add(counted);
        let taken = self.room.take(&caller.tenant, before, size(object.as_ref()))?;
        self.records.commit(writes).await?;
        taken.keep();
        drop(ticket);
        let content = current.as_ref().map(|current| current.content);
        if let Some(Content::Parts { manifest: pinned, .. } | Content::File(pinned)) = content
            && self.pins.later(pinned, &old)
        {
            old.clear();
        }
        Ok((object.or(current), old))
    }

    /// Removes files that nothing names.
    pub(super) async fn discard(&self, ids: Vec<FileId>) {
        if !ids.is_empty() {
            self.files.remove(ids).await;
        }
    }

    /// Fails unless the caller has this bucket.
    pub(super) async fn bucket(&self, caller: &Caller, bucket: &str) -> Result<record::BucketRecord, Error> {
        super::name::check_bucket(bucket)?;
        let found = self.records.get(BUCKETS, &record::bucket_key(&caller.tenant, bucket)).await?;
        record::read(&found.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?)
    }

    pub(super) async fn object(&self, caller: &Caller, bucket: &str, key: &str) -> Result<Object, Error> {
        super::name::check_key(key)?;
        self.bucket(caller, bucket).await?;
        let found = self.records.get(OBJECTS, &record::object_key(&caller.tenant, bucket, key)).await?;
        record::read(&found.ok_or_else(|| Error::NoSuchKey(key.to_owned()))?)
    }

    /// The files of a manifest, if it is there.
    pub(super) async fn pieces(&self, manifest: FileId) -> Result<Option<Vec<Piece>>, Error> {
        let found = self.records.get(MANIFESTS, &manifest.to_string()).await?;
        found.as_ref().map(record::read).transpose()
    }
}
