//! Multipart uploads: parts are files of their own, and the object that they become names them in a manifest, so
//! that completing it moves no bytes.

use bytes::Bytes;
use futures_util::Stream;
use rouse_store::records::{Expect, PAGE_MAX, Record};
use rouse_types::{TenantId, Timestamp};

use super::{
    Algorithm, Attributes, Caller, Checksum, ChecksumKind, Condition, Error, EventKind, Expected, Object,
    Objects,
    commit::Change,
    digest::{combined, combined_etag},
    files::FileId,
    name,
    record::{self, Content, MANIFESTS, PARTS, PartRecord, Piece, UPLOADS, UploadRecord},
    write::Received,
};

/// The parts of one upload (as S3).
pub(super) const PARTS_MAX: u32 = 10_000;
/// What every part but the last has at least, in bytes (as S3).
const PART_BYTES_MIN: u64 = 5 << 20;

/// A multipart upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: String,
    /// The key of the object that it will be.
    pub key: String,
    /// When it was begun.
    pub begun: Timestamp,
    /// The checksum that it will have.
    pub checksum: Option<(Algorithm, ChecksumKind)>,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Its size in bytes.
    pub size: u64,
    /// The MD5 of its bytes in hexadecimal.
    pub etag: String,
    /// The checksum that its client asked for.
    pub checksum: Option<Checksum>,
    /// When it was uploaded.
    pub modified: Timestamp,
}

/// A part as the client that completes an upload knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPart {
    /// Its number.
    pub number: u32,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its checksum in base64.
    pub checksum: Option<String>,
}

/// What shall become of an upload.
#[derive(Debug, Clone, Default)]
pub struct Completion {
    /// The parts, in ascending order.
    pub parts: Vec<CompletedPart>,
    /// What must be under the key.
    pub condition: Condition,
    /// What the whole's checksum must be, in base64.
    pub checksum: Option<String>,
}

/// Which uploads to list.
#[derive(Debug, Clone, Default)]
pub struct UploadQuery {
    /// What their keys begin with.
    pub prefix: String,
    /// Only those of later keys, or of this key with a later id.
    pub after: Option<(String, Option<String>)>,
    /// How many at most.
    pub limit: usize,
}

/// Uploads of a bucket, by key and id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uploads {
    /// They.
    pub uploads: Vec<Upload>,
    /// Whether there are more.
    pub more: bool,
}

impl Objects {
    /// Begins an upload.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], and what is wrong with the attributes.
    pub async fn begin_upload(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        attributes: Attributes,
        checksum: Option<(Algorithm, ChecksumKind)>,
    ) -> Result<Upload, Error> {
        name::check_key(key)?;
        attributes.check()?;
        if let Some((algorithm, ChecksumKind::Full)) = checksum
            && !algorithm.combines()
        {
            let text =
                format!("{algorithm} cannot be a FULL_OBJECT checksum of a multipart upload: use COMPOSITE");
            return Err(Error::Invalid(text));
        }
        let _buckets = self.0.buckets.read().await;
        self.0.bucket(caller, bucket).await?;
        let id = FileId::new(&*self.0.clock);
        let begun = self.0.clock.now();
        let value = UploadRecord { key: key.to_owned(), begun, attributes, checksum };
        let name = record::upload_key(&caller.tenant, bucket, key, id);
        self.0.records.commit(vec![record::write(UPLOADS, name, Expect::Absent, Some(&value))?]).await?;
        Ok(Upload { id: id.to_string(), key: key.to_owned(), begun, checksum })
    }

    /// Uploads a part, in place of an earlier one of its number.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], and as [`Self::put`].
    pub async fn put_part(
        &self,
        caller: &Caller,
        (bucket, key, upload): (&str, &str, &str),
        number: u32,
        expected: Expected,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin,
    ) -> Result<Part, Error> {
        self.put_part_with(caller, (bucket, key, upload), number, expected, body, |_| {}).await
    }

