//! A sandbox from its first instruction on, inside its new namespaces, in two halves. The first needs no spec, so a
//! pool can have it done ahead:
//!
//! ```text
//!  build:     enter groups ─▶ root ─▶ loopback, usual sockets ─▶ fork ─┬─▶ init: waits for the spec
//!                                                                     └─▶ code: drop every privilege ─▶ seccomp ─▶ wait
//!  activate:  init: listeners ─▶ mounts of the spec ─▶ the spec to the code ─▶ drop every privilege ─▶ reap, tell the end
//!             code: limits of its own ─▶ exec
//! ```
//!
//! What goes wrong is told on `line`, which the code's `exec` closes: its end without a word means success.
//!
//! A zygote's sandbox and those of its forks have a user namespace of their own (`owned`). The code of the latter
//! comes from outside, by itself, and init only reaps. An interpreter that shall become the code itself is started
//! between the halves (`started`).

mod code;
mod init;
mod owned;
mod started;

use std::{
    convert::Infallible,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::Mode,
    process::{
        PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, set_parent_process_death_signal, umask, waitpid,
    },
    system::sethostname,
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, configure_capability_in_ambient_set, set_capabilities,
        set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup,
    full::{self, Link},
    image,
    network::{self, Usual},
    rootfs,
    seccomp::Filters,
    sys,
    wire::{self, Refused},
};
use crate::{Exit, Root, Spec};

/// When the host itself runs out of memory, sandboxes go before the platform does, whose own score may be low:
/// `proc_pid_oom_score_adj(5)`.
const OOM_SCORE_ADJUST: &str = "500";

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ready {
    /// A process on the way to the first one, which is to be reaped: the message carries its pidfd.
    Helper,
    /// All that needs no spec is done. Where the first process is not the one that was forked, the message carries
    /// its pidfd, then its namespaces, in the order of [`NAMESPACES`].
    Built,
    /// The sockets stand; the message carries them. A fork's sandbox is then whole.
    Listening,
    /// It cannot be.
    Failed(Refused),
    /// Of a zygote's sandbox: a process that it adopted, or the zygote itself, has ended.
    Ended { pid: i32, zygote: bool, exit: Exit },
}

/// Namespaces that a fork enters, as `/proc/self/ns` has them.
pub(super) const NAMESPACES: [&str; 6] = ["mnt", "net", "ipc", "uts", "pid", "cgroup"];

/// What the child is told, once. The message carries the trees of the spec's mounts, in their order, and then those of
/// its layers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Activate {
    pub(super) spec: Spec,
    /// Its end of a network, if it has one.
    pub(super) link: Option<Link>,
}

/// Whose user namespace a sandbox' other namespaces belong to.
pub(super) enum Owner<'a> {
    /// The host's. The code is executed.
    Host,
    /// A new one: the sandbox is a zygote's. It is spoken to through this end.
    Zygote(OwnedFd),
    /// That of the zygote whose first process this is. The code is forked by the zygote.
    Fork(BorrowedFd<'a>),
    /// The host's. An interpreter is executed, and is told through this end that it is the code.
    Started(OwnedFd),
}

/// All that the first half needs, and the ends that it hands on.
pub(super) struct Plan<'a> {
    pub(super) owner: Owner<'a>,
    /// An empty folder of the host to build the root over.
    pub(super) root: &'a Path,
    pub(super) filters: &'a Filters,
    /// User and group of the code.
    pub(super) uid: u32,
    pub(super) tasks: Vec<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// A socket pair's end: says [`Ready`], hears [`Activate`].
    pub(super) line: OwnedFd,
    /// A pipe's end: takes how the code ended.
    pub(super) status: OwnedFd,
}

/// Ends this process also when it panics: the frames above are the spawner's, copied.
struct NeverReturn;

impl Drop for NeverReturn {
    fn drop(&mut self) {
        sys::exit_now(101);
    }
}

/// Runs the child; never returns to the spawner's loop, whose copy is left as it is.
pub(super) fn run(plan: &Plan<'_>) -> ! {
    let _guard = NeverReturn;
    let Err(refused) = confine(plan);
    // If the spawner is gone there is nobody to tell.
    let _ = wire::send(plan.line.as_fd(), &Ready::Failed(refused), &[]);
    sys::exit_now(1)
}

