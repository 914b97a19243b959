//! Writing objects: put, copy, delete, tags.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rouse_store::records::Expect;
use rouse_types::Timestamp;

use super::{
    Attributes, Caller, Checksum, Error, EventKind, Expected, Object, Objects,
    commit::Change,
    digest::Digests,
    files::FileId,
    name,
    read::{Read, TRIES},
    record::{self, Content, MANIFESTS, OBJECTS, Piece},
};

/// The bytes of one put, or of one part (as S3).
pub(super) const BODY_BYTES_MAX: u64 = 5 << 30;
/// How long nothing may come of a body.
const BODY_IDLE_MAX: Duration = Duration::from_secs(60);

/// An object that is to be put.
#[derive(Debug, Clone, Default)]
pub struct Put {
    /// What is said about it.
    pub attributes: Attributes,
    /// What is announced about its bytes.
    pub expected: Expected,
    /// What must be there.
    pub condition: Condition,
}

/// A copy that is to be made.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The bucket of the source.
    pub from_bucket: String,
    /// Its key.
    pub from_key: String,
    /// What the source must be.
    pub from_condition: Condition,
    /// What is said about the copy, tags aside; none takes what is said about the source.
    pub attributes: Option<Attributes>,
    /// The copy's tags; none takes the source's.
    pub tags: Option<BTreeMap<String, String>>,
}

/// What an object must be for an operation to take place (RFC 9110 §13). Entity tags are without quotes; `*` is any.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// It has this entity tag.
    pub if_match: Option<String>,
    /// It does not have this entity tag.
    pub if_none_match: Option<String>,
    /// It was put later than this second.
    pub if_modified_since: Option<Timestamp>,
    /// It was not.
    pub if_unmodified_since: Option<Timestamp>,
}

fn matches(wanted: &str, object: &Object) -> bool {
    wanted == "*" || wanted == object.etag
}

impl Condition {
    /// What must hold for reading (RFC 9110 §13.2.2).
    pub(super) fn check_read(&self, object: &Object) -> Result<(), Error> {
        let newer = |since: Timestamp| object.modified.as_millis() / 1_000 > since.as_millis() / 1_000;
        match (&self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !matches(wanted, object) => {
                return Err(Error::PreconditionFailed("If-Match"));
            }
            (None, Some(since)) if newer(since) => {
                return Err(Error::PreconditionFailed("If-Unmodified-Since"));
            }
            _ => {}
        }
        let same = match (&self.if_none_match, self.if_modified_since) {
            (Some(wanted), _) => matches(wanted, object),
            (None, Some(since)) => !newer(since),
            (None, None) => false,
        };
        if same {
            return Err(Error::NotModified { etag: object.etag.clone(), modified: object.modified });
        }
        Ok(())
    }

    /// What must hold for writing: the times play no part.
    pub(super) fn check_write(&self, key: &str, current: Option<&Object>) -> Result<(), Error> {
        match (&self.if_match, current) {
            (Some(_), None) => return Err(Error::NoSuchKey(key.to_owned())),
            (Some(wanted), Some(object)) if !matches(wanted, object) => {
                return Err(Error::PreconditionFailed("If-Match"));
            }
            _ => {}
        }
        match (&self.if_none_match, current) {
            (Some(wanted), Some(object)) if matches(wanted, object) => {
                Err(Error::PreconditionFailed("If-None-Match"))
            }
            _ => Ok(()),
        }
    }

    fn is_for_writing(&self) -> bool {
        self.if_match.is_some() || self.if_none_match.is_some()
    }
}

/// A body that is on the disk.
pub(super) struct Received {
    pub(super) file: FileId,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) checksum: Option<Checksum>,
}

impl Objects {
    /// Puts an object. When this returns, it and its event are on the disk.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::PreconditionFailed`], [`Error::BadDigest`], [`Error::TooLarge`],
    /// [`Error::Full`], [`Error::OutboxFull`], or what the body says; the object is then what it was.
    pub async fn put(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        put: Put,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin,
    ) -> Result<Object, Error> {
        self.put_with(caller, bucket, key, put, body, |_| {}).await
    }

