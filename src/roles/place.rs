//! Where the bytes of objects lie, as `rouse serve` is told: checked before anything serves.
//!
//! What enters a bucket comes from a file or the environment, goes on in a file of mode 0600, and stands in no process'
//! arguments; [`VARIABLES`] are kept from the processes that are started.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use rouse_services::objects::{Credentials, Place, S3Place, place};
use rouse_types::SystemClock;

use super::{Process, Role, State, boot};
use crate::cli::args::PlaceArgs;

/// The variables that AWS' clients take credentials from: id, secret, and what goes with a key that ends.
pub(super) const VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Makes the place ready for the process of objects, or says why it cannot be used.
pub(super) fn prepare(state: &State, args: &PlaceArgs) -> anyhow::Result<Place> {
    let folder = state.path.join("objects");
    let place = match &args.objects {
        None => {
            // Those of a bucket that was left are of no use any more.
            let _ = std::fs::remove_file(folder.join(place::CREDENTIALS_FILE));
            Place::Local
        }
        Some(url) => {
            let (endpoint, region) = (args.objects_endpoint.as_deref(), args.objects_region.as_deref());
            let place = S3Place::parse(url, endpoint, region)?;
            let file = rouse_services::hand_over(
                &state.path,
                &credentials(args.objects_credentials.as_deref(), "--objects-credentials")?,
            )
            .context("hand over the credentials of --objects")?;
            state.give(&file)?;
            Place::S3(place)
        }
    };
    // A folder whose objects were ever elsewhere says so.
    if place != Place::Local || folder.join(place::FILE).exists() {
        let role = Role::ObjectsCheck { state: state.path.clone(), place: place.clone() };
        let checked = Process { role, listener: None, second: None, privileged: false }.once(state)?;
        if !checked.success() {
            bail!("objects cannot be kept there: what the check said stands above");
        }
    }
    Ok(place)
}

/// What a bucket is entered with: from the file of this flag, else from the environment.
pub(crate) fn credentials(file: Option<&Path>, flag: &str) -> anyhow::Result<Credentials> {
    if let Some(file) = file {
        return Credentials::read(file).with_context(|| format!("read the file of {flag}"));
    }
    let [id, secret, token] =
        VARIABLES.map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    match (id, secret) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Ok(Credentials { access_key_id, secret_access_key, session_token: token })
        }
        _ => bail!(
            "nothing says with which access key the bucket is entered\n\
             hint: name a file with {flag}, or set {} and {}",
            VARIABLES[0],
            VARIABLES[1]
        ),
    }
}

/// The process that checks: without privileges, as the one that will serve.
pub(super) fn check(state: PathBuf, place: Place) -> anyhow::Result<ExitCode> {
    let config = rouse_services::Config { state, place, clock: Arc::new(SystemClock) };
    boot::run(|_| async move { Ok(Box::pin(rouse_services::check(&config)).await?) })
}
