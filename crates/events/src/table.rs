//! What is live, as this process knows it: read from the snapshots that control writes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rouse_store::secrets;
use rouse_types::{
    AppName, AppSnapshot, FunctionName, FunctionRoute, FunctionVersion, LIVE, TenantId, Trigger, app::LATEST,
};

type Functions = HashMap<(TenantId, FunctionName), (AppName, Arc<FunctionRoute>)>;

/// Functions by tenant and name. Control may come and go; this stays as it was last told.
#[derive(Debug)]
pub(crate) struct Table {
    dir: PathBuf,
    functions: Mutex<Functions>,
    /// Whether all snapshots that are there could be read.
    whole: AtomicBool,
}

impl Table {
    pub(crate) fn new(state: &Path) -> Self {
        Self { dir: state.join("apps"), functions: Mutex::default(), whole: AtomicBool::new(true) }
    }

    fn functions(&self) -> MutexGuard<'_, Functions> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads every snapshot. One that cannot be read is logged and left out: the others still count.
    pub(crate) fn load_all(&self) {
        for tenant in entries(&self.dir) {
            let files =
                entries(&tenant).into_iter().filter(|path| path.extension().is_some_and(|e| e == "json"));
            for file in files {
                if let Err(error) = self.load(&file) {
                    tracing::error!(file = %file.display(), %error, "a snapshot cannot be read");
                    self.whole.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Reads the snapshot of one app again. A snapshot that is gone takes its functions with it.
    pub(crate) fn reload(&self, tenant: &TenantId, app: &AppName) -> std::io::Result<()> {
        match self.load(&self.dir.join(tenant.as_str()).join(format!("{app}.json"))) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.functions().retain(|(of, _), (from, _)| of != tenant || from != app);
                Ok(())
            }
            other => other,
        }
    }

    fn load(&self, file: &Path) -> std::io::Result<()> {
        let mut snapshot: AppSnapshot = serde_json::from_slice(&std::fs::read(file)?)?;
        // A database's address may be one.
        secrets::tell_all(self.dir.parent().unwrap_or(&self.dir), &mut snapshot);
        let AppSnapshot { tenant, app, functions, .. } = snapshot;
        let mut all = self.functions();
        all.retain(|(of, _), (from, _)| *of != tenant || *from != app);
        for route in functions {
            all.insert((tenant.clone(), route.function.clone()), (app.clone(), Arc::new(route)));
        }
        Ok(())
    }

    /// Whether nothing is missing: what is not here is not there.
    pub(crate) fn whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    /// The triggers that are in force: those of the versions that `live` names, by tenant and function.
    pub(crate) fn triggers(&self) -> Vec<(Arc<FunctionVersion>, Trigger)> {
        let functions = self.functions();
        let mut all = Vec::new();
        for (_, route) in functions.values() {
            let Some(version) = route.in_force() else { continue };
            all.extend(version.triggers.iter().map(|trigger| (Arc::clone(version), trigger.clone())));
        }
        all.sort_by(|(a, _), (b, _)| (&a.tenant, &a.function).cmp(&(&b.tenant, &b.function)));
        all
    }

    /// The version that an event's delivery will mostly reach: of an alias that is weighted, the heaviest.
    pub(crate) fn version(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        alias: Option<&str>,
    ) -> Option<Arc<FunctionVersion>> {
        let functions = self.functions();
        let (_, route) = functions.get(&(tenant.clone(), function.clone()))?;
        let number = match alias.unwrap_or(LIVE) {
            LATEST => Some(route.latest),
            alias => match route.aliases.get(alias) {
                Some(alias) => alias.heaviest(),
                None => alias.parse().ok(),
            },
        };
        route.versions.get(&number?).cloned()
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        // Nothing was deployed yet.
        Err(_) => Vec::new(),
    }
}