fn confine(plan: &Plan<'_>) -> Result<Infallible, Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    let usual = build(plan)?;
    let handles = match plan.owner {
        Owner::Host | Owner::Started(_) => Vec::new(),
        Owner::Zygote(_) | Owner::Fork(_) => handles().map_err(step("open the namespaces"))?,
    };
    let code = match plan.owner {
        Owner::Host => Some(code::ahead(plan)?),
        Owner::Zygote(_) | Owner::Fork(_) | Owner::Started(_) => None,
    };
    wire::send(plan.line.as_fd(), &Ready::Built, &wire::borrowed(&handles))
        .map_err(step("tell the spawner"))?;
    drop(handles);
    let told = wire::receive::<Activate>(plan.line.as_fd()).map_err(step("hear the spawner"))?;
    // Its end without a word: this one is not needed any more.
    let Some((Activate { spec, link }, trees)) = told else { sys::exit_now(0) };
    if let Owner::Started(_) = plan.owner {
        return started::run(plan, usual, &spec, trees);
    }
    if let Some(link) = link {
        full::set_up(link).map_err(step("set up the network"))?;
    }
    let sockets = network::open(&spec, usual).map_err(step("listen inside the sandbox"))?;
    let (mounts, layers) = trees.split_at(spec.mounts.len().min(trees.len()));
    match &spec.root {
        Root::Host => rootfs::finish(&spec, mounts, &[])?,
        Root::Layers(_) => image::enter(&spec, mounts, layers, plan.uid)?,
    }
    drop(trees);
    wire::send(plan.line.as_fd(), &Ready::Listening, &wire::borrowed(&sockets))
        .map_err(step("hand over the listeners"))?;
    drop(sockets);
    if let Some((code, end)) = code {
        wire::send(end.as_fd(), &spec, &[]).map_err(step("tell the code's process"))?;
        return init::run(plan, code);
    }
    if let Owner::Fork(_) = plan.owner {
        return init::linger(plan);
    }
    if let Owner::Zygote(_) = plan.owner {
        skip_a_number().map_err(step("fork"))?;
    }
    match sys::fork().map_err(step("fork"))? {
        Some(code) => init::run(plan, code),
        None => code::run(plan, &spec),
    }
}

/// The first half, up to the first process of the sandbox. Gives the usual sockets.
fn build(plan: &Plan<'_>) -> Result<Usual, Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    begin(plan)?;
    rootfs::build(plan.root, plan.uid)?;
    match &plan.owner {
        Owner::Host | Owner::Started(_) => {
            sys::unshare_cgroup_namespace().map_err(step("make a control group namespace"))?;
        }
        Owner::Zygote(_) => owned::own(plan)?,
        Owner::Fork(zygote) => owned::join(plan, *zygote)?,
    }
    rootfs::own()?;
    let usual = Usual::open().map_err(step("listen inside the sandbox"))?;
    sethostname(b"sandbox").map_err(|e| step("name the sandbox")(e.into()))?;
    Ok(usual)
}

#[expect(unsafe_code, reason = "closes what this copy of the spawner's memory still names")]
fn begin(plan: &Plan<'_>) -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    sys::default_signals();
    // Whatever the spawner's own is: the code, another user, must be able to see its root.
    umask(Mode::WGRP | Mode::WOTH);
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| step("die with the spawner")(e.into()))?;
    cgroup::join(&plan.tasks).map_err(step("join the control groups"))?;
    let mut kept = [&plan.stdout, &plan.stderr, &plan.line, &plan.status].map(AsFd::as_fd).to_vec();
    match &plan.owner {
        Owner::Host => {}
        Owner::Zygote(end) | Owner::Started(end) => kept.push(end.as_fd()),
        Owner::Fork(zygote) => kept.push(*zygote),
    }
    // SAFETY: from here on only these are used, and this process ends without dropping anything that the
    // spawner had opened. It may wait long, and other sandboxes' ends must not stay open for that.
    unsafe { sys::close_all_but(&kept) }.map_err(step("let go of other sandboxes"))?;
    fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUST).map_err(step("be the first to go"))
}

/// This process and its namespaces, for those who are to find them.
fn handles() -> io::Result<Vec<OwnedFd>> {
    let mut handles = vec![pidfd_open(getpid(), PidfdFlags::empty())?];
    for name in NAMESPACES {
        handles.push(fs::File::open(format!("/proc/self/ns/{name}"))?.into());
    }
    Ok(handles)
}

/// Takes the number that the code of every sandbox has, so that a zygote has another one than its forks: libraries
/// (OpenSSL's random numbers among them) know by their process' number that they were forked.
fn skip_a_number() -> io::Result<()> {
    match sys::fork()? {
        None => sys::exit_now(0),
        Some(pid) => waitpid(Some(pid), WaitOptions::empty()).map(drop).map_err(Into::into),
    }
}

fn drop_privileges(uid: u32) -> io::Result<()> {
    set_thread_groups(&[])?;
    drop_privileges_but(CapabilitySet::empty(), uid)
}

/// Becomes a user, with some capabilities over the user namespace that this process is in.
fn drop_privileges_but(kept: CapabilitySet, uid: u32) -> io::Result<()> {
    sys::drop_bounding_set(kept)?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    set_thread_res_gid(group, group, group)?;
    // Leaving the host's uid 0 empties the effective, permitted and ambient sets.
    set_thread_res_uid(user, user, user)?;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    for capability in kept.iter() {
        // What an `exec` keeps.
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(set_no_new_privs(true)?)
}
