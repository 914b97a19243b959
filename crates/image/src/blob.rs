//! One blob from a registry into a file: its digest is checked as it comes, and a pull that breaks off is taken up where
//! it stopped.

use std::{fs::File, io::Write as _, path::PathBuf};

use bytes::Bytes;
use http::{StatusCode, header};
use rouse_types::{Digest, Refusal};
use sha2::{Digest as _, Sha256};

use crate::{
    http::{Answer, Failure},
    invalid, io,
    manifest::Descriptor,
    registry::{Retries, Session},
};

/// How much is gathered before it is hashed and written, in a thread that may block.
const WRITE_BYTES: usize = 1 << 20;

/// What came so far.
struct Partial {
    file: File,
    hash: Sha256,
    bytes: u64,
}

/// Pulls a blob into a new file at this path, and gives the path. `told` hears of bytes as they come, and of those that
/// were for nothing as less than zero.
pub(crate) async fn pull(
    session: &Session,
    blob: &Descriptor,
    path: PathBuf,
    told: &(dyn Fn(i64) + Send + Sync),
) -> Result<PathBuf, Refusal> {
    let file = File::create_new(&path).map_err(io("make a file for a layer"))?;
    let mut partial = Partial { file, hash: Sha256::new(), bytes: 0 };
    let mut retries = Retries::default();
    while partial.bytes < blob.size {
        let before = partial.bytes;
        let broken;
        (partial, broken) = go_on(session, blob, partial, told).await?;
        if partial.bytes > before {
            // It moves on: that it breaks again and again is no reason to give up a large layer.
            retries = Retries::default();
        }
        if let Some(failure) = broken {
            retries.again(failure, &blob.digest.to_string()).await?;
        }
    }
    let found = Digest::from_hasher(partial.hash);
    if found != blob.digest {
        return Err(invalid(format!(
            "the registry gave {found} for the layer {}: it is damaged",
            blob.digest
        ))
        .hint("push the image again"));
    }
    Ok(path)
}

/// Asks for what is missing, until the end or until it breaks off.
async fn go_on(
    session: &Session,
    blob: &Descriptor,
    mut partial: Partial,
    told: &(dyn Fn(i64) + Send + Sync),
) -> Result<(Partial, Option<Failure>), Refusal> {
    let range = (partial.bytes > 0).then(|| (header::RANGE, format!("bytes={}-", partial.bytes)));
    let headers: Vec<_> = range.into_iter().collect();
    let mut answer = match session.get(&format!("blobs/{}", blob.digest), &headers).await {
        Ok(answer) => answer,
        Err(failure) => return Ok((partial, Some(failure))),
    };
    if partial.bytes > 0 && !continues(&answer, partial.bytes) {
        // It gives all from the begin.
        told(-i64::try_from(partial.bytes).unwrap_or(i64::MAX));
        partial.file.set_len(0).map_err(io("write a layer"))?;
        std::io::Seek::rewind(&mut partial.file).map_err(io("write a layer"))?;
        partial = Partial { file: partial.file, hash: Sha256::new(), bytes: 0 };
    }
    let mut gathered = Vec::with_capacity(WRITE_BYTES);
    loop {
        let piece = answer.piece().await;
        let (piece, broken) = match piece {
            Ok(piece) => (piece, None),
            Err(failure) => (None, Some(failure)),
        };
        let ended = piece.is_none();
        let piece: Bytes = piece.unwrap_or_default();
        gathered.extend_from_slice(&piece);
        if partial.bytes + gathered.len() as u64 > blob.size {
            return Err(invalid(format!(
                "the registry gives more than the {} bytes of the layer {}",
                blob.size, blob.digest
            )));
        }
        told(i64::try_from(piece.len()).unwrap_or(i64::MAX));
        if gathered.len() >= WRITE_BYTES || ended {
            let written = tokio::task::spawn_blocking(move || {
                partial.hash.update(&gathered);
                partial.file.write_all(&gathered)?;
                partial.bytes += gathered.len() as u64;
                gathered.clear();
                Ok((partial, gathered))
            });
            let written: std::io::Result<_> =
                written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            (partial, gathered) = written.map_err(io("write a layer"))?;
        }
        if ended {
            // Once all is there it does not matter how the connection ended.
            let early = || Failure::Passing("the layer ended too early".to_owned());
            let missing = partial.bytes < blob.size;
            return Ok((partial, missing.then(|| broken.unwrap_or_else(early))));
        }
    }
}

/// Whether an answer goes on at this byte (RFC 9110 §14.4).
fn continues(answer: &Answer, at: u64) -> bool {
    let range = answer.headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
    answer.status == StatusCode::PARTIAL_CONTENT && first == Some(at)
}
