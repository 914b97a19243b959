//! Functions that are an image: what is sent for one that the platform pulls, and the archive of one that lies here.

use std::{
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use rouse_api::{DeployFunction, DeployImage, RegistryLogin};
use rouse_image::{Reference, archive, auth};
use rouse_manifest::Function;
use rouse_types::{FunctionName, Runtime, limits::IMAGE_BYTES_MAX};

use super::{
    app::App,
    report::hinted,
    ship::{self, Package, Payload},
};

/// An image's archive on this machine; one that was made for the upload is deleted with it.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    bytes: u64,
    _made: Option<tempfile::TempPath>,
}

impl Archive {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What is deployed of an image, `registry/name:tag`, `oci:./folder` or `docker-archive:./file.tar`.
pub(crate) async fn package(
    app: &App,
    name: &FunctionName,
    function: &Function,
    image: &str,
) -> anyhow::Result<Package> {
    let isolation = function
        .isolation_for(&Runtime::Image)
        .map_err(|message| hinted(message, "leave `isolation` out"))?;
    let described = ship::describe(name, function, Runtime::Image, isolation);
    let source = |path: &str| app.inside(&app.folder.join(path), "image");
    let made: Option<fn(PathBuf) -> anyhow::Result<Archive>> = match image.split_once(':') {
        Some(("oci", _)) => Some(packed),
        Some(("docker-archive", _)) => Some(found),
        _ => None,
    };
    let (Some(make), Some((_, path))) = (made, image.split_once(':')) else {
        return remote(described, image, function.image_secret.clone()).await;
    };
    let path = source(path)?;
    let (archive, digest) = tokio::task::spawn_blocking(move || {
        let made = make(path)?;
        let digest = archive::digest(&made.path).with_context(|| format!("read {}", made.path.display()))?;
        anyhow::Ok((made, digest))
    })
    .await
    .context("read an image")??;
    if archive.bytes > IMAGE_BYTES_MAX {
        bail!("the image has {} MiB; at most {} MiB are taken", archive.bytes >> 20, IMAGE_BYTES_MAX >> 20);
    }
    Ok(Package {
        function: DeployFunction { code: Some(digest), ..described },
        code: Payload::File(Arc::new(archive)),
    })
}

/// One that the platform pulls, as the person who deploys may.
async fn remote(described: DeployFunction, image: &str, secret: Option<String>) -> anyhow::Result<Package> {
    let reference: Reference = image.parse()?;
    let registry = reference.registry().to_owned();
    let login = match secret {
        Some(_) => None,
        // A helper of Docker's may be run for it.
        None => {
            tokio::task::spawn_blocking(move || auth::find(&registry)).await.context("look for a login")??
        }
    };
    let login = login.map(|login| RegistryLogin { username: login.username, password: login.password });
    let image = DeployImage { reference: image.to_owned(), login, secret };
    Ok(Package { function: DeployFunction { image: Some(image), ..described }, code: Payload::Nothing })
}

/// A layout's folder as an archive.
fn packed(layout: PathBuf) -> anyhow::Result<Archive> {
    let file = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let mut to = BufWriter::new(file);
    archive::pack(&layout, &mut to)
        .and_then(|()| to.flush())
        .with_context(|| format!("pack the image layout {}", layout.display()))?;
    let file = to.into_inner().context("pack an image layout")?;
    let bytes = file.as_file().metadata().context("pack an image layout")?.len();
    let made = file.into_temp_path();
    Ok(Archive { path: made.to_path_buf(), bytes, _made: Some(made) })
}

fn found(path: PathBuf) -> anyhow::Result<Archive> {
    let bytes = std::fs::metadata(&path).with_context(|| format!("read {}", path.display()))?.len();
    Ok(Archive { path, bytes, _made: None })
}
