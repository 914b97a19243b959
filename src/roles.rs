//! The processes of the platform: composed here, created and started; all else is in the crates.

mod boot;
mod cluster;
mod compile;
mod control;
mod layout;
mod place;
mod supervisor;
mod tls;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use rouse_sandbox::container::ContainerDriver;
use rouse_services::objects::Place;
use rouse_store::access_keys::FunctionKeys;
use rouse_types::{Digest, SystemClock, access_key};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::cli::{
    args::{Global, ServeArgs},
    state::folder,
};
pub(crate) use control::{prices, runtimes};
use layout::State;
pub(crate) use layout::Unprivileged;
pub(crate) use place::credentials;
use supervisor::Process;

/// The spawner's socket, below `run`.
const SPAWNER_SOCKET: &str = "spawner.sock";
/// How long the node's calls may go on after the order to stop: less than the supervisor's patience.
const NODE_DRAIN: Duration = Duration::from_secs(30);
/// How long deliveries of events may: what is cut off is delivered again.
const EVENTS_DRAIN: Duration = Duration::from_secs(10);
/// The first user id of sandboxes: beyond those of people, services and the usual ranges of subordinate ids.
const SANDBOX_UID_FIRST: u32 = 1_900_000_000;
/// Sandboxes of one machine at once: some thousands fit a large one, and each takes a user id.
const SANDBOXES_MAX: u32 = 4_096;
/// The first user id of sandboxes of builds: each build has one that is its process id above this, which nobody else
/// has while it lives. Linux has at most 2^22 process ids.
const BUILD_UID_FIRST: u32 = SANDBOX_UID_FIRST + (1 << 20);
/// How long the processes may take to get ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// One process of the platform, with all that it is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Takes calls. See `rouse_gateway`.
    Gateway { state: PathBuf, index: usize, gateways: usize, domain: String, https: bool },
    /// Hands calls to other nodes of the cluster, and takes theirs. See `rouse_mesh`.
    Mesh { state: PathBuf, gateways: usize, listens: bool },
    /// Keeps events and delivers them. See `rouse_events`.
    Events { state: PathBuf, gateways: usize },
    /// Keeps objects. See `rouse_services`.
    Objects { state: PathBuf, place: Place },
    /// Checks that objects can be kept there, and ends.
    ObjectsCheck { state: PathBuf, place: Place },
    /// Owns the instances that are not components. See `rouse_node`.
    Node { state: PathBuf, memory_budget_bytes: u64 },
    /// Deploys, and answers for what is there. See `rouse_control`.
    Control {
        state: PathBuf,
        public_url: String,
        domain: String,
        compile: Vec<OsString>,
        https: bool,
        acme: Option<rouse_control::Acme>,
    },
    /// Takes what AWS' clients send. See `rouse_aws`.
    Aws { state: PathBuf, any_key: bool, https: bool },
    /// Forks and confines. See `rouse_sandbox::container::spawner`.
    Spawner { state: PathBuf, user: Option<Unprivileged> },
    /// The same for one build of the command line's: its socket lies in `folder`, and sandboxes see `mount_roots`.
    Builder { folder: PathBuf, mount_roots: Vec<PathBuf> },
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::Gateway { .. } => "gateway",
            Self::Mesh { .. } => "mesh",
            Self::Events { .. } => "events",
            Self::Objects { .. } => "objects",
            Self::ObjectsCheck { .. } => "objects-check",
            Self::Node { .. } => "node",
            Self::Control { .. } => "control",
            Self::Aws { .. } => "aws",
            Self::Spawner { .. } => "spawner",
            Self::Builder { .. } => "builder",
        }
    }
}

