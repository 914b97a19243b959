//! Where a backup is kept: a file, or a prefix of a bucket of any S3.
//!
//! ```text
//!   <prefix>/piece-00000000 …    8 MiB each
//!   <prefix>/backup.json         how many there are, written last: without it there is no backup
//! ```

use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rouse_services::objects::{Credentials, Depot, S3Place};
use serde::{Deserialize, Serialize};

use super::{
    Made,
    pieces::{self, Filling},
};
use crate::cli::hinted;

/// Says that all pieces are there.
const INDEX: &str = "backup.json";

/// A place for a backup.
#[derive(Debug)]
pub(crate) enum Place {
    File(PathBuf),
    Bucket(S3Place, Credentials),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    pieces: u64,
    bytes: u64,
}

fn piece(number: u64) -> String {
    format!("piece-{number:08}")
}

impl Place {
    /// Keeps what `make` writes, whole or not at all. It is told where it may put copies meanwhile.
    pub(crate) async fn keep<F>(self, make: F) -> anyhow::Result<Made>
    where
        F: FnOnce(&mut dyn Write, &Path) -> anyhow::Result<Made> + Send + 'static,
    {
        match self {
            Self::File(path) => tokio::task::spawn_blocking(move || to_file(&path, make)).await?,
            Self::Bucket(place, credentials) => {
                let depot = Depot::open(&place, &credentials)?;
                to_bucket(&depot, &place, make).await
            }
        }
    }

    /// Gives what is kept there to `take`.
    pub(crate) async fn give<T, F>(self, take: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Read) -> anyhow::Result<T> + Send + 'static,
    {
        match self {
            Self::File(path) => {
                tokio::task::spawn_blocking(move || {
                    let file = File::open(&path).with_context(|| format!("read {}", path.display()))?;
                    take(&mut &file)
                })
                .await?
            }
            Self::Bucket(place, credentials) => {
                let depot = Depot::open(&place, &credentials)?;
                from_bucket(&depot, &place, take).await
            }
        }
    }
}

fn to_file<F>(path: &Path, make: F) -> anyhow::Result<Made>
where
    F: FnOnce(&mut dyn Write, &Path) -> anyhow::Result<Made>,
{
    if path.symlink_metadata().is_ok() {
        return Err(hinted(format!("{} is there already", path.display()), "name a file that is not"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch =
        tempfile::tempdir_in(folder).with_context(|| format!("make a folder in {}", folder.display()))?;
    // For its owner alone: it holds keys.
    let half = tempfile::NamedTempFile::new_in(folder).context("make the file")?;
    let mut out = BufWriter::with_capacity(1 << 20, half);
    let made = make(&mut out, scratch.path())?;
    let half = out.into_inner().map_err(|error| error.into_error()).context("write the backup")?;
    half.as_file().sync_all().context("flush the backup")?;
    half.persist_noclobber(path).with_context(|| format!("name the backup {}", path.display()))?;
    File::open(folder).and_then(|folder| folder.sync_all()).context("flush the backup's folder")?;
    Ok(made)
}

async fn to_bucket<F>(depot: &Depot, place: &S3Place, make: F) -> anyhow::Result<Made>
where
    F: FnOnce(&mut dyn Write, &Path) -> anyhow::Result<Made> + Send + 'static,
{
    if depot.get(INDEX).await?.is_some() {
        return Err(hinted(format!("there is a backup already: {place}"), "name another prefix"));
    }
    let scratch = tempfile::tempdir().context("make a folder for copies (TMPDIR says where)")?;
    let (mut filling, mut pieces): (Filling, _) = pieces::filling();
    let making = tokio::task::spawn_blocking(move || {
        let made = make(&mut filling, scratch.path())?;
        filling.finish().context("write the backup")?;
        Ok::<_, anyhow::Error>(made)
    });
    let mut number = 0;
    let sent = async {
        while let Some(bytes) = pieces.recv().await {
            depot.put(&piece(number), bytes).await?;
            number += 1;
        }
        Ok::<_, anyhow::Error>(())
    };
    let sent = sent.await;
    // Whoever writes learns that nobody takes it.
    drop(pieces);
    let made = making.await?;
    sent?;
    let made = made?;
    let index = Index { pieces: number, bytes: made.summary.length };
    depot.put(INDEX, Bytes::from(serde_json::to_vec(&index)?)).await?;
    Ok(made)
}

async fn from_bucket<T, F>(depot: &Depot, place: &S3Place, take: F) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Read) -> anyhow::Result<T> + Send + 'static,
{
    let Some(index) = depot.get(INDEX).await? else {
        bail!(
            "there is no whole backup: {place}\nhint: one that was not made to its end has pieces and no {INDEX}"
        );
    };
    let index: Index = serde_json::from_slice(&index).with_context(|| format!("read {INDEX} of {place}"))?;
    let (sender, mut draining) = pieces::draining();
    let taking = tokio::task::spawn_blocking(move || take(&mut draining));
    for number in 0..index.pieces {
        let piece = piece(number);
        let bytes = match depot.get(&piece).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(format!("{piece} is not there")),
            Err(error) => Err(format!("{piece}: {error}")),
        };
        // Whoever reads has failed, or ended: it says why.
        if sender.send(bytes).await.is_err() {
            break;
        }
    }
    drop(sender);
    taking.await?
}
