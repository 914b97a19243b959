//! From source to live: build, pack, upload what the platform does not have, deploy.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rouse_api::{Client, DeployEvent, DeployFunction, DeployRequest, Deployment};
use rouse_manifest::Function;
use rouse_types::{AppName, Digest, FunctionName, TenantId};

use super::{app::App, build, pack, progress::Progress, style::Style, units};

/// An upload that is smaller is over before a bar is drawn.
const BAR_BYTES_MIN: usize = 1 << 20;

/// A function that is ready to be uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// What the platform is told of it.
    pub(crate) function: DeployFunction,
    /// Its code.
    pub(crate) code: Bytes,
}

/// Builds and packs one function.
pub(crate) async fn package(app: &App, name: &FunctionName, function: &Function) -> anyhow::Result<Package> {
    let built = {
        let _progress = function.build.as_ref().map(|_| Progress::spinner(format!("building {name}")));
        build::build(app, name, function).await?
    };
    let artifact = built.artifact.clone();
    // Packing reads and compresses whole folders: on the one thread, bars would stand still.
    let (code, digest) = tokio::task::spawn_blocking(move || {
        let code = pack::pack(&artifact)?;
        let digest = Digest::of(&code);
        anyhow::Ok((code, digest))
    })
    .await
    .context("pack")?
    .with_context(|| format!("pack function '{name}'"))?;
    let function = DeployFunction {
        name: name.clone(),
        code: digest,
        runtime: built.runtime,
        contract: function.contract,
        http: function.http(),
        handler: built.handler,
        isolation: built.isolation,
        env: function.env.clone(),
        limits: function.limits(),
        scaling: function.scaling(),
        egress: function.egress.clone(),
        aliases: Vec::new(),
    };
    Ok(Package { function, code })
}

/// Uploads the code that the platform does not have yet.
pub(crate) async fn upload(client: &Client, package: &Package) -> anyhow::Result<()> {
    let Package { function, code } = package;
    let name = &function.name;
    if client.has_blob(&function.code).await.with_context(|| format!("upload function '{name}'"))? {
        return Ok(());
    }
    if code.len() < BAR_BYTES_MIN {
        client.put_blob_bytes(code.clone()).await.with_context(|| format!("upload function '{name}'"))?;
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new().context("make a temporary file")?;
    file.write_all(code).context("write a temporary file")?;
    let progress = Progress::bytes(format!("uploading {name}"), code.len() as u64);
    client
        .put_blob(&function.code, file.path(), progress.position())
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
    let mut events =
        client.deploy(tenant, app, request).await.with_context(|| format!("deploy app '{app}'"))?;
    while let Some(event) = events.next().await {
        match event.with_context(|| format!("deploy app '{app}'"))? {
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