/// `rouse serve`: the supervisor, which starts the other processes and runs until it is told to stop.
pub(crate) fn serve(global: &Global, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    boot::log();
    let state = State::take(&folder(global))?;
    // Here and not in the node, which may not change what functions run.
    rouse_contract::lambda::runtime::install_clients(&state.path)
        .context("put the clients of runtimes in place")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let gateways = args.gateways.map_or(cores, |n| n as usize).min(rouse_gateway::GATEWAYS_MAX);
    let acme = tls::acme(&args.tls)?;
    let tls = tls::prepare(&state, &args.tls)?;
    let listeners = supervisor::gateway_listeners(args.listen, gateways, "--listen")?;
    let (tls_listen, certificates) = tls.unzip();
    let tls_listeners = tls_listen
        .map(|address| supervisor::gateway_listeners(address, gateways, "--tls-listen"))
        .transpose()?;
    let https = tls_listeners
        .as_ref()
        .map(|listeners| listeners[0].local_addr())
        .transpose()
        .context("ask for the address of HTTPS")?;
    let listen = listeners[0].local_addr().context("ask for the gateways' address")?;
    let control = supervisor::control_listener(args.control)?;
    let control_address = control.local_addr().context("ask for control's address")?;
    let aws = args.aws.0.map(supervisor::aws_listener).transpose()?;
    let aws_address = aws.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
    if https.is_none() {
        warn_of_plain("the control API", control_address);
        aws_address.inspect(|address| warn_of_plain("the address of AWS' clients", *address));
    }
    rouse_gateway::Counters::create(&state.run("counters"))?;
    state.give(&state.run("counters"))?;
    rouse_quota::Table::create(&state.run("quotas"))?;
    state.give(&state.run("quotas"))?;

    FunctionKeys::prepare(&state.path).context("make the secret of functions' keys")?;
    state.give(&state.path.join(access_key::FUNCTIONS_FILE))?;

    let place = place::prepare(&state, &args.objects)?;

    let mesh = cluster::listener(&args.join, listen)?;
    cluster::write(&state, &args.join, listen, mesh.as_ref())?;
    let path = state.path.clone();
    let gateway = |index| Role::Gateway {
        state: path.clone(),
        index,
        gateways,
        domain: args.domain.clone(),
        https: https.is_some(),
    };
    let mut tls_listeners = tls_listeners.unwrap_or_default().into_iter();
    let take_calls = listeners.into_iter().enumerate().map(|(index, listener)| Process {
        role: gateway(index),
        listener: Some(listener),
        second: tls_listeners.next(),
        privileged: false,
    });
    let memory_budget_bytes = args.memory_budget.unwrap_or_else(|| memory_bytes() / 4 * 3);
    let node = Role::Node { state: path.clone(), memory_budget_bytes };
    let compile = ["/proc/self/exe", "role", "compile"].map(OsString::from).to_vec();
    let public_url = public_url(listen, https, &args.domain);
    let face = Role::Aws { state: path.clone(), any_key: args.aws_any_key, https: https.is_some() };
    let deploy = Role::Control {
        state: path.clone(),
        public_url: public_url.clone(),
        domain: args.domain.clone(),
        compile,
        https: https.is_some(),
        acme,
    };
    let spawner = Role::Spawner { state: path.clone(), user: state.unprivileged };
    let unprivileged = |role, listener| vec![Process { role, listener, second: None, privileged: false }];
    let in_cluster = args.join.cluster.is_some();
    let calls = Role::Mesh { state: path.clone(), gateways, listens: mesh.is_some() };
    let processes = vec![
        take_calls.collect(),
        // After the gateways, whose calls are under way there.
        if in_cluster { unprivileged(calls, mesh) } else { Vec::new() },
        aws.map(|aws| unprivileged(face, Some(aws))).unwrap_or_default(),
        // Before events: what happens to objects is told there.
        unprivileged(Role::Objects { state: path.clone(), place }, None),
        // After the gateways: deliveries under way end while it still can note that.
        unprivileged(Role::Events { state: path.clone(), gateways }, None),
        unprivileged(node, None),
        unprivileged(deploy, Some(control)),
        vec![Process { role: spawner, listener: None, second: None, privileged: true }],
    ];
    let mut sockets: Vec<PathBuf> = (0..gateways).map(|i| state.run(&format!("gateway-{i}.sock"))).collect();
    sockets.extend(
        ["events.sock", "objects.sock", "s3.sock", "node.sock", "control.sock"].map(|name| state.run(name)),
    );
    sockets.extend(aws_address.map(|_| state.run("aws.sock")));
    sockets.extend(in_cluster.then(|| state.run("mesh.sock")));
    // What a predecessor left would look like readiness.
    for socket in &sockets {
        let _ = std::fs::remove_file(socket);
    }
    let addresses = serde_json::json!({ "functions": listen, "https": https, "control": control_address, "aws": aws_address });
    std::fs::write(state.run("addresses.json"), addresses.to_string()).context("write the addresses")?;
    let addresses = Addresses {
        functions: public_url,
        control: control_address,
        aws: aws_address,
        https: https.is_some(),
        any_key: args.aws_any_key,
    };
    let grace = args.join.cluster.is_some().then_some(args.join.stop_grace);
    let with_stdin = args.stop_with_stdin;
    boot::run(|stop| async move {
        let ready = announce(sockets, addresses, path, stop.clone());
        let orphaned = async {
            if with_stdin && stop.run_until_cancelled(boot::stdin_ends()).await.is_some() {
                stop.cancel();
            }
        };
        let supervised = supervisor::supervise(state, processes, grace, stop.clone());
        let followed = async {
            match certificates {
                Some(certificates) => certificates.follow(stop.clone()).await,
                None => Ok(()),
            }
        };
        let ((), (), ready, followed) = tokio::join!(supervised, orphaned, ready, followed);
        ready.and(followed)
    })
}

