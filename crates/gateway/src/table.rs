//! What is live, as this gateway knows it: read from the snapshots that control writes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rouse_store::{access_keys::FunctionKeys, secrets};
use rouse_types::{
    AppName, AppSnapshot, Code, Contract, Domain, FunctionName, FunctionRoute, FunctionVersion, InvokePolicy,
    LIVE, Refusal, TenantId,
    app::LATEST,
    egress::{PLATFORM_HOST, PLATFORM_PORT},
};

use crate::route::{self, Target};

/// Functions by tenant and name, each with the app that it came with.
#[derive(Debug, Default)]
struct Routes {
    tenants: HashMap<TenantId, HashMap<FunctionName, (AppName, Arc<FunctionRoute>)>>,
    domains: HashMap<Domain, Arc<Owner>>,
}

/// The function that has a domain.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) tenant: TenantId,
    pub(crate) function: FunctionName,
    app: AppName,
}

/// The table of a gateway. Control's process may come and go; this stays as it was last told.
#[derive(Debug)]
pub(crate) struct Table {
    dir: PathBuf,
    routes: Mutex<Routes>,
    /// Whether any function has a domain of its own: else no call looks for one.
    domains: AtomicBool,
}

/// A function and the version of it that a request gets.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    pub(crate) route: Arc<FunctionRoute>,
    pub(crate) version: Arc<FunctionVersion>,
}

impl Table {
    pub(crate) fn new(state: &Path) -> Self {
        Self { dir: state.join("apps"), routes: Mutex::default(), domains: AtomicBool::new(false) }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads every snapshot. One that cannot be read is logged and left out: the others still answer.
    pub(crate) fn load_all(&self) {
        for tenant in entries(&self.dir) {
            for file in
                entries(&tenant).into_iter().filter(|path| path.extension().is_some_and(|e| e == "json"))
            {
                if let Err(error) = self.load(&file) {
                    tracing::error!(file = %file.display(), %error, "a snapshot cannot be read");
                }
            }
        }
    }

    /// Reads the snapshot of one app again. A snapshot that is gone takes its functions with it.
    pub(crate) fn reload(&self, tenant: &TenantId, app: &AppName) -> std::io::Result<()> {
        match self.load(&self.dir.join(tenant.as_str()).join(format!("{app}.json"))) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.change(|routes| routes.remove_app(tenant, app));
                Ok(())
            }
            other => other,
        }
    }

    fn load(&self, file: &Path) -> std::io::Result<()> {
        let mut snapshot: AppSnapshot = serde_json::from_slice(&std::fs::read(file)?)?;
        // A component's variables and what a webhook is signed with: the node looks for itself when it starts code.
        secrets::tell_all(self.dir.parent().unwrap_or(&self.dir), &mut snapshot);
        let versions = snapshot.functions.iter_mut().flat_map(|route| route.versions.values_mut());
        // Here once, and not at each call. The node tells those that it starts.
        for version in versions.filter(|version| version.contract == Contract::Component) {
            if version.egress.reaches_platform() {
                self.tell_of_platform(Arc::make_mut(version));
            }
        }
        self.change(|routes| routes.apply(snapshot));
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Routes)) {
        let mut routes = self.routes();
        change(&mut routes);
        self.domains.store(!routes.domains.is_empty(), Ordering::Relaxed);
    }

    /// The function whose own domain a host is.
    pub(crate) fn owner(&self, host: Option<&str>) -> Option<Arc<Owner>> {
        if !self.domains.load(Ordering::Relaxed) {
            return None;
        }
        let name = route::name(host?);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.routes().domains.get(name.as_str()).cloned()
    }

    /// Tells a component where the platform is and who it is there.
    fn tell_of_platform(&self, version: &mut FunctionVersion) {
        let state = self.dir.parent().unwrap_or(&self.dir);
        match FunctionKeys::open(state) {
            Ok(keys) => {
                let pairs = keys.environment(version, &format!("http://{PLATFORM_HOST}:{PLATFORM_PORT}"));
                version.env.extend(pairs);
            }
            Err(error) => {
                tracing::warn!(%error, version = %version.key(), "a function gets no key of its own")
            }
        }
    }

    /// The function and version for a request. `point` decides among the versions of a weighted alias. From outside,
    /// a function that is not public has no aliases to be guessed.
    pub(crate) fn pick(
        &self,
        target: &Target<'_>,
        outside: bool,
        point: impl FnOnce() -> u64,
    ) -> Result<Picked, Refusal> {
        let routes = self.routes();
        let route = routes.tenants.get(target.tenant).and_then(|functions| functions.get(target.function));
        let Some((_, route)) = route else { return Err(not_found(target)) };
        let number = match target.alias.unwrap_or(LIVE) {
            LATEST => Some(route.latest),
            alias => match route.aliases.get(alias) {
                Some(alias) => alias.pick(point()),
                None => alias.parse().ok(),
            },
        };
        let version = number.and_then(|number| route.versions.get(&number));
        match version {
            Some(version) => Ok(Picked { route: Arc::clone(route), version: Arc::clone(version) }),
            None if outside && !route.in_force().is_some_and(|live| live.invoke == InvokePolicy::Public) => {
                Err(not_found(target))
            }
            None => Err(Refusal::new(
                Code::AliasNotFound,
                format!(
                    "function '{}' has no alias or version '{}' that takes calls",
                    target.function,
                    target.alias.unwrap_or(LIVE)
                ),
            )
            .hint(format!("`rouse versions {}` shows which there are", target.function))),
        }
    }

    /// How many functions there are.
    pub(crate) fn len(&self) -> usize {
        self.routes().tenants.values().map(HashMap::len).sum()
    }
}

/// What is said of a function that is not there, and of one that is not for who asks: nobody learns which.
pub(crate) fn not_found(target: &Target<'_>) -> Refusal {
    Refusal::new(
        Code::FunctionNotFound,
        format!("no function '{}' of tenant '{}' answers you here", target.function, target.tenant),
    )
    .hint(
        "`rouse list` shows what is deployed; what does not say invoke = \"public\" takes calls with a key of its \
         tenant, as `authorization: Bearer <key>`, and what is of the Lambda API by `Invoke` or a function URL",
    )
}

impl Routes {
    fn remove_app(&mut self, tenant: &TenantId, app: &AppName) {
        if let Some(functions) = self.tenants.get_mut(tenant) {
            functions.retain(|_, (of, _)| of != app);
            if functions.is_empty() {
                self.tenants.remove(tenant);
            }
        }
        self.domains.retain(|_, owner| owner.tenant != *tenant || owner.app != *app);
    }

    /// Replaces all of an app at once: within the lock, so no request sees half of a deploy.
    fn apply(&mut self, snapshot: AppSnapshot) {
        self.remove_app(&snapshot.tenant, &snapshot.app);
        if snapshot.functions.is_empty() {
            return;
        }
        for route in &snapshot.functions {
            for domain in &route.domains {
                let (tenant, app) = (snapshot.tenant.clone(), snapshot.app.clone());
                let owner = Owner { tenant, app, function: route.function.clone() };
                self.domains.insert(domain.clone(), Arc::new(owner));
            }
        }
        let functions = self.tenants.entry(snapshot.tenant).or_default();
        for route in snapshot.functions {
            functions.insert(route.function.clone(), (snapshot.app.clone(), Arc::new(route)));
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        // Nothing was deployed yet.
        Err(_) => Vec::new(),
    }
}
