//! `rouse dev`: runs the platform for one app, and puts each edit live.
//!
//! ```text
//!            ┌────────── edit ◀── watcher ──┐
//!            ▼                              │
//!   start ─▶ load ─▶ build what changed ─▶ upload ─▶ live ─▶ wait ─▶ Ctrl-C: stop all
//!              └── wrong: shown; what was live answers on ──┘
//! ```

mod follow;
mod platform;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use rouse_api::{Client, DeployRequest, Deployment};
use rouse_types::{FunctionName, Runtime};

use self::{platform::Platform, watch::Watcher};
use super::{
    app::App,
    args::{DevArgs, Global},
    build, out, report, runtimes,
    ship::{self, Package},
    state,
    style::Style,
    units,
};

pub(crate) async fn run(global: &Global, args: &DevArgs) -> anyhow::Result<()> {
    // A manifest that is wrong at the start is told before anything runs.
    let app = App::load(&args.dir)?;
    let state = match &global.state {
        Some(state) => state.clone(),
        None => usual_state(&app.folder),
    };
    install_runtimes(&state, &app).await?;
    let mut platform = Platform::start(global, args, &state).await?;
    let mut session =
        Session { folder: app.folder.clone(), state, client: platform.client()?, packages: BTreeMap::new() };
    let mut watcher = Watcher::new(&app.folder)?;
    let mut follower = follow::Follower::start(platform.client()?, global.tenant.clone());
    out::note(&Style::stderr().dim("Ctrl-C stops all"));
    session.put_live(global, Some(app), None).await;
    loop {
        tokio::select! {
            changed = watcher.changed() => session.put_live(global, None, Some(&changed?)).await,
            told = follower.failed() => out::note(&format!("logs are not followed any more: {told:#}")),
            _ = tokio::signal::ctrl_c() => break,
            stopped = platform.stopped() => return Err(stopped),
        }
    }
    drop(follower);
    platform.stop().await;
    Ok(())
}

/// Each app has a platform of its own, where the processes without privileges can reach it.
fn usual_state(folder: &Path) -> PathBuf {
    let digest = rouse_types::Digest::of(folder.as_os_str().as_encoded_bytes()).hex();
    state::usual().join("dev").join(&digest[..16])
}

async fn install_runtimes(state: &Path, app: &App) -> anyhow::Result<()> {
    let minors: BTreeSet<u8> =
        app.manifest.functions.values().filter_map(|function| python(app, function)).collect();
    for minor in minors {
        runtimes::install_python(state, minor).await?;
    }
    Ok(())
}

fn python(app: &App, function: &rouse_manifest::Function) -> Option<u8> {
    let runtime = match &function.runtime {
        Some(runtime) => runtime.clone(),
        // What the build will make is not there yet; what it is not told by is told later.
        None => build::runtime_of(&app.source(function).ok()?).ok()?,
    };
    match runtime {
        Runtime::Python { minor } => Some(minor),
        Runtime::Component | Runtime::Node { .. } | Runtime::Provided => None,
    }
}

struct Session {
    folder: PathBuf,
    state: PathBuf,
    client: Client,
    /// What each function was when it was last built: what did not change is not built again.
    packages: BTreeMap<FunctionName, (rouse_manifest::Function, Package)>,
}

impl Session {
    /// Brings what is on disk live. What goes wrong is shown; what was live stays so.
    async fn put_live(&mut self, global: &Global, app: Option<App>, changed: Option<&BTreeSet<PathBuf>>) {
        let began = Instant::now();
        match self.try_put_live(global, app, changed).await {
            Ok(Some(deployment)) => show(&deployment, began, changed.is_none()),
            Ok(None) => {}
            Err(error) => {
                let style = Style::stderr();
                if let Some(text) = report::render(&error, style) {
                    out::note(text.trim_end());
                }
                if !self.packages.is_empty() {
                    out::note(&style.dim("what was live before answers on"));
                }
            }
        }
    }

    async fn try_put_live(
        &mut self,
        global: &Global,
        app: Option<App>,
        changed: Option<&BTreeSet<PathBuf>>,
    ) -> anyhow::Result<Option<Deployment>> {
        let app = match app {
            Some(app) => app,
            None => App::load(&self.folder)?,
        };
        install_runtimes(&self.state, &app).await?;
        let mut functions = Vec::new();
        let mut fresh = BTreeMap::new();
        let mut any = changed.is_none() || self.packages.len() != app.manifest.functions.len();
        for (name, function) in &app.manifest.functions {
            let known = self.packages.get(name).filter(|(before, _)| before == function);
            let touched = changed.is_none_or(|changed| touches(&app, function, changed));
            let package = match known {
                Some((_, package)) if !touched => package.clone(),
                _ => {
                    let package = ship::package(&app, name, function).await?;
                    // Saved without a change, or a change that is not packed: nothing to put live.
                    any |= known.is_none_or(|(_, before)| before.function != package.function);
                    ship::upload(&self.client, &package).await?;
                    package
                }
            };
            functions.push(package.function.clone());
            fresh.insert(name.clone(), (function.clone(), package));
        }
        if !any {
            return Ok(None);
        }
        let request = DeployRequest { functions, message: Some("rouse dev".to_owned()) };
        let deployment =
            ship::put_live(&self.client, &global.tenant, &app.manifest.app.name, &request).await?;
        self.packages = fresh;
        Ok(Some(deployment))
    }
}

/// Whether one of these paths is what a function is made from.
fn touches(app: &App, function: &rouse_manifest::Function, changed: &BTreeSet<PathBuf>) -> bool {
    // A source that is gone cannot be told; building it tells why.
    let Ok(source) = app.source(function) else { return true };
    let Some(build) = &function.build else {
        return changed.iter().any(|path| path.starts_with(&source));
    };
    let folder = build::workdir(&source);
    // What the build writes would build again, without end.
    let output = build.output.as_ref().map(|output| folder.join(output));
    let ours = |path: &&PathBuf| output.as_ref().is_none_or(|output| !path.starts_with(output));
    let watched = |path: &PathBuf| match build.watch.as_slice() {
        [] => {
            path.starts_with(&folder) && !watch::is_build_output(path.strip_prefix(&folder).unwrap_or(path))
        }
        watch => watch.iter().any(|watched| path.starts_with(folder.join(watched))),
    };
    changed.iter().filter(ours).any(watched)
}

fn show(deployment: &Deployment, began: Instant, first: bool) {
    let style = Style::stderr();
    let took = units::micros(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    for function in deployment.functions.iter().filter(|function| first || function.changed) {
        out::note(&format!(
            "{} {} {} {}",
            style.green("live"),
            style.bold(&format!("{}@{}", function.function, function.version)),
            function.url,
            style.dim(&took),
        ));
    }
}

/// The error of a child that ended by itself.
fn ended(status: std::process::ExitStatus) -> anyhow::Error {
    report::hinted(
        format!("the platform stopped ({status})"),
        "what it said stands above; `rouse serve` alone may tell more",
    )
}

/// A port that is free now. Another program may take it before we do; then the start fails and says so.
fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
