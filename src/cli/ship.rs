//! From source to live: build, pack, upload what the platform does not have, deploy.

use std::{io::Write as _, sync::Arc};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rouse_api::{Client, DeployEvent, DeployFunction, DeployRequest, Deployment};
use rouse_manifest::Function;
use rouse_types::{AppName, Digest, FunctionName, Isolation, Runtime, TenantId};

use super::{
    app::App,
    build, image, pack,
    progress::Progress,
    resolve::{Dependencies, Installed, Resolver},
    style::Style,
    units,
};

/// An upload that is smaller is over before a bar is drawn.
const BAR_BYTES_MIN: usize = 1 << 20;

/// A function that is ready to be uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// What the platform is told of it.
    pub(crate) function: DeployFunction,
    /// Its code.
    pub(crate) code: Payload,
}

/// What is uploaded of a function.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// A component or an archive.
    Bytes(Bytes),
    /// An image's archive.
    File(Arc<image::Archive>),
    /// Nothing: the platform pulls an image.
    Nothing,
}

/// Builds and packs one function.
pub(crate) async fn package(
    app: &App,
    name: &FunctionName,
    function: &Function,
    resolver: &Resolver,
) -> anyhow::Result<Package> {
    if let Some(image) = &function.image {
        return image::package(app, name, function, image)
            .await
            .with_context(|| format!("function '{name}'"));
    }
    code(app, name, function, resolver, Installed::Kept).await.map(|(package, _)| package)
}

/// Builds and packs one function that is no image, with its dependencies.
pub(crate) async fn code(
    app: &App,
    name: &FunctionName,
    function: &Function,
    resolver: &Resolver,
    installed: Installed,
) -> anyhow::Result<(Package, Option<Dependencies>)> {
    let built = {
        let _progress = function.build.as_ref().map(|_| Progress::spinner(format!("building {name}")));
        build::build(app, name, function).await?
    };
    let artifact = built.artifact.clone();
    // Whoever says how to build says all of it.
    let dependencies = match function.build {
        None if artifact.is_dir() => {
            resolver.dependencies(name, &artifact, &built.runtime, installed).await?
        }
        _ => None,
    };
    let folder = dependencies.as_ref().map(|dependencies| dependencies.folder.clone());
    // Packing reads and compresses whole folders: on the one thread, bars would stand still.
    let (code, digest) = tokio::task::spawn_blocking(move || {
        let code = match folder {
            Some(folder) => pack::pack_with(&artifact, &folder)?,
            None => pack::pack(&artifact)?,
        };
        let digest = Digest::of(&code);
        anyhow::Ok((code, digest))
    })
    .await
    .context("pack")?
    .with_context(|| format!("pack function '{name}'"))?;
    let described = describe(name, function, built.runtime, built.isolation);
    let function = DeployFunction { code: Some(digest), handler: built.handler, ..described };
    Ok((Package { function, code: Payload::Bytes(code) }, dependencies))
}

/// What the manifest alone says of a function.
pub(super) fn describe(
    name: &FunctionName,
    function: &Function,
    runtime: Runtime,
    isolation: Isolation,
) -> DeployFunction {
    DeployFunction {
        name: name.clone(),
        code: None,
        image: None,
        runtime,
        contract: function.contract,
        http: function.http(),
        handler: None,
        isolation,
        env: function.env.clone(),
        secrets: function.secrets.clone(),
        limits: function.limits(),
        scaling: function.scaling(),
        egress: function.egress.clone(),
        invoke: function.invoke.unwrap_or_default(),
        domains: function.domains.clone(),
        triggers: function.triggers.clone(),
        events: function.events.clone(),
        lambda: None,
        aliases: Vec::new(),
    }
}

/// Uploads the code that the platform does not have yet.
pub(crate) async fn upload(client: &Client, package: &Package) -> anyhow::Result<()> {
    let Package { function, code } = package;
    let name = &function.name;
    let Some(digest) = &function.code else { return Ok(()) };
    if client.has_blob(digest).await.with_context(|| format!("upload function '{name}'"))? {
        return Ok(());
    }
    let written;
    let (path, bytes) = match code {
        Payload::Nothing => return Ok(()),
        Payload::Bytes(code) if code.len() < BAR_BYTES_MIN => {
            client.put_blob_bytes(code.clone()).await.with_context(|| format!("upload function '{name}'"))?;
            return Ok(());
        }
        Payload::Bytes(code) => {
            let mut file = tempfile::NamedTempFile::new().context("make a temporary file")?;
            file.write_all(code).context("write a temporary file")?;
            written = file;
            (written.path(), code.len() as u64)
        }
        Payload::File(archive) => (archive.path(), archive.bytes()),
    };
    let progress = Progress::bytes(format!("uploading {name}"), bytes);
    client
        .put_blob(digest, path, progress.position())
        .await
        .with_context(|| format!("upload function '{name}'"))?;
    Ok(())
}

/// Puts the app live, and shows what the platform does until it is.
pub(crate) async fn put_live(
    client: &Client,
    tenant: &TenantId,
    app: &AppName,
    request: &DeployRequest,
) -> anyhow::Result<Deployment> {
    let style = Style::stderr();
    let progress = Progress::spinner(format!("deploying {app}"));
    let mut pull: Option<(FunctionName, Progress)> = None;
    let mut events =
        client.deploy(tenant, app, request).await.with_context(|| format!("deploy app '{app}'"))?;
    while let Some(event) = events.next().await {
        let event = event.with_context(|| format!("deploy app '{app}'"))?;
        if !matches!(event, DeployEvent::Pulling { .. }) {
            pull = None;
        }
        match event {
            DeployEvent::Pulling { function, bytes, total } => {
                if pull.as_ref().is_none_or(|(known, _)| *known != function) {
                    pull = Some((function.clone(), Progress::bytes(format!("pulling {function}"), total)));
                }
                if let Some((_, bar)) = &pull {
                    bar.position()(bytes);
                }
            }
            DeployEvent::Unpacking { function } => progress.message(format!("unpacking {function}")),
            DeployEvent::Compiling { function } => progress.message(format!("compiling {function}")),
            DeployEvent::Unpacked { .. } | DeployEvent::Compiled { cached: true, .. } => {}
            DeployEvent::Compiled { function, ms, .. } => {
                progress.note(&style.dim(&format!("compiled {function} in {}", units::millis(ms))));
            }
            DeployEvent::Warning { message } => {
                progress.note(&format!("{} {message}", style.yellow("warning:")));
            }
            DeployEvent::Live { deployment } => return Ok(deployment),
            DeployEvent::Failed { refusal } => {
                return Err(anyhow::Error::from(refusal).context(format!("app '{app}' was not deployed")));
            }
        }
    }
    bail!(super::report::hinted(
        format!("the platform went away while app '{app}' was deployed"),
        "`rouse list` shows whether the new versions are live; deploying again does no harm",
    ))
}
