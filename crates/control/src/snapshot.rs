//! The files that gateways and nodes read: one for each app, replaced by rename.
//!
//! [`reconcile`] takes no input and changes nothing that is right: it serves the start after a crash between
//! the store's transaction and the file as well as a file that was damaged or deleted.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rouse_store::Records;
use rouse_types::{AppName, AppSnapshot, Code, FunctionRoute, Refusal, TenantId};

use crate::{
    control::Control,
    locks::Locks,
    state::{self, App, At, Function, Version},
};

/// The file of an app.
pub(crate) fn path(state: &Path, tenant: &TenantId, app: &AppName) -> PathBuf {
    state.join("apps").join(tenant.as_str()).join(format!("{app}.json"))
}

/// What is live of an app; nothing if it was deleted or never was.
pub(crate) async fn build(
    records: &Records,
    tenant: &TenantId,
    app: &AppName,
) -> Result<Option<AppSnapshot>, Refusal> {
    let record = state::get::<App>(records, state::APPS, &state::app_key(tenant, app)).await?;
    let Some(At { value: record, .. }) = record.filter(|at| at.value.live.is_some()) else { return Ok(None) };
    let mut functions = Vec::with_capacity(record.functions.len());
    for name in &record.functions {
        let key = state::function_key(tenant, name);
        let function = state::get::<Function>(records, state::FUNCTIONS, &key).await?;
        let Some(At { value: function, .. }) = function.filter(|at| at.value.app.as_ref() == Some(app))
        else {
            return Err(inconsistent(&key));
        };
        let mut route = FunctionRoute {
            function: name.clone(),
            slot: function.slot.ok_or_else(|| inconsistent(&key))?,
            latest: function.latest,
            versions: Default::default(),
            domains: record
                .domains
                .iter()
                .filter(|(_, of)| *of == name)
                .map(|(domain, _)| domain.clone())
                .collect(),
            aliases: function.aliases,
        };
        let named = route.aliases.values().flat_map(|alias| &alias.versions).map(|share| share.version);
        for number in named.chain([function.latest]).collect::<std::collections::BTreeSet<_>>() {
            let key = state::numbered(&key, number);
            let version = state::get::<Version>(records, state::VERSIONS, &key).await?;
            let version = version.ok_or_else(|| inconsistent(&key))?.value.version;
            route.versions.insert(number, Arc::new(version));
        }
        functions.push(route);
    }
    Ok(Some(AppSnapshot { tenant: tenant.clone(), app: app.clone(), revision: record.revision, functions }))
}

fn inconsistent(key: &str) -> Refusal {
    tracing::error!(key, "records do not fit each other");
    Refusal::new(Code::Internal, format!("the records of {key} do not fit each other"))
        .hint("this is a fault of the platform: please report it")
}

/// Makes the file what the store says; tells whether it had to be changed. Whole or not at all, and on the
/// disk when this returns.
pub(crate) async fn write(
    records: &Records,
    locks: &Locks,
    state: &Path,
    tenant: &TenantId,
    app: &AppName,
) -> Result<bool, Refusal> {
    // What is read under the lock is written under it, so no older state follows a newer one.
    let _lock = locks.hold(format!("snapshot {tenant}/{app}")).await;
    let path = path(state, tenant, app);
    let wanted = build(records, tenant, app).await?;
    let written = tokio::task::spawn_blocking(move || match wanted {
        Some(snapshot) => replace(&path, &serde_json::to_vec(&snapshot)?),
        None => remove(&path),
    });
    match written.await {
        Ok(Ok(changed)) => Ok(changed),
        Ok(Err(error)) => Err(state::io_refusal("write the snapshot of an app", &error)),
        Err(error) => Err(state::io_refusal("write the snapshot of an app", &io::Error::other(error))),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|now| now == bytes) {
        return Ok(false);
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    if !dir.is_dir() {
        fs::create_dir_all(dir)?;
        sync(dir.parent().unwrap_or(dir))?;
    }
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    // Environment variables are in it: for the platform's own user, and no one else.
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync(dir)?;
    Ok(true)
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(()) => sync(path.parent().unwrap_or(Path::new("."))).map(|()| true),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes every file what the store says; gives the apps whose files had to be changed, and whether all are right now.
pub(crate) async fn reconcile(control: &Control) -> Result<(Vec<(TenantId, AppName)>, bool), Refusal> {
    let (records, locks, state) = (&control.records, &control.locks, &control.config.state);
    let mut apps: std::collections::BTreeSet<(TenantId, AppName)> = std::collections::BTreeSet::new();
    for at in state::scan::<App>(records, state::APPS, "").await? {
        apps.extend(split(&at.key));
    }
    // Files of which the store knows nothing: an older store was put back. They must not go on answering.
    let dir = state.join("apps");
    let files = tokio::task::spawn_blocking(move || files(&dir)).await;
    match files {
        Ok(Ok(found)) => apps.extend(found),
        Ok(Err(error)) => return Err(state::io_refusal("list the snapshots", &error)),
        Err(error) => return Err(state::io_refusal("list the snapshots", &io::Error::other(error))),
    }
    let (mut changed, mut right) = (Vec::new(), true);
    for (tenant, app) in apps {
        let written = async {
            match control.obtain(&tenant, &app).await {
                // On one machine it comes from nowhere else: the versions that have their code answer.
                Err(refusal) if control.shared.is_none() => {
                    tracing::error!(%tenant, %app, %refusal, "code is missing");
                }
                obtained => obtained?,
            }
            write(records, locks, state, &tenant, &app).await
        };
        match written.await {
            Ok(true) => changed.push((tenant, app)),
            Ok(false) => {}
            // One app that cannot be put right must not keep the others from it.
            Err(refusal) => {
                tracing::error!(%tenant, %app, %refusal, "a snapshot cannot be written");
                right = false;
                // Its code may come later; a full disk is met again at the next change.
                if control.shared.is_some() {
                    control.reconcile.notify_one();
                }
            }
        }
    }
    Ok((changed, right))
}

/// Tenant and app of a key.
pub(crate) fn split(key: &str) -> Option<(TenantId, AppName)> {
    let (tenant, app) = key.split_once('/')?;
    Some((tenant.parse().ok()?, app.parse().ok()?))
}

fn files(dir: &Path) -> io::Result<Vec<(TenantId, AppName)>> {
    let mut found = Vec::new();
    for tenant in list(dir)? {
        for file in list(&tenant)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(".new-") {
                // What a killed process left.
                fs::remove_file(&file)?;
            } else if let Some(app) = name.strip_suffix(".json") {
                let tenant = tenant.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.extend(split(&format!("{tenant}/{app}")));
            }
        }
    }
    Ok(found)
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        other => other?.map(|entry| Ok(entry?.path())).collect(),
    }
}
