//! A file as a request's body, read as it is sent.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use rouse_types::{Code, Refusal};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::RequestBody;

/// Read at a time: large enough to be quick, small enough for progress that moves.
const CHUNK_BYTES: usize = 64 << 10;

/// The file's size, and the body.
pub(super) async fn file(
    path: &Path,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<(u64, RequestBody), Refusal> {
    let refuse = |error: std::io::Error| {
        Refusal::new(Code::BadRequest, format!("cannot read {}: {error}", path.display()))
    };
    let file = File::open(path).await.map_err(refuse)?;
    let bytes = file.metadata().await.map_err(refuse)?.len();
    let chunks = stream::unfold(Some((file, 0u64, progress)), |state| async {
        let (mut file, sent, mut progress) = state?;
        let mut chunk = vec![0; CHUNK_BYTES];
        match file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                let sent = sent + read as u64;
                progress(sent);
                Some((Ok(Frame::data(Bytes::from(chunk))), Some((file, sent, progress))))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok((bytes, StreamBody::new(chunks).boxed_unsync()))
}
