//! All that control holds while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rouse_api::DeployedFunction;
use rouse_store::{Blobs, Records};
use rouse_types::{AppName, Digest, FunctionName, Refusal, TenantId};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::{
    Config, Error,
    cluster::{self, Shared},
    code::{Compiler, Store},
    gate::Gate,
    image::Images,
    issuers::Issuers,
    locks::Locks,
    metrics::Metrics,
    peers::Peers,
    quota::Quotas,
    slots::{self, Slots},
    state::{self, Deployment, Function},
    tenants,
    token::Token,
    usage::Usage,
};

/// Disk that uploads leave free, so that journals and records have room.
const RESERVE_BYTES: u64 = 256 << 20;

/// Disk that must be free for a deployment: the largest compiled component, and records.
const DEPLOY_BYTES: u64 = 64 << 20;

/// The process' state, shared by all that it does.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) config: Config,
    /// Its place in a cluster; none on a machine that is alone.
    pub(crate) shared: Option<Shared>,
    pub(crate) records: Records,
    pub(crate) blobs: Blobs,
    pub(crate) code: Store,
    pub(crate) images: Images,
    pub(crate) compiler: Compiler,
    pub(crate) peers: Peers,
    pub(crate) locks: Locks,
    pub(crate) metrics: Metrics,
    pub(crate) token: Token,
    pub(crate) usage: Usage,
    /// What must not die with the connection that asked for it.
    pub(crate) tasks: TaskTracker,
    /// Wakes whoever puts snapshots right.
    pub(crate) reconcile: Notify,
    /// Wakes whoever gets certificates: the domains may have changed.
    pub(crate) domains: Notify,
    slots: Mutex<Slots>,
    pub(crate) quotas: Quotas,
    /// The keys of those whose tokens are taken.
    pub(crate) issuers: Issuers,
    /// How many may try to sign in.
    pub(crate) gate: Gate,
    /// Code that nothing names, since when; see `collect`.
    pub(crate) unwanted: Mutex<BTreeMap<Digest, Instant>>,
}

impl Control {
    pub(crate) async fn open(config: Config) -> Result<Arc<Self>, Error> {
        let state = config.state.clone();
        let folders = ["control", "code", "compiled", "apps", "blobs", "run"];
        for folder in folders {
            std::fs::create_dir_all(state.join(folder)).map_err(Error::io("make the state's folders"))?;
        }
        let token = Token::open(&state).map_err(Error::io("make the token"))?;
        let (records, shared) = match Box::pin(cluster::join(&config)).await? {
            Some((records, shared)) => (records, Some(shared)),
            None => (Records::open(&state.join("control").join("rouse.db"))?, None),
        };
        let blobs = Blobs::open(&state.join("blobs"), RESERVE_BYTES)?;
        let code = Store::open(&state, &config.engine_tag).map_err(Error::io("open the folders of code"))?;
        let images = Images::open(&state, &config.insecure_registries)
            .map_err(Error::io("open the folder of layers"))?;
        let functions =
            state::scan::<Function>(&records, state::FUNCTIONS, "").await.map_err(Error::State)?;
        let taken: BTreeSet<u32> = functions.iter().filter_map(|at| at.value.slot).collect();
        tenants::adopt(&records, config.clock.now()).await.map_err(Error::State)?;
        let usage = Usage::open(&config, shared.as_ref()).await?;
        let quotas = Quotas::open(&records, &state).await?;
        Ok(Arc::new(Self {
            shared,
            records,
            blobs,
            code,
            images,
            compiler: Compiler::new(config.compile_command.clone()),
            peers: Peers::new(&state),
            locks: Locks::default(),
            metrics: Metrics::default(),
            token,
            usage,
            quotas,
            issuers: Issuers::default(),
            gate: Gate::default(),
            tasks: TaskTracker::new(),
            reconcile: Notify::new(),
            domains: Notify::new(),
            slots: Mutex::new(Slots::without(&taken, slots::FUNCTIONS_MAX)),
            unwanted: Mutex::default(),
            config,
        }))
    }

    /// Whether the disk has room for a deployment.
    pub(crate) fn check_space(&self) -> Result<(), Refusal> {
        let space = rustix::fs::statvfs(&self.config.state)
            .map_err(|errno| state::io_refusal("look at the free space", &errno.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < DEPLOY_BYTES { Err(state::full()) } else { Ok(()) }
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Code that is being deployed: its time as unwanted begins anew.
    pub(crate) fn in_use(&self, digest: Digest) {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
    }

    /// Where a function answers.
    pub(crate) fn url(&self, tenant: &TenantId, function: &FunctionName) -> String {
        format!("{}/fn/{tenant}/{function}/", self.config.public_url.trim_end_matches('/'))
    }

    /// A deployment as the API shows it.
    pub(crate) fn told(
        &self,
        tenant: &TenantId,
        app: &AppName,
        deployment: Deployment,
        live: bool,
    ) -> rouse_api::Deployment {
        let Deployment { number, created, message, functions } = deployment;
        let functions = functions
            .into_iter()
            .map(|each| DeployedFunction {
                url: self.url(tenant, &each.function),
                function: each.function,
                version: each.version,
                changed: each.changed,
                domains: each.domains,
            })
            .collect();
        rouse_api::Deployment {
            tenant: tenant.clone(),
            app: app.clone(),
            number,
            created,
            message,
            live,
            functions,
        }
    }
}
