//! Files in a bucket of any S3.
//!
//! ```text
//!  up to 8 MiB   one PUT
//!  more          a multipart upload, noted in uploads/<id> ──(complete, forget the note)──▶ <prefix>/data/<xx>/<id>
//! ```
//!
//! The note is what lets a later process abort an upload that a killed one began: those cost space, and no listing of
//! files shows them.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    BackoffConfig, ObjectStore as _, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    multipart::{MultipartStore as _, PartId},
    path::Path as Key,
};
use rouse_types::{Clock, Timestamp};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{FileId, SWEEP_AGE, blocking, wire::Wire};
use crate::objects::{
    Error,
    place::{Credentials, S3Place},
};

/// The parts that a file is sent in. All but the last are of this size, as some stores demand.
const PART_BYTES: usize = 8 << 20;
/// Bytes that are read at once. A reader holds as many, however slow it is.
const CHUNK_BYTES: u64 = 1 << 20;
/// Memory for files that are being written, in MiB: each may need twice a part's, one that fills and one that is sent.
const BUFFERS_MIB: u32 = 512;
const WRITER_MIB: u32 = 2 * (PART_BYTES >> 20) as u32;
/// How long a write waits for memory.
const BUFFER_TIMEOUT: Duration = Duration::from_secs(10);
/// Files that are copied or removed at once, of one request.
const SIDE_BY_SIDE: usize = 16;
/// How long it may take to copy the files of one object: the sweep believes that an id of this age has a record.
const COPY_TIMEOUT: Duration = Duration::from_secs(1_800);
/// How often a request is tried again, and how long after its first failure. Longer than a blip, shorter than the
/// patience of a client.
const RETRIES_MAX: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

/// The bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::objects) struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: AmazonS3,
    prefix: String,
    /// Where the notes of uploads are.
    notes: PathBuf,
    buffers: Arc<Semaphore>,
    /// Uploads of this process.
    own: Mutex<HashSet<FileId>>,
    /// Files that were whole long after they were named, and when that was: by their id they look forgotten.
    slow: Mutex<HashMap<FileId, Timestamp>>,
    /// Uploads that are being aborted.
    tasks: TaskTracker,
}

/// A file that is being sent.
#[derive(Debug)]
pub(in crate::objects) struct Incoming {
    bucket: Bucket,
    id: FileId,
    filling: BytesMut,
    upload: Option<Upload>,
    bytes: u64,
    _memory: OwnedSemaphorePermit,
}

/// A multipart upload under way. Dropping it aborts it.
#[derive(Debug)]
struct Upload {
    bucket: Bucket,
    id: FileId,
    name: String,
    parts: Vec<PartId>,
    /// At most one part.
    sending: JoinSet<object_store::Result<PartId>>,
    done: bool,
}

/// A client of a bucket. Does not speak to it yet.
pub(in crate::objects) fn connect(place: &S3Place, credentials: &Credentials) -> Result<AmazonS3, Error> {
    let wire = Wire::new().map_err(|error| Error::Place(format!("TLS cannot be set up: {error}")))?;
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(&place.region)
        .with_access_key_id(&credentials.access_key_id)
        .with_secret_access_key(&credentials.secret_access_key)
        .with_retry(retry)
        // Not all stores have the request that deletes many.
        .with_disable_bulk_delete(true)
        .with_http_connector(wire);
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(token) = &credentials.session_token {
        builder = builder.with_token(token);
    }
    builder.build().map_err(|error| Error::Place(format!("{place}: {error}")))
}

impl Bucket {
    pub(super) fn open(dir: &Path, place: &S3Place, credentials: &Credentials) -> Result<Self, Error> {
        let notes = dir.join("uploads");
        fs::create_dir_all(&notes).map_err(Error::io("make the folder", &notes))?;
        let store = connect(place, credentials)?;
        Ok(Self(Arc::new(Inner {
            store,
            prefix: place.prefix.clone(),
            notes,
            buffers: Arc::new(Semaphore::new(BUFFERS_MIB as usize)),
            own: Mutex::default(),
            slow: Mutex::default(),
            tasks: TaskTracker::new(),
        })))
    }

    pub(super) async fn begin(&self, bytes: u64, clock: &dyn Clock) -> Result<Incoming, Error> {
        let need = match u32::try_from(bytes.div_ceil(1 << 20)) {
            Ok(0) | Err(_) => WRITER_MIB,
            Ok(mib) => mib.min(WRITER_MIB),
        };
        let memory = timeout(BUFFER_TIMEOUT, Arc::clone(&self.0.buffers).acquire_many_owned(need)).await;
        let memory = memory.map_err(|_| Error::Busy)?.map_err(|_| Error::Stopping)?;
        let id = FileId::new(clock);
        let filling = BytesMut::new();
        Ok(Incoming { bucket: self.clone(), id, filling, upload: None, bytes: 0, _memory: memory })
    }