/// Where the platform answers.
struct Addresses {
    functions: String,
    control: SocketAddr,
    aws: Option<SocketAddr>,
    https: bool,
    any_key: bool,
}

/// An address of the platform's own, as people are told: by HTTPS it wants a name, which a certificate has, and plain HTTP is
/// for the loopback then.
fn shown(address: SocketAddr, https: bool) -> String {
    let (ip, port) = (address.ip(), address.port());
    match https {
        false => format!("http://{address}"),
        true if ip.is_loopback() => format!("https://localhost:{port}, or http://{address}"),
        true if ip.is_unspecified() => {
            format!("https://<a certificate's name>:{port}, from this machine http://127.0.0.1:{port}")
        }
        true => format!("https://<a certificate's name>:{port}"),
    }
}

/// Warns of an address that others reach without TLS: keys cross the network there as they are.
fn warn_of_plain(name: &str, address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "{name} is reached over the network without TLS: turn it on with --tls-listen, or leave it on the loopback"
        );
    }
}

/// Says that the platform is ready, or stops it when it does not get so.
async fn announce(
    sockets: Vec<PathBuf>,
    addresses: Addresses,
    state: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        ready = supervisor::wait_for(&sockets, READY_TIMEOUT) => if let Err(error) = ready {
            stop.cancel();
            return Err(error);
        },
    }
    #[expect(clippy::print_stdout, reason = "what a person who starts the platform needs to know")]
    {
        let Addresses { functions, control, aws, https, any_key } = addresses;
        println!("rouse {} is ready; Ctrl-C stops it", env!("CARGO_PKG_VERSION"));
        println!("  functions  {functions}/fn/<tenant>/<function>/");
        println!(
            "  control    {}  (token: {})",
            shown(control, https),
            state.join("control/token").display()
        );
        if let Some(aws) = aws {
            let keys = if any_key {
                "any access key is taken from this machine"
            } else {
                "keys: `rouse access-key create`"
            };
            println!("  aws        {}  ({keys})", shown(aws, https));
        }
    }
    Ok(())
}

/// Where functions answer, as people are told: by HTTPS where that is on, under the name that certificates have.
fn public_url(listen: SocketAddr, https: Option<SocketAddr>, domain: &str) -> String {
    match https.map(|https| https.port()) {
        None => format!("http://{listen}"),
        Some(443) => format!("https://{domain}"),
        Some(port) => format!("https://{domain}:{port}"),
    }
}