    pub(super) async fn put_part_with(
        &self,
        caller: &Caller,
        (bucket, key, upload): (&str, &str, &str),
        number: u32,
        mut expected: Expected,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin,
        late: impl FnOnce(&mut Expected) + Send,
    ) -> Result<Part, Error> {
        if !(1..=PARTS_MAX).contains(&number) {
            return Err(Error::Invalid(format!("a part's number is 1 to {PARTS_MAX}, not {number}")));
        }
        let (id, found) = self.upload(caller, (bucket, key, upload)).await?;
        let found: UploadRecord = record::read(&found)?;
        expected.algorithm = expected.algorithm.or(found.checksum.map(|(algorithm, _)| algorithm));
        let Received { file, size, etag, checksum } = self.receive(body, expected, late).await?;
        let modified = self.0.clock.now();
        let value = PartRecord { file, size, etag: etag.clone(), checksum: checksum.clone(), modified };
        let part = Part { number, size, etag, checksum, modified };
        let (objects, caller) = (self.clone(), caller.clone());
        let names = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        let task = self.0.tasks.spawn(async move {
            let names = (&*names.0, &*names.1, &*names.2);
            let result = objects.commit_part(&caller, names, id, number, &value).await;
            if result.is_err() && !matches!(result, Err(Error::Stopping)) {
                objects.0.discard(vec![file]).await;
            }
            result
        });
        task.await.unwrap_or(Err(Error::Stopping)).map(|()| part)
    }

    async fn commit_part(
        &self,
        caller: &Caller,
        names: (&str, &str, &str),
        id: FileId,
        number: u32,
        value: &PartRecord,
    ) -> Result<(), Error> {
        let _upload = self.0.uploads.lock(names.2).await;
        self.upload(caller, names).await?;
        self.count(&caller.tenant).await?;
        let buckets = self.0.buckets.read().await;
        let name = record::part_key(id, number);
        let old = self.0.records.get(PARTS, &name).await?;
        let old: Option<PartRecord> = old.as_ref().map(record::read).transpose()?;
        let before = old.as_ref().map_or(0, |old| old.size);
        let taken = self.0.room.take(&caller.tenant, before, value.size)?;
        self.0.records.commit(vec![record::write(PARTS, name, Expect::Any, Some(value))?]).await?;
        taken.keep();
        drop(buckets);
        if let Some(old) = old {
            self.0.discard(vec![old.file]).await;
        }
        Ok(())
    }

    /// Makes the object of these parts. The others are removed.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], [`Error::InvalidPart`], [`Error::InvalidPartOrder`], [`Error::PartTooSmall`],
    /// [`Error::PreconditionFailed`], [`Error::BadDigest`], [`Error::OutboxFull`]; the upload then goes on.
    pub async fn complete_upload(
        &self,
        caller: &Caller,
        (bucket, key, upload): (&str, &str, &str),
        completion: Completion,
    ) -> Result<Object, Error> {
        let (objects, caller) = (self.clone(), caller.clone());
        let names = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        // The upload stays locked until it is over, even if the caller goes: else a part could be replaced meanwhile.
        let task = self.0.tasks.spawn(async move {
            objects.complete(&caller, (&names.0, &names.1, &names.2), completion).await
        });
        task.await.unwrap_or(Err(Error::Stopping))
    }

