//! What control does where there are several machines: it is a member of the cluster, and makes what others deployed
//! answer here, too.
//!
//! ```text
//!   deploy on a ─▶ code shared ─▶ records committed ─▶ a answers
//!                                     └─(watch)─▶ b: fetch code, unpack or compile ─▶ snapshot ─▶ b answers
//! ```

pub(crate) mod identity;
pub(crate) mod logs;
mod neighbours;
mod standing;

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use rouse_api::{ClusterMember, ClusterStatus, DeployRequest};
use rouse_metering::{audit::key::Key, ledger::shared as ledger};
use rouse_store::{
    Cluster, Records,
    cluster::{
        Settings,
        blobs::Blobs,
        leases::Leases,
        members::{Member, Membership, RENEW_EVERY, Refused, View},
        tables::Tables,
    },
    records::Expect,
};
use rouse_types::{
    AppName, Code, Digest, Isolation, NodeState, Refusal, Runtime, TenantId, Work, node::Load,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::standing::Standing;
use crate::{
    Config, Error, code,
    control::Control,
    deploy, keys,
    slots::{self, Slots},
    snapshot,
    state::{self, Function},
};

/// The store of control in a cluster.
const STORE: &str = "control";
/// The namespace and key that every change of slots writes: two nodes cannot give one slot twice.
const SLOTS: (&str, &str) = ("cluster", "slots");
/// The pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// This node's place in its cluster.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    cluster: Cluster,
    blobs: Blobs,
    leases: Leases,
    /// What this node says of itself, but for how it stands.
    about: Member,
    membership: Mutex<Membership>,
    view: Mutex<View>,
    standing: std::sync::Mutex<Standing>,
}

/// Joins the cluster that this node's file names; none if it names none.
pub(crate) async fn join(config: &Config) -> Result<Option<(Records, Shared)>, Error> {
    let Some(settings) = Settings::read(&config.state)? else { return Ok(None) };
    let folder = config.state.join("control");
    if folder.join("rouse.db").exists() {
        return Err(Error::State(
            Refusal::new(
                Code::BadRequest,
                "this node's state folder holds what was deployed on this machine alone, which a cluster does not take over",
            )
            .hint("give the node an empty folder by --state, and deploy to the cluster"),
        ));
    }
    let cluster = Cluster::join(&settings.engine).await?;
    let standing = Standing::new(rouse_store::cluster::standing::read(&config.state)?);
    let about = Member { state: standing.state, ..about(config, &settings) };
    let membership = member(&cluster, &folder, &about).await?;
    let records = Records::join(&cluster, STORE, &folder.join("records")).await?;
    let shared = Shared {
        blobs: Blobs::open(&cluster).await?,
        leases: Leases::open(&cluster).await?,
        about,
        membership: Mutex::new(membership),
        view: Mutex::default(),
        standing: std::sync::Mutex::new(standing),
        settings,
        cluster,
    };
    tracing::info!(node = shared.settings.node, zone = shared.settings.zone, "joined the cluster");
    Ok(Some((records, shared)))
}

/// What this node says of itself.
fn about(config: &Config, settings: &Settings) -> Member {
    let memory = rustix::system::sysinfo();
    let offered = config.isolations.iter().filter(|info| info.available);
    let sandboxes = offered.map(|info| match info.isolation {
        Isolation::Wasm => "wasm".to_owned(),
        Isolation::Container => "container".to_owned(),
    });
    Member {
        node: settings.node.clone(),
        zone: settings.zone.clone(),
        address: settings.address.clone(),
        version: config.version.clone(),
        cores: std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        memory_bytes: (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit)),
        sandboxes: sandboxes.collect(),
        state: NodeState::Active,
        work: Work::default(),
        mesh: settings.mesh.clone(),
        load: Load::default(),
    }
}

async fn member(cluster: &Cluster, folder: &Path, about: &Member) -> Result<Membership, Error> {
    Membership::join(cluster, folder, about.clone()).await.map_err(|refused| match refused {
        Refused::Store(error) => Error::Store(error),
        other => Error::State(Refusal::new(Code::BadRequest, other.to_string())),
    })
}

