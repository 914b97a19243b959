//! Uploads of code, under its digest. Equal code is kept once, whoever uploads it; but a key's tenant knows of its own
//! uploads alone: who learned the digest of another's code neither learns that it is here nor can deploy it.

use http::{Request, Response};
use hyper::body::Incoming;
use rouse_api::operation::Params;
use rouse_store::records::Expect;
use rouse_types::{Digest, Refusal, Timestamp, limits};

use crate::{
    body::{self, Body},
    control::Control,
    state,
    who::Who,
};

impl Control {
    /// Whether who asks may use this code: the operator may all, a key what its tenant uploaded.
    pub(crate) async fn uploaded(&self, who: &Who, digest: &Digest) -> Result<bool, Refusal> {
        let Some(tenant) = who.tenant() else { return Ok(true) };
        let key = format!("{}/{tenant}", digest.hex());
        Ok(state::get::<Timestamp>(&self.records, state::UPLOADS, &key).await?.is_some())
    }

    /// Forgets who uploaded code that is deleted.
    pub(crate) async fn forget_uploads(&self, digest: &Digest) -> Result<(), Refusal> {
        let known =
            state::scan::<Timestamp>(&self.records, state::UPLOADS, &format!("{}/", digest.hex())).await?;
        for at in known {
            state::commit(&self.records, vec![state::delete(state::UPLOADS, at.key, Expect::Any)]).await?;
        }
        Ok(())
    }
}

/// Whether code was uploaded already, as far as who asks may know.
pub(crate) async fn has_blob(
    control: &Control,
    who: &Who,
    params: &Params,
) -> Result<Response<Body>, Refusal> {
    let digest: Digest = params.parse("digest")?;
    match control.blobs.path(&digest).is_some() && control.uploaded(who, &digest).await? {
        true => {
            // Uploaded long ago and about to be deployed: it must not be collected in between.
            control.in_use(digest);
            Ok(body::bytes("application/octet-stream", ""))
        }
        false => {
            let mut response = body::bytes("application/octet-stream", "");
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}

/// Takes an upload.
pub(crate) async fn put_blob(
    control: &Control,
    who: &Who,
    params: &Params,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    /// How much is gathered before it is written, in a thread that may block.
    const WRITE_BYTES: usize = 1 << 20;
    let digest: Digest = params.parse("digest")?;
    let too_large = || {
        Refusal::new(
            rouse_types::Code::CodeTooLarge,
            format!("the code has more than {} MiB", limits::IMAGE_BYTES_MAX >> 20),
        )
        .hint("leave out what the function does not need at run time")
    };
    let mut incoming = request.into_body();
    let said = http_body::Body::size_hint(&incoming).exact().unwrap_or_default();
    if said > limits::IMAGE_BYTES_MAX {
        return Err(too_large());
    }
    let failed = |error: rouse_store::Error| state::refusal(&error);
    let joined = |error| state::io_refusal("store an upload", &std::io::Error::other(error));
    let mut upload = control.blobs.begin(said).map_err(failed)?;
    let (mut bytes, mut gathered, mut more) = (0, Vec::new(), true);
    while more {
        match body::piece(&mut incoming).await? {
            Some(piece) => {
                bytes += piece.len() as u64;
                gathered.extend_from_slice(&piece);
            }
            None => more = false,
        }
        if bytes > limits::IMAGE_BYTES_MAX {
            return Err(too_large());
        }
        if gathered.len() >= WRITE_BYTES || !more {
            let pieces = std::mem::take(&mut gathered);
            let written = tokio::task::spawn_blocking(move || upload.write(&pieces).map(|()| upload));
            upload = written.await.map_err(joined)?.map_err(failed)?;
        }
    }
    let finished = tokio::task::spawn_blocking(move || upload.finish(Some(digest)));
    finished.await.map_err(joined)?.map_err(failed)?;
    control.in_use(digest);
    if let Some(tenant) = who.tenant() {
        let key = format!("{}/{tenant}", digest.hex());
        let write = state::put(state::UPLOADS, key, &control.config.clock.now(), Expect::Any)?;
        state::commit(&control.records, vec![write]).await?;
    }
    Ok(body::bytes("application/json", "{}"))
}