    async fn complete(
        &self,
        caller: &Caller,
        (bucket, key, upload): (&str, &str, &str),
        completion: Completion,
    ) -> Result<Object, Error> {
        let _upload = self.0.uploads.lock(upload).await;
        let (id, found) = self.upload(caller, (bucket, key, upload)).await?;
        let Completion { parts, condition, checksum } = completion;
        let begun: UploadRecord = record::read(&found)?;
        let uploaded = self.parts(id).await?;
        let chosen = choose(&parts, &uploaded)?;
        let sums = || chosen.iter().map(|part| (part.checksum.as_ref(), part.size));
        let whole = match begun.checksum {
            // A part without the checksum that was agreed on is another than the client thinks.
            Some((algorithm, kind)) => {
                Some(combined(algorithm, kind, sums()).ok_or(Error::InvalidPart(parts[0].number))?)
            }
            None => None,
        };
        if let (Some(announced), Some(whole)) = (&checksum, &whole)
            && announced.split('-').next() != whole.value.split('-').next()
        {
            let what = format!("the {} checksum", whole.algorithm);
            return Err(Error::BadDigest { what, expected: announced.clone(), found: whole.value.clone() });
        }
        let pieces: Vec<Piece> = chosen.iter().map(|part| (part.file, part.size)).collect();
        let clock = &*self.0.clock;
        let manifest = FileId::new(clock);
        let object = Object {
            size: pieces.iter().map(|(_, size)| size).sum(),
            etag: combined_etag(chosen.iter().map(|part| &*part.etag)),
            checksum: whole,
            version: FileId::new(clock),
            modified: self.0.clock.now(),
            attributes: begun.attributes,
            content: Content::Parts { manifest, count: u32::try_from(pieces.len()).unwrap_or(PARTS_MAX) },
        };
        let extra = vec![
            record::write(MANIFESTS, manifest.to_string(), Expect::Absent, Some(&pieces))?,
            record::delete(UPLOADS, found.key, Expect::At(found.revision)),
        ];
        // All parts go: into the object, or for good.
        let counted = uploaded.iter().map(|(_, part)| part.size).sum();
        let named = key.to_owned();
        let decide = move |current: Option<&Object>| {
            condition.check_write(&named, current)?;
            Ok(Some(Change {
                kind: EventKind::CompleteMultipartUpload,
                object: Some(object),
                extra,
                counted,
            }))
        };
        // The parts' files stay what they are if it comes to nothing.
        let put = self.change(caller, bucket, key, Vec::new(), decide).await?;
        let used: std::collections::BTreeSet<FileId> = pieces.iter().map(|(file, _)| *file).collect();
        self.forget_parts(id, &uploaded, |file| !used.contains(&file)).await?;
        put.ok_or_else(|| Error::NoSuchKey(key.to_owned()))
    }