    pub(super) async fn read(&self, id: FileId, range: Range<u64>) -> Result<Bytes, Error> {
        let range = range.start..range.end.min(range.start + CHUNK_BYTES);
        let found = self.0.store.get_range(&self.key(id), range.clone()).await;
        let bytes = found.map_err(gone_or_failed("read a file"))?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(Error::Missing(format!("{id} from byte {} on", range.start + bytes.len() as u64)));
        }
        Ok(bytes)
    }

    pub(super) async fn copy(&self, files: Vec<(FileId, FileId)>) -> Result<(), Error> {
        let copies = futures_util::stream::iter(files).map(|(from, to)| async move {
            self.0.store.copy(&self.key(from), &self.key(to)).await.map_err(gone_or_failed("copy a file"))
        });
        let copied = timeout(COPY_TIMEOUT, copies.buffer_unordered(SIDE_BY_SIDE).try_collect::<()>()).await;
        copied.unwrap_or_else(|late| Err(Error::Away { action: "copy files", source: Box::new(late) }))
    }

    pub(super) async fn remove(&self, ids: Vec<FileId>) {
        let removals = futures_util::stream::iter(ids).map(|id| async move {
            match self.0.store.delete(&self.key(id)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%error, %id, "a file could not be removed: the sweep will"),
            }
        });
        removals.buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
    }

    pub(super) async fn list(&self, number: u8, until: Timestamp) -> Result<Vec<FileId>, Error> {
        let slow = {
            let mut slow = self.0.slow.lock().unwrap_or_else(PoisonError::into_inner);
            slow.retain(|_, whole| *whole >= until);
            slow.clone()
        };
        let folder = Key::from(format!("{}data/{number:02x}", self.0.prefix));
        let listed = self.0.store.list(Some(&folder)).try_filter_map(|found| {
            let id = found.location.filename().and_then(|name| name.parse::<FileId>().ok());
            std::future::ready(Ok(id.filter(|id| id.made() < until && !slow.contains_key(id))))
        });
        listed.try_collect().await.map_err(failed("list files"))
    }

    pub(super) async fn abort_unfinished(&self) -> Result<(), Error> {
        let folder = self.0.notes.clone();
        let noted = blocking(move || {
            let mut noted = Vec::new();
            for entry in fs::read_dir(&folder).map_err(Error::io("list the folder", &folder))? {
                let path = entry.map_err(Error::io("list the folder", &folder))?.path();
                let id = path.file_name().and_then(|name| name.to_str()?.parse::<FileId>().ok());
                let Some(id) = id else { continue };
                match fs::read_to_string(&path) {
                    Ok(name) => noted.push((id, name)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::io("read the note", &path)(error)),
                }
            }
            Ok(noted)
        })
        .await?;
        for (id, name) in noted {
            if self.own().contains(&id) {
                continue;
            }
            if let Err(error) = self.abort(id, &name).await {
                // It may be for good: that is no reason to sweep nothing.
                warn_unaborted(id, &error);
                break;
            }
        }
        Ok(())
    }

    /// Aborts an upload and forgets its note. One that is over is no error.
    async fn abort(&self, id: FileId, name: &str) -> Result<(), Error> {
        match self.0.store.abort_multipart(&self.key(id), &name.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed("abort an upload")(error)),
        }
        self.forget(id).await
    }

    async fn forget(&self, id: FileId) -> Result<(), Error> {
        let note = self.note(id);
        blocking(move || match fs::remove_file(&note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove the note", &note)(error))
            }
            _ => Ok(()),
        })
        .await
    }

    /// Reads a text beside the files, of some hundred bytes; nothing if it is not there.
    pub(in crate::objects) async fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.0.store.get(&self.beside(name)).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(failed("read"))?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read")(error)),
        }
    }

    pub(in crate::objects) async fn set_text(&self, name: &str, text: &str) -> Result<(), Error> {
        let put = self.0.store.put(&self.beside(name), text.to_owned().into()).await;
        put.map(drop).map_err(failed("write"))
    }

    pub(in crate::objects) async fn remove_text(&self, name: &str) -> Result<(), Error> {
        self.0.store.delete(&self.beside(name)).await.map_err(failed("delete"))
    }

    /// Whether there is a text of this name, by listing.
    pub(in crate::objects) async fn lists(&self, name: &str) -> Result<bool, Error> {
        let folder = self.0.prefix.trim_end_matches('/');
        let folder = (!folder.is_empty()).then(|| Key::from(folder));
        let listed = self.0.store.list_with_delimiter(folder.as_ref()).await.map_err(failed("list"))?;
        let key = self.beside(name);
        Ok(listed.objects.iter().any(|found| found.location == key))
    }

    fn key(&self, id: FileId) -> Key {
        Key::from(format!("{}data/{:02x}/{id}", self.0.prefix, id.folder()))
    }

    fn beside(&self, name: &str) -> Key {
        Key::from(format!("{}{name}", self.0.prefix))
    }

    fn note(&self, id: FileId) -> PathBuf {
        self.0.notes.join(id.to_string())
    }

    fn own(&self) -> std::sync::MutexGuard<'_, HashSet<FileId>> {
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incoming {
    pub(super) async fn write(&mut self, bytes: &Bytes) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        let mut left = &bytes[..];
        while !left.is_empty() {
            // What is full is sent only when more comes, so that the last part is never empty.
            if self.filling.len() == PART_BYTES {
                let part = self.filling.split().freeze();
                let upload = match &mut self.upload {
                    Some(upload) => upload,
                    None => self.upload.insert(Upload::begin(&self.bucket, self.id).await?),
                };
                upload.send(part).await?;
            }
            let (now, later) = left.split_at(left.len().min(PART_BYTES - self.filling.len()));
            self.filling.extend_from_slice(now);
            left = later;
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) async fn finish(self, clock: &dyn Clock) -> Result<FileId, Error> {
        let Self { bucket, id, filling, upload, .. } = self;
        let now = clock.now();
        if now.since(id.made()) > SWEEP_AGE / 4 {
            bucket.0.slow.lock().unwrap_or_else(PoisonError::into_inner).insert(id, now);
        }
        let last = filling.freeze();
        match upload {
            None => {
                let put = bucket.0.store.put(&bucket.key(id), last.into()).await;
                put.map_err(failed("write a file"))?;
            }
            Some(mut upload) => {
                upload.send(last).await?;
                upload.complete().await?;
            }
        }
        Ok(id)
    }
}

