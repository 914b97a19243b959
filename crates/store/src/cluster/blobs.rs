//! Blobs of a cluster, by digest: kept in pieces in a stream, fetched once per node into its folder of blobs.
//!
//! A blob is there once its last message is: it says how many pieces there are. Whoever reads checks the digest.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    sync::Arc,
};

use async_nats::HeaderMap;
use rouse_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::{
    Cluster,
    stream::{Published, Spec, Stream},
};
use crate::{Blobs as Local, Error};

/// A piece: well below what servers take in one message unless told otherwise (1 MiB).
const PIECE_BYTES: usize = 512 << 10;
/// The largest blob: that of an image's layer, with room.
const PIECES_MAX: u64 = 16 << 10;

/// The blobs of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    stream: Stream,
    /// One blob is fetched at a time, so that none is fetched twice.
    fetching: Arc<Mutex<()>>,
}

/// A blob's last message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    bytes: u64,
    pieces: u64,
}

fn piece(digest: &Digest, number: u64) -> String {
    format!("rouse.blob.{}.{number}", digest.hex())
}

fn whole(digest: &Digest) -> String {
    format!("rouse.blob.{}.whole", digest.hex())
}

impl Blobs {
    /// The blobs of a cluster; a first caller makes their stream.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Engine`].
    pub async fn open(cluster: &Cluster) -> Result<Self, Error> {
        let spec = Spec {
            name: "ROUSE_BLOBS".to_owned(),
            subjects: vec!["rouse.blob.>".to_owned(), "rouse.copy.>".to_owned()],
            bytes_max: None,
            last_only: true,
            may_expire: false,
        };
        Ok(Self { stream: Stream::open(cluster, &spec).await?, fetching: Arc::default() })
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Gives the cluster a blob of this node. When this returns, it is on a quorum.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the node does not have it, [`Error::Full`], [`Error::Away`], [`Error::Unknown`].
    pub async fn share(&self, local: &Local, digest: &Digest) -> Result<(), Error> {
        let path =
            local.path(digest).ok_or_else(|| Error::Invalid(format!("there is no blob {digest} here")))?;
        let expected = *digest;
        match self.put_file(&path).await? {
            found if found == expected => Ok(()),
            found => Err(Error::Digest { expected, found }),
        }
    }

    /// Has a blob on this node: from its folder, else from the cluster. Tells whether there is one.
    ///
    /// # Errors
    /// [`Error::Digest`] if what came is not what was asked for, [`Error::Full`], [`Error::Away`].
    pub async fn fetch(&self, local: &Local, digest: &Digest) -> Result<bool, Error> {
        let _one = self.fetching.lock().await;
        if local.path(digest).is_some() {
            return Ok(true);
        }
        let Some(found) = self.whole(digest).await? else { return Ok(false) };
        let mut upload = local.begin(found.bytes)?;
        for number in 0..found.pieces {
            upload.write(&self.piece(digest, number).await?)?;
        }
        upload.finish(Some(*digest)).map(|_| true)
    }

    /// Whether the cluster has a blob.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.whole(digest).await?.is_some())
    }

    /// Deletes a blob of the cluster; nodes keep what they have. Tells whether it was there.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn delete(&self, digest: &Digest) -> Result<bool, Error> {
        let there = self.has(digest).await?;
        self.stream.purge(&json!({ "filter": whole(digest) })).await?;
        self.stream.purge(&json!({ "filter": format!("rouse.blob.{}.*", digest.hex()) })).await?;
        Ok(there)
    }

    /// All blobs of the cluster with their sizes in bytes, by digest.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn list(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let (mut found, mut from) = (Vec::new(), 1);
        while let Some(entry) = self.stream.next(from, "rouse.blob.*.whole").await? {
            from = entry.sequence + 1;
            let hex = entry.subject.split('.').nth(2).unwrap_or_default();
            if let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() {
                found.push((digest, read_whole(&digest, &entry.payload)?.bytes));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    async fn whole(&self, digest: &Digest) -> Result<Option<Whole>, Error> {
        let entry = self.stream.last(&whole(digest)).await?;
        entry.map(|entry| read_whole(digest, &entry.payload)).transpose()
    }

    async fn piece(&self, digest: &Digest, number: u64) -> Result<bytes::Bytes, Error> {
        let entry = self.stream.last(&piece(digest, number)).await?;
        let missing = || Error::Away(format!("piece {number} of {digest} is gone: it is being deleted"));
        Ok(entry.ok_or_else(missing)?.payload)
    }

    async fn publish(&self, subject: &str, payload: Vec<u8>) -> Result<(), Error> {
        // The same again does no harm: the last message of a subject is kept.
        match self.stream.publish(subject, HeaderMap::new(), payload.into()).await? {
            Published::At(_) => Ok(()),
            Published::Refused => Err(Error::Engine(format!("the engine refuses {subject}"))),
        }
    }

    /// Gives the cluster what is in a file.
    pub(super) async fn put_file(&self, path: &Path) -> Result<Digest, Error> {
        let whole_file = path.to_owned();
        let digest = tokio::task::spawn_blocking(move || digest_of(&whole_file));
        let digest = digest.await.map_err(|_| Error::Closed)??;
        if self.has(&digest).await? {
            return Ok(digest);
        }
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let (mut bytes, mut pieces) = (0, 0);
        loop {
            let mut buffer = Vec::with_capacity(PIECE_BYTES);
            let limit = PIECE_BYTES as u64;
            (&mut file).take(limit).read_to_end(&mut buffer).map_err(Error::io("read", path))?;
            if buffer.is_empty() {
                break;
            }
            if pieces == PIECES_MAX {
                let most = PIECES_MAX * limit;
                return Err(Error::Invalid(format!(
                    "a blob of more than {most} bytes is too large for the cluster"
                )));
            }
            bytes += buffer.len() as u64;
            self.publish(&piece(&digest, pieces), buffer).await?;
            pieces += 1;
        }
        let body = serde_json::to_vec(&Whole { bytes, pieces });
        self.publish(&whole(&digest), body.map_err(|error| Error::Engine(error.to_string()))?).await?;
        Ok(digest)
    }

    /// Writes a blob of the cluster to a file, and checks it.
    pub(super) async fn get_file(&self, digest: &Digest, path: &Path) -> Result<(), Error> {
        let gone = || Error::Away(format!("{digest} is gone: a newer copy has taken its place"));
        let found = self.whole(digest).await?.ok_or_else(gone)?;
        let mut file = File::create(path).map_err(Error::io("make", path))?;
        let mut hash = Sha256::new();
        for number in 0..found.pieces {
            let piece = self.piece(digest, number).await?;
            hash.update(&piece);
            file.write_all(&piece).map_err(Error::io("write to", path))?;
        }
        file.sync_all().map_err(Error::io("flush", path))?;
        match Digest::from_hasher(hash) {
            found if found == *digest => Ok(()),
            found => Err(Error::Digest { expected: *digest, found }),
        }
    }
}

fn read_whole(digest: &Digest, bytes: &[u8]) -> Result<Whole, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Engine(format!("what the cluster says of {digest} cannot be read: {error}")))
}

fn digest_of(path: &Path) -> Result<Digest, Error> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(Digest::from_hasher(hash)),
            read => hash.update(&buffer[..read]),
        }
    }
}