    /// Aborts an upload and removes its parts.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn abort_upload(
        &self,
        caller: &Caller,
        (bucket, key, upload): (&str, &str, &str),
    ) -> Result<(), Error> {
        let _upload = self.0.uploads.lock(upload).await;
        let (id, found) = self.upload(caller, (bucket, key, upload)).await?;
        self.abort(id, found).await
    }

    /// Removes an upload's record, then its parts: what a crash leaves of them is removed by the sweep.
    pub(super) async fn abort(&self, id: FileId, found: Record) -> Result<(), Error> {
        let tenant: Option<TenantId> = found.key.split('/').next().and_then(|tenant| tenant.parse().ok());
        let delete = record::delete(UPLOADS, found.key, Expect::At(found.revision));
        let buckets = self.0.buckets.read().await;
        let parts = self.parts(id).await?;
        let counted = parts.iter().map(|(_, part)| part.size).sum();
        let freed = tenant.as_ref().map(|tenant| self.0.room.take(tenant, counted, 0)).transpose()?;
        self.0.records.commit(vec![delete]).await?;
        if let Some(freed) = freed {
            freed.keep();
        }
        drop(buckets);
        self.forget_parts(id, &parts, |_| true).await
    }

    async fn forget_parts(
        &self,
        id: FileId,
        parts: &[(u32, PartRecord)],
        unused: impl Fn(FileId) -> bool,
    ) -> Result<(), Error> {
        for some in parts.chunks(PAGE_MAX) {
            let delete =
                |(number, _): &(u32, _)| record::delete(PARTS, record::part_key(id, *number), Expect::Any);
            self.0.records.commit(some.iter().map(delete).collect()).await?;
        }
        let files = parts.iter().map(|(_, part)| part.file).filter(|file| unused(*file)).collect();
        self.0.discard(files).await;
        Ok(())
    }

    /// An upload with its parts, by number.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn list_parts(
        &self,
        caller: &Caller,
        (bucket, key, upload): (&str, &str, &str),
    ) -> Result<(Upload, Vec<Part>), Error> {
        let (id, found) = self.upload(caller, (bucket, key, upload)).await?;
        let UploadRecord { key, begun, checksum, .. } = record::read(&found)?;
        let part = |(number, part): (u32, PartRecord)| {
            let PartRecord { size, etag, checksum, modified, .. } = part;
            Part { number, size, etag, checksum, modified }
        };
        let parts = self.parts(id).await?.into_iter().map(part).collect();
        Ok((Upload { id: upload.to_owned(), key, begun, checksum }, parts))
    }

    /// Uploads under way in a bucket.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn list_uploads(
        &self,
        caller: &Caller,
        bucket: &str,
        query: &UploadQuery,
    ) -> Result<Uploads, Error> {
        self.0.bucket(caller, bucket).await?;
        let base = record::object_key(&caller.tenant, bucket, "");
        let prefix = format!("{base}{}", name::encode(&query.prefix));
        let after = query.after.as_ref().map(|(key, id)| {
            let beyond = name::BEYOND.to_string();
            let id = id.as_ref().unwrap_or(&beyond);
            format!("{base}{}{}{id}", name::encode(key), name::BREAK)
        });
        let page = self.0.records.scan(UPLOADS, &prefix, after.as_deref(), query.limit.max(1)).await?;
        let mut uploads = Vec::new();
        for found in page.records.iter().take(query.limit) {
            let UploadRecord { key, begun, checksum, .. } = record::read(found)?;
            let id = found.key.rsplit(name::BREAK).next().unwrap_or_default().to_owned();
            uploads.push(Upload { id, key, begun, checksum });
        }
        Ok(Uploads { uploads, more: page.next.is_some() && query.limit > 0 })
    }

    async fn upload(
        &self,
        caller: &Caller,
        (bucket, key, upload): (&str, &str, &str),
    ) -> Result<(FileId, Record), Error> {
        name::check_key(key)?;
        self.0.bucket(caller, bucket).await?;
        let none = || Error::NoSuchUpload(key.to_owned());
        let id: FileId = upload.parse().map_err(|_| none())?;
        let found = self.0.records.get(UPLOADS, &record::upload_key(&caller.tenant, bucket, key, id)).await?;
        Ok((id, found.ok_or_else(none)?))
    }

    pub(super) async fn parts(&self, id: FileId) -> Result<Vec<(u32, PartRecord)>, Error> {
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let page = self.0.records.scan(PARTS, &format!("{id}/"), after.as_deref(), PAGE_MAX).await?;
            for found in &page.records {
                let number = found.key.rsplit('/').next().and_then(|number| number.parse().ok());
                parts.push((number.unwrap_or_default(), record::read(found)?));
            }
            after = page.next;
            if after.is_none() {
                return Ok(parts);
            }
        }
    }
}

/// The uploaded parts that the client names, if they are what it thinks they are.
fn choose<'a>(
    named: &[CompletedPart],
    uploaded: &'a [(u32, PartRecord)],
) -> Result<Vec<&'a PartRecord>, Error> {
    if named.is_empty() {
        return Err(Error::Invalid("an upload is completed with at least one part".to_owned()));
    }
    if !named.windows(2).all(|pair| pair[0].number < pair[1].number) {
        return Err(Error::InvalidPartOrder);
    }
    let mut chosen = Vec::with_capacity(named.len());
    for (index, CompletedPart { number, etag, checksum }) in named.iter().enumerate() {
        let found = uploaded.binary_search_by_key(number, |(number, _)| *number);
        let part = found.ok().map(|found| &uploaded[found].1).filter(|part| {
            let same = |wanted: &String| part.checksum.as_ref().is_none_or(|found| found.value == *wanted);
            part.etag == *etag && checksum.as_ref().is_none_or(same)
        });
        let part = part.ok_or(Error::InvalidPart(*number))?;
        if index + 1 < named.len() && part.size < PART_BYTES_MIN {
            return Err(Error::PartTooSmall { number: *number, size: part.size, min: PART_BYTES_MIN });
        }
        chosen.push(part);
    }
    Ok(chosen)
}