    /// The same; `late` adds what is announced behind the body.
    pub(super) async fn put_with(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        put: Put,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin,
        late: impl FnOnce(&mut Expected) + Send,
    ) -> Result<Object, Error> {
        let Put { attributes, expected, condition } = put;
        name::check_key(key)?;
        attributes.check()?;
        self.0.outbox.check()?;
        self.0.bucket(caller, bucket).await?;
        if condition.is_for_writing() {
            let current = match self.head(caller, bucket, key).await {
                Ok(object) => Some(object),
                Err(Error::NoSuchKey(_)) => None,
                Err(error) => return Err(error),
            };
            condition.check_write(key, current.as_ref())?;
        }
        let Received { file, size, etag, checksum } = self.receive(body, expected, late).await?;
        let (modified, version) = (self.0.clock.now(), FileId::new(&*self.0.clock));
        let content = Content::File(file);
        let object = Object { size, etag, checksum, version, modified, attributes, content };
        let named = key.to_owned();
        let decide = move |current: Option<&Object>| {
            condition.check_write(&named, current)?;
            Ok(Some(Change { kind: EventKind::Put, object: Some(object), extra: Vec::new(), counted: 0 }))
        };
        let put = self.change(caller, bucket, key, vec![file], decide).await?;
        put.ok_or_else(|| Error::NoSuchKey(key.to_owned()))
    }

    /// Writes a body to a file.
    pub(super) async fn receive(
        &self,
        mut body: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin,
        mut expected: Expected,
        late: impl FnOnce(&mut Expected) + Send,
    ) -> Result<Received, Error> {
        let announced = expected.bytes.unwrap_or_default();
        if announced > BODY_BYTES_MAX {
            return Err(Error::TooLarge { max: BODY_BYTES_MAX });
        }
        let mut file = self.0.files.begin(announced, &*self.0.clock).await?;
        let mut digests = Digests::new(expected.algorithm);
        loop {
            let next = tokio::time::timeout(BODY_IDLE_MAX, body.next()).await;
            let Some(bytes) = next.map_err(|_| Error::BodyTimeout(BODY_IDLE_MAX.as_secs()))? else { break };
            let bytes = bytes?;
            if file.bytes() + bytes.len() as u64 > expected.bytes.unwrap_or(BODY_BYTES_MAX) {
                return Err(match expected.bytes {
                    Some(_) => {
                        Error::IncompleteBody(format!("more than the {announced} bytes announced came"))
                    }
                    None => Error::TooLarge { max: BODY_BYTES_MAX },
                });
            }
            digests.update(&bytes);
            file.write(&bytes).await?;
        }
        let size = file.bytes();
        if expected.bytes.is_some_and(|bytes| bytes != size) {
            return Err(Error::IncompleteBody(format!("{size} of {announced} bytes came")));
        }
        late(&mut expected);
        let (etag, checksum) = digests.finish(&expected)?;
        let file = file.finish(&*self.0.clock).await?;
        Ok(Received { file, size, etag, checksum })
    }