/// The machine's memory, in bytes.
fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// `rouse role NAME CONFIG SUPERVISOR`: one of the processes that the supervisor starts; or
/// `rouse role compile IN OUT`, which control starts.
pub(crate) fn role(args: &[OsString]) -> anyhow::Result<ExitCode> {
    boot::log();
    let text = |index: usize| args.get(index).and_then(|arg| arg.to_str()).unwrap_or_default();
    if text(0) == "compile" {
        return compile::run(Path::new(text(1)), Path::new(text(2)));
    }
    let role: Role =
        serde_json::from_str(text(1)).context("`rouse role` is started by `rouse` itself only")?;
    // A builder is told to stop, so that it removes what it made; the others leave that to the supervisor.
    let signal = if matches!(role, Role::Builder { .. }) { Signal::TERM } else { Signal::KILL };
    boot::end_with_supervisor(text(2).parse().context("the supervisor's process id")?, signal)?;
    match role {
        Role::Gateway { state, index, gateways, domain, https } => {
            gateway(state, index, gateways, domain, https)
        }
        Role::Mesh { state, gateways, listens } => mesh(state, gateways, listens),
        Role::Events { state, gateways } => events(state, gateways),
        Role::Objects { state, place } => objects(state, place),
        Role::ObjectsCheck { state, place } => place::check(state, place),
        Role::Node { state, memory_budget_bytes } => node(state, memory_budget_bytes),
        Role::Control { state, public_url, domain, compile, https, acme } => {
            control::run(state, public_url, domain, compile, https, acme)
        }
        Role::Aws { state, any_key, https } => aws(state, any_key, https),
        Role::Spawner { state, user } => spawner(&state, user),
        Role::Builder { folder, mount_roots } => builder(&folder, mount_roots),
    }
}

fn gateway(
    state: PathBuf,
    index: usize,
    gateways: usize,
    domain: String,
    https: bool,
) -> anyhow::Result<ExitCode> {
    let pricing = pricing(&state)?;
    let config = rouse_gateway::Config {
        state,
        index,
        gateways,
        domain,
        pool: rouse_wasm::Pool::default(),
        clock: Arc::new(SystemClock),
        pricing,
        // Only to measure what metering costs: see `cargo xtask bench meter`.
        metering: std::env::var_os("ROUSE_BENCH_NO_METERING").is_none(),
    };
    let listener = boot::listener()?;
    let https = https.then(boot::second_listener).transpose()?;
    boot::run(|stop| async move { Ok(rouse_gateway::serve(config, listener, https, stop).await?) })
}

/// What calls cost by the platform's price sheet, as it is now.
fn pricing(state: &Path) -> anyhow::Result<rouse_types::Pricing> {
    let sheet = control::prices(&state.join("prices.toml"))?;
    Ok(rouse_types::Pricing::new(move |usage| sheet.cost(usage).ok().map(|nanos| nanos.0)))
}

fn mesh(state: PathBuf, gateways: usize, listens: bool) -> anyhow::Result<ExitCode> {
    let listener = listens.then(boot::listener).transpose()?;
    let config = rouse_mesh::Config { state, listener, gateways };
    boot::run(|stop| async move { Ok(rouse_mesh::serve(config, stop).await?) })
}

fn events(state: PathBuf, gateways: usize) -> anyhow::Result<ExitCode> {
    let config = rouse_events::Config { state, gateways, drain: EVENTS_DRAIN, clock: Arc::new(SystemClock) };
    boot::run(|stop| async move { Ok(rouse_events::serve(config, stop).await?) })
}

fn objects(state: PathBuf, place: Place) -> anyhow::Result<ExitCode> {
    let config = rouse_services::Config { state, place, clock: Arc::new(SystemClock) };
    boot::run(|stop| async move { Ok(Box::pin(rouse_services::serve(config, stop)).await?) })
}

