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
mod session;
mod watch;

use std::{
    path::{Path, PathBuf},
    pin::pin,
};

use anyhow::Context as _;

use self::{follow::Follower, platform::Platform, session::Session, watch::Watcher};
use super::{
    app::App,
    args::{DevArgs, Global},
    out, report,
    resolve::Resolver,
    state,
    style::Style,
};

pub(crate) async fn run(global: &Global, args: &DevArgs) -> anyhow::Result<()> {
    // A manifest that is wrong at the start is told before anything runs.
    let app = App::load(&args.dir)?;
    let state = state_of(global, &app.folder);
    // From here on Ctrl-C is ours, in the middle of a build too.
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut platform = tokio::select! {
        platform = Platform::start(args, &state) => platform?,
        _ = &mut interrupt => return Ok(()),
    };
    let client = platform.client()?;
    let follower = Follower::start(client.clone(), global.tenant.clone());
    let mut watcher = Watcher::new(&app.folder)?;
    let resolver = Resolver::new(global, &args.resolve);
    let mut session = Session::new(app.folder, state.clone(), client, global.tenant.clone(), resolver);
    out::note(&Style::stderr().dim(&format!(
        "Ctrl-C stops all; for `rouse` in another terminal: export ROUSE_URL={} ROUSE_STATE={}",
        platform.url(),
        state.display()
    )));
    let ended = {
        let mut work = pin!(async {
            session.begin().await;
            loop {
                match watcher.changed().await {
                    Ok(changed) => session.edited(changed).await,
                    Err(error) => break error,
                }
            }
        });
        tokio::select! {
            error = &mut work => Err(error),
            error = platform.stopped() => Err(error),
            _ = &mut interrupt => Ok(()),
        }
    };
    drop(follower);
    platform.stop().await;
    ended
}

/// Each app that is worked on has a platform of its own, below the usual state folder: there the processes
/// without privileges can reach it.
fn state_of(global: &Global, folder: &Path) -> PathBuf {
    let digest = rouse_types::Digest::of(folder.as_os_str().as_encoded_bytes()).hex();
    state::folder(global).join("dev").join(&digest[..16])
}

/// The error of a platform that ended by itself.
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