impl Shared {
    /// This node's name.
    pub(crate) fn node(&self) -> &str {
        &self.settings.node
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Whether this node is the first of the members that take work, for what one of them is enough for.
    pub(crate) async fn is_first(&self) -> bool {
        let view = self.view.lock().await;
        let members = || view.members().iter().map(|seen| &seen.member);
        let willing = members().filter(|member| member.state.takes_work()).map(|member| &member.node).min();
        willing.or_else(|| members().map(|member| &member.node).min()) == Some(&self.settings.node)
    }

    /// The ledger of all nodes, by this node's prices from now on, and the key that seals it.
    pub(crate) async fn ledger(&self, config: &Config) -> Result<(Tables, Key), Error> {
        let folder = config.state.join("control").join("ledger");
        std::fs::create_dir_all(&folder).map_err(Error::io("make the ledger's folder"))?;
        // The key is among the tables.
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&folder, private).map_err(Error::io("close the ledger's folder"))?;
        let tables =
            Tables::join(&self.cluster, ledger::NAME, &folder, &ledger::schema(), ledger::replay).await?;
        let key = Key::generate().map_err(|error| Error::io("make a key")(std::io::Error::other(error)))?;
        let begun = tables.write(ledger::Begin { key, sheet: config.prices.to_toml() }).await;
        begun.map_err(|error| match error {
            rouse_store::Error::Invalid(why) => Error::State(Refusal::new(Code::BadRequest, why)),
            other => Error::Store(other),
        })?;
        let key = tables.read(ledger::key).await?;
        let none = || Error::State(Refusal::new(Code::Internal, "the cluster's ledger has no key"));
        Ok((tables, key.ok_or_else(none)?))
    }
}

/// Says that this node is there, and looks who else is, until it is told to stop, or that it will be: then it leaves, so
/// that the others take over while it finishes what runs.
pub(crate) async fn live(control: Arc<Control>, stop: CancellationToken) {
    let Some(shared) = &control.shared else { return };
    let mut every = tokio::time::interval(RENEW_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
            () = control.config.closing.cancelled() => {
                shared.begin_to_stop();
                tokio::join!(control.leave(), control.stand(shared));
                return;
            }
        }
        let standing = control.stand(shared).await;
        let load = control.load().await;
        let about = Member { state: standing.state, work: standing.work, load, ..shared.about.clone() };
        let renewed = shared.membership.lock().await.renew(&about).await;
        match renewed {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("this node was taken for gone; it joins again");
                let folder = control.config.state.join("control");
                match member(&shared.cluster, &folder, &about).await {
                    Ok(again) => *shared.membership.lock().await = again,
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "cannot join again")
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster does not hear of this node");
                control.tell_neighbours(shared, &about).await;
                continue;
            }
        }
        match shared.view.lock().await.look(&shared.leases).await {
            Ok(changes) => {
                for node in changes.gone {
                    tracing::warn!(node, "a node is gone");
                }
                for node in changes.came {
                    tracing::info!(node, "a node joined");
                }
            }
            Err(error) => tracing::warn!(%error, "the members of the cluster are not seen"),
        }
        control.tell_neighbours(shared, &about).await;
    }
}

/// Makes what is deployed anywhere answer here, until it is told to stop.
pub(crate) async fn follow(control: Arc<Control>, stop: CancellationToken) {
    if control.shared.is_none() {
        return;
    }
    let mut after = None;
    while !stop.is_cancelled() {
        let from = match after {
            Some(from) => from,
            None => match control.records.revision().await {
                Ok(from) => from,
                Err(_) => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            },
        };
        // From the begin of this, whatever was missed is seen by the reconciler.
        let mut apps = control.records.watch(state::APPS, "", from);
        let mut keys = control.records.watch(state::KEYS, "", from);
        control.reconcile.notify_one();
        after = None;
        loop {
            let change = tokio::select! {
                change = apps.next() => change.map(|change| Some(change.key)),
                change = keys.next() => change.map(|_| None),
                () = stop.cancelled() => return,
            };
            let done = match change {
                Ok(Some(app)) => match snapshot::split(&app) {
                    Some((tenant, app)) => control.take_up(&tenant, &app).await,
                    None => Ok(()),
                },
                Ok(None) => keys::write(&control.records, &control.config.state).await,
                Err(error) => {
                    tracing::warn!(%error, "following what is deployed anew");
                    tokio::time::sleep(RETRY).await;
                    break;
                }
            };
            if let Err(refusal) = done {
                tracing::error!(%refusal, "a change of another node does not answer here yet");
                control.reconcile.notify_one();
            }
        }
    }
}

fn no_cluster() -> Refusal {
    Refusal::new(Code::BadRequest, "this machine is in no cluster")
        .hint("`rouse serve --cluster nats://… --node NAME --zone ZONE` joins one")
}

impl Control {
    /// Makes an app's latest change answer here.
    async fn take_up(&self, tenant: &TenantId, app: &AppName) -> Result<(), Refusal> {
        self.obtain(tenant, app).await?;
        if snapshot::write(&self.records, &self.locks, &self.config.state, tenant, app).await? {
            self.peers.notify(tenant, app).await;
        }
        Ok(())
    }