impl Upload {
    async fn begin(bucket: &Bucket, id: FileId) -> Result<Self, Error> {
        let name = bucket.0.store.create_multipart(&bucket.key(id)).await;
        let name = name.map_err(failed("begin to write a file"))?;
        bucket.own().insert(id);
        let (parts, sending) = (Vec::new(), JoinSet::new());
        let upload = Self { bucket: bucket.clone(), id, name, parts, sending, done: false };
        let (note, name) = (bucket.note(id), upload.name.clone());
        blocking(move || fs::write(&note, name).map_err(Error::io("write the note", &note))).await?;
        Ok(upload)
    }

    /// Sends a part, once that before it has arrived.
    async fn send(&mut self, part: Bytes) -> Result<(), Error> {
        self.arrived().await?;
        let (bucket, name, number) = (self.bucket.clone(), self.name.clone(), self.parts.len());
        let key = bucket.key(self.id);
        self.sending.spawn(async move { bucket.0.store.put_part(&key, &name, number, part.into()).await });
        Ok(())
    }

    async fn arrived(&mut self) -> Result<(), Error> {
        if let Some(sent) = self.sending.join_next().await {
            self.parts.push(sent.map_err(|_| Error::Stopping)?.map_err(failed("write a file"))?);
        }
        Ok(())
    }

    async fn complete(mut self) -> Result<(), Error> {
        self.arrived().await?;
        let (key, parts) = (self.bucket.key(self.id), std::mem::take(&mut self.parts));
        let completed = self.bucket.0.store.complete_multipart(&key, &self.name, parts).await;
        completed.map_err(failed("write a file"))?;
        self.done = true;
        // A note that stays is of an upload that is over: the sweep finds that out.
        let _ = self.bucket.forget(self.id).await;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.bucket.own().remove(&self.id);
        // Without a runtime the process is ending, and the note tells its successor.
        if let (false, Ok(_)) = (self.done, Handle::try_current()) {
            let (bucket, id, name) = (self.bucket.clone(), self.id, std::mem::take(&mut self.name));
            let mut sending = std::mem::take(&mut self.sending);
            self.bucket.0.tasks.spawn(async move {
                // A part that arrives after the abortion would stay.
                sending.shutdown().await;
                if let Err(error) = bucket.abort(id, &name).await {
                    warn_unaborted(id, &error);
                }
            });
        }
    }
}

fn warn_unaborted(id: FileId, error: &Error) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, %id, "an upload could not be aborted: the next sweep will");
}

/// For `map_err`.
fn failed(action: &'static str) -> impl Fn(object_store::Error) -> Error {
    move |error| Error::Away { action, source: Box::new(error) }
}

/// For `map_err` of what needs a file: keeps one that is not there apart from a store that does not answer as it should.
fn gone_or_failed(action: &'static str) -> impl Fn(object_store::Error) -> Error {
    move |error| match error {
        object_store::Error::NotFound { path, .. } => Error::Missing(path),
        other => failed(action)(other),
    }
}