fn node(state: PathBuf, memory_budget_bytes: u64) -> anyhow::Result<ExitCode> {
    let run = state.join("run");
    let pricing = pricing(&state)?;
    let config = rouse_node::Config {
        pricing,
        socket: run.join("node.sock"),
        driver: ContainerDriver::new(&run.join(SPAWNER_SOCKET)),
        clock: Arc::new(SystemClock),
        memory_budget_bytes,
        starts_max: rouse_node::starts_max(
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ),
        drain: NODE_DRAIN,
        state,
    };
    boot::run(|stop| async move { Ok(rouse_node::serve(config, stop.cancelled_owned()).await?) })
}

fn aws(state: PathBuf, any_key: bool, https: bool) -> anyhow::Result<ExitCode> {
    let listener = boot::listener()?;
    let config = rouse_aws::Config { state, listener, https, any_key, clock: Arc::new(SystemClock) };
    boot::run(|stop| async move { Ok(rouse_aws::serve(config, stop).await?) })
}

/// Runs without a runtime: the process that forks has one thread.
fn spawner(state: &Path, user: Option<Unprivileged>) -> anyhow::Result<ExitCode> {
    let own = rustix::process::geteuid().as_raw();
    rouse_sandbox::container::spawner::run(rouse_sandbox::container::spawner::Config {
        socket: state.join("run").join(SPAWNER_SOCKET),
        owner: user.map_or((own, rustix::process::getegid().as_raw()), |user| (user.uid, user.gid)),
        instance: instance_name(state),
        mount_roots: ["code", "layers", "runtimes"].map(|folder| state.join(folder)).to_vec(),
        first_uid: SANDBOX_UID_FIRST,
        sandboxes_max: SANDBOXES_MAX,
        pool: rouse_sandbox::container::Pool::default(),
    })
    .context("run the spawner")?;
    Ok(ExitCode::SUCCESS)
}

/// A program that runs a [`Role::Builder`] as long as this process lives, with the socket that it will listen on.
///
/// # Errors
/// The role cannot be written down.
pub(crate) fn build_spawner(folder: &Path, mount_roots: Vec<PathBuf>) -> anyhow::Result<(Command, PathBuf)> {
    let role = Role::Builder { folder: folder.to_owned(), mount_roots };
    let mut command = Command::new("/proc/self/exe");
    command.arg("role").arg(role.name()).arg(serde_json::to_string(&role).context("write down a role")?);
    command.arg(std::process::id().to_string());
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "error");
    }
    Ok((command, folder.join(SPAWNER_SOCKET)))
}

fn builder(folder: &Path, mount_roots: Vec<PathBuf>) -> anyhow::Result<ExitCode> {
    let pid = std::process::id();
    rouse_sandbox::container::spawner::run(rouse_sandbox::container::spawner::Config {
        socket: folder.join(SPAWNER_SOCKET),
        owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        instance: format!("build-{pid}"),
        mount_roots,
        first_uid: BUILD_UID_FIRST + pid,
        sandboxes_max: 1,
        pool: rouse_sandbox::container::Pool {
            floor: 0,
            most: 0,
            memory_bytes: 0,
            zygotes_most: 0,
            zygotes_bytes: 0,
            forks_most: 0,
            started_most: 0,
            started_bytes: 0,
        },
    })
    .context("run a build's spawner")?;
    Ok(ExitCode::SUCCESS)
}

/// Names this installation on its host: two state folders are two platforms.
fn instance_name(state: &Path) -> String {
    Digest::of(state.as_os_str().as_encoded_bytes()).hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_of_https_where_it_is_on() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let http = address("127.0.0.1:8080");
        assert_eq!(public_url(http, None, "example.com"), "http://127.0.0.1:8080");
        assert_eq!(public_url(http, Some(address("0.0.0.0:443")), "example.com"), "https://example.com");
        assert_eq!(public_url(http, Some(address("[::]:8443")), "localhost"), "https://localhost:8443");
    }

    #[test]
    fn two_state_folders_are_two_installations() {
        assert_eq!(instance_name(Path::new("/a")), instance_name(Path::new("/a")));
        assert_ne!(instance_name(Path::new("/a")), instance_name(Path::new("/b")));
    }
}