    /// Has the code of what is live of an app in its place on this machine: another node deployed it, a backup was restored, or
    /// this release compiles otherwise than the one before.
    pub(crate) async fn obtain(&self, tenant: &TenantId, app: &AppName) -> Result<(), Refusal> {
        let Some(snapshot) = snapshot::build(&self.records, tenant, app).await? else { return Ok(()) };
        for version in snapshot.functions.iter().flat_map(|function| function.versions.values()) {
            // An image's layers are kept unpacked.
            if version.runtime == Runtime::Image {
                continue;
            }
            self.obtain_code(&version.code, &version.runtime).await?;
            if let Some(layers) = version.layers().filter(|layers| !self.code.place(layers).is_dir()) {
                self.fetch(&layers).await?;
                deploy::prepare_layers(self, layers).await?;
            }
        }
        Ok(())
    }

    async fn obtain_code(&self, digest: &Digest, runtime: &Runtime) -> Result<(), Refusal> {
        let _lock = self.locks.hold(format!("code {digest}")).await;
        self.in_use(*digest);
        let is_component = *runtime == Runtime::Component;
        let there = if is_component {
            self.code.compiled(digest).is_file()
        } else {
            self.code.place(digest).is_dir()
        };
        if there {
            return Ok(());
        }
        self.fetch(digest).await?;
        let (store, blobs, digest, runtime) =
            (self.code.clone(), self.blobs.clone(), *digest, runtime.clone());
        let installed = tokio::task::spawn_blocking(move || store.install(&blobs, &digest, &runtime)).await;
        installed.map_err(|error| state::io_refusal("unpack code", &std::io::Error::other(error)))??;
        if is_component {
            Box::pin(self.compiler.compile(&self.code, &digest)).await?;
        }
        Ok(())
    }

    /// Has a blob on this machine.
    async fn fetch(&self, digest: &Digest) -> Result<(), Refusal> {
        let Some(shared) = &self.shared else {
            return self.blobs.path(digest).map(|_| ()).ok_or_else(|| code::missing(digest));
        };
        match shared.blobs.fetch(&self.blobs, digest).await.map_err(|error| state::refusal(&error))? {
            true => Ok(()),
            false => Err(code::missing(digest)),
        }
    }

    /// Gives the cluster the code of a deployment, before anybody is told of it.
    pub(crate) async fn spread(&self, request: &DeployRequest) -> Result<(), Refusal> {
        let Some(shared) = &self.shared else { return Ok(()) };
        for function in &request.functions {
            if function.runtime == Runtime::Image {
                let what = format!(
                    "function '{}' is an image, which the nodes of a cluster do not share yet",
                    function.name
                );
                return Err(Refusal::new(Code::IsolationUnavailable, what)
                    .hint("deploy a source folder or a component instead"));
            }
            let layers = function.lambda.as_ref().and_then(|lambda| lambda.layers);
            for digest in function.code.into_iter().chain(layers) {
                shared.blobs.share(&self.blobs, &digest).await.map_err(|error| state::refusal(&error))?;
            }
        }
        Ok(())
    }

    /// Before a change is planned: who else has which slot; gives the write by which two nodes cannot give one
    /// slot twice. None on a machine that is alone.
    pub(crate) async fn agree_on_slots(&self) -> Result<Option<rouse_store::records::Write>, Refusal> {
        if self.shared.is_none() {
            return Ok(None);
        }
        let (namespace, key) = SLOTS;
        let failed = |error: rouse_store::Error| state::refusal(&error);
        self.records.catch_up().await.map_err(failed)?;
        let at = self.records.get(namespace, key).await.map_err(failed)?;
        let functions = state::scan::<Function>(&self.records, state::FUNCTIONS, "").await?;
        *self.slots() =
            Slots::without(&functions.iter().filter_map(|at| at.value.slot).collect(), slots::FUNCTIONS_MAX);
        Ok(Some(rouse_store::records::Write {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            expect: at.map_or(Expect::Absent, |at| Expect::At(at.revision)),
            value: Some(Vec::new()),
        }))
    }

    /// What this node knows of the cluster.
    pub(crate) async fn cluster_status(&self) -> Result<ClusterStatus, Refusal> {
        let Some(shared) = &self.shared else {
            return Err(no_cluster());
        };
        let view = shared.view.lock().await;
        let members = view.members().iter().map(|seen| {
            let member = seen.member.clone();
            ClusterMember {
                node: member.node,
                zone: member.zone,
                address: member.address,
                version: member.version,
                cores: member.cores,
                memory_bytes: member.memory_bytes,
                sandboxes: member.sandboxes,
                state: member.state,
                work: member.work,
            }
        });
        Ok(ClusterStatus {
            node: shared.settings.node.clone(),
            engine: shared.cluster.is_connected(),
            seen_ms_ago: view.age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            members: members.collect(),
        })
    }

    /// Leaves, so that others need not wait until this node is missed.
    pub(crate) async fn leave(&self) {
        if let Some(shared) = &self.shared {
            let left = shared.membership.lock().await.leave().await;
            if let Err(error) = left {
                tracing::warn!(%error, "the cluster does not hear that this node leaves");
            }
        }
    }
}