    /// Copies an object of the caller's, without reading its bytes.
    ///
    /// # Errors
    /// As [`Self::put`] and [`Self::get`].
    pub async fn copy(&self, caller: &Caller, bucket: &str, key: &str, copy: Copy) -> Result<Object, Error> {
        let Copy { from_bucket, from_key, from_condition, attributes, tags } = copy;
        name::check_key(key)?;
        self.0.outbox.check()?;
        self.0.bucket(caller, bucket).await?;
        let (old, new) = self.link(caller, &from_bucket, &from_key, &from_condition).await?;
        let clock = &*self.0.clock;
        let (content, extra) = match old.content {
            Content::File(_) => (Content::File(new[0].0), Vec::new()),
            Content::Parts { count, .. } => {
                let manifest = FileId::new(clock);
                let write = record::write(MANIFESTS, manifest.to_string(), Expect::Absent, Some(&new))?;
                (Content::Parts { manifest, count }, vec![write])
            }
        };
        let old_tags = old.attributes.tags.clone();
        let mut attributes = attributes.unwrap_or(old.attributes);
        attributes.tags = tags.unwrap_or(old_tags);
        attributes.check()?;
        let (modified, version) = (self.0.clock.now(), FileId::new(clock));
        let object = Object {
            size: old.size,
            etag: old.etag,
            checksum: old.checksum,
            version,
            modified,
            attributes,
            content,
        };
        let files = new.iter().map(|(file, _)| *file).collect();
        let decide = |_: Option<&Object>| {
            Ok(Some(Change { kind: EventKind::Copy, object: Some(object), extra, counted: 0 }))
        };
        let put = self.change(caller, bucket, key, files, decide).await?;
        put.ok_or_else(|| Error::NoSuchKey(key.to_owned()))
    }

    /// Gives an object's files second names.
    async fn link(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        condition: &Condition,
    ) -> Result<(Object, Vec<Piece>), Error> {
        let mut missed = None;
        for _ in 0..TRIES {
            // Reading it, if only nothing of it, keeps the files of its parts; a single file may go meanwhile, and is
            // looked for again.
            let source = self.get(caller, bucket, key, condition, |_| Ok(0..0)).await;
            let Read { object, body, .. } = source.map_err(|error| match error {
                Error::NotModified { .. } => Error::PreconditionFailed("x-amz-copy-source-if-none-match"),
                other => other,
            })?;
            let pieces = match object.content {
                Content::File(file) => vec![(file, object.size)],
                Content::Parts { manifest, .. } => self.0.pieces(manifest).await?.unwrap_or_default(),
            };
            let links: Vec<(FileId, FileId)> =
                pieces.iter().map(|(old, _)| (*old, FileId::new(&*self.0.clock))).collect();
            let new = links.iter().zip(&pieces).map(|((_, new), (_, size))| (*new, *size)).collect();
            let linked = self.0.files.link(links.clone()).await;
            drop(body);
            match linked {
                Ok(()) => return Ok((object, new)),
                Err(error) => {
                    self.0.discard(links.into_iter().map(|(_, to)| to).collect()).await;
                    match error {
                        // It was replaced or deleted meanwhile.
                        Error::Missing(_) if missed != Some(object.version) => missed = Some(object.version),
                        error => return Err(error),
                    }
                }
            }
        }
        Err(Error::NoSuchKey(key.to_owned()))
    }

    /// Deletes an object; gives what it was. Deleting what does not exist is no error, and no event.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::PreconditionFailed`], [`Error::OutboxFull`].
    pub async fn delete(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        condition: Condition,
    ) -> Result<Option<Object>, Error> {
        name::check_key(key)?;
        let named = key.to_owned();
        let decide = move |current: Option<&Object>| {
            condition.check_write(&named, current)?;
            Ok(current.map(|_| Change {
                kind: EventKind::Delete,
                object: None,
                extra: Vec::new(),
                counted: 0,
            }))
        };
        self.change(caller, bucket, key, Vec::new(), decide).await
    }

    /// Replaces an object's tags. That is no event.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`], [`Error::InvalidTag`].
    pub async fn tag(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        name::check_key(key)?;
        let _buckets = self.0.buckets.read().await;
        let name = record::object_key(&caller.tenant, bucket, key);
        let _key = self.0.keys.lock(&name).await;
        self.0.bucket(caller, bucket).await?;
        let found = self.0.records.get(OBJECTS, &name).await?;
        let found = found.ok_or_else(|| Error::NoSuchKey(key.to_owned()))?;
        let mut object: Object = record::read(&found)?;
        object.attributes.tags = tags;
        object.attributes.check()?;
        let write = record::write(OBJECTS, name, Expect::At(found.revision), Some(&object))?;
        self.0.records.commit(vec![write]).await?;
        Ok(())
    }
}
