//! Reads snapshots of apps: `<state>/apps/<tenant>/<app>.json`, written by control.

use std::{
    io,
    path::{Path, PathBuf},
};

use rouse_types::{AppName, AppSnapshot, Code, Refusal, TenantId};

/// Reads one snapshot. One that is gone is that of an app without functions: it was deleted.
pub(crate) async fn read(state: &Path, tenant: &TenantId, app: &AppName) -> Result<AppSnapshot, Refusal> {
    let path = state.join("apps").join(tenant.as_str()).join(format!("{app}.json"));
    let bytes = match tokio::fs::read(&path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (tenant, app) = (tenant.clone(), app.clone());
            return Ok(AppSnapshot { tenant, app, revision: u64::MAX, functions: Vec::new() });
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "cannot read a snapshot");
            let told = format!("the snapshot of {tenant}/{app} cannot be read");
            return Err(Refusal::new(Code::Internal, told));
        }
    };
    parse(&bytes).map_err(|error| {
        tracing::error!(path = %path.display(), %error, "a snapshot is not one");
        Refusal::new(Code::Internal, format!("the snapshot of {tenant}/{app} is not one"))
    })
}

/// Reads all snapshots. One that cannot be read is told and left out: it must not keep the others from serving.
pub(crate) fn read_all(state: &Path) -> Vec<AppSnapshot> {
    let mut all = Vec::new();
    for tenant in entries(&state.join("apps")) {
        for path in entries(&tenant) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let snapshot = std::fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| parse(&bytes).map_err(|error| error.to_string()));
            match snapshot {
                Ok(snapshot) => all.push(snapshot),
                Err(error) => tracing::error!(path = %path.display(), %error, "a snapshot is left out"),
            }
        }
    }
    all
}

fn parse(bytes: &[u8]) -> Result<AppSnapshot, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}
