//! A sandbox from its first instruction on, inside its new namespaces, in two halves. The first needs no spec, so a
//! pool can have it done ahead:
//!
//! ```text
//!  build:     enter groups ─▶ loopback, usual sockets ─▶ root ─▶ wait for the spec
//!  activate:  listeners ─▶ mounts of the spec ─▶ fork ─┬─▶ init: reaps, tells how the code ended
//!                                                      └─▶ code: drop every privilege ─▶ seccomp ─▶ exec
//! ```
//!
//! What goes wrong is told on `line`, which the code's `exec` closes: its end without a word means success.

mod code;
mod init;

use std::{
    convert::Infallible,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::Mode,
    process::{Signal, set_parent_process_death_signal, umask},
    system::sethostname,
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup, image,
    network::{self, Usual},
    rootfs,
    seccomp::Filters,
    sys,
    wire::{self, Refused},
};
use crate::{Root, Spec};

/// When the host itself runs out of memory, sandboxes go before the platform does, whose own score may be low:
/// `proc_pid_oom_score_adj(5)`.
const OOM_SCORE_ADJUST: &str = "500";

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ready {
    /// All that needs no spec is done.
    Built,
    /// The sockets stand; the message carries them.
    Listening,
    /// It cannot be.
    Failed(Refused),
}

/// What the child is told, once. The message carries the trees of the spec's mounts, in their order, and then those of
/// its layers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Activate {
    pub(super) spec: Spec,
}

/// All that the first half needs, and the ends that it hands on.
pub(super) struct Plan<'a> {
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
    wire::send(plan.line.as_fd(), &Ready::Built, &[]).map_err(step("tell the spawner"))?;
    let told = wire::receive::<Activate>(plan.line.as_fd()).map_err(step("hear the spawner"))?;
    // Its end without a word: this one is not needed any more.
    let Some((Activate { spec }, trees)) = told else { sys::exit_now(0) };
    let sockets = network::open(&spec, usual).map_err(step("listen inside the sandbox"))?;
    wire::send(plan.line.as_fd(), &Ready::Listening, &wire::borrowed(&sockets))
        .map_err(step("hand over the listeners"))?;
    drop(sockets);
    let (mounts, layers) = trees.split_at(spec.mounts.len().min(trees.len()));
    match &spec.root {
        Root::Host => rootfs::finish(&spec, mounts)?,
        Root::Layers(_) => image::enter(&spec, mounts, layers, plan.uid)?,
    }
    drop(trees);
    match sys::fork().map_err(step("fork"))? {
        Some(code) => init::run(plan, code),
        None => code::run(plan, &spec),
    }
}

/// The first half. Gives the usual sockets.
#[expect(unsafe_code, reason = "closes what this copy of the spawner's memory still names")]
fn build(plan: &Plan<'_>) -> Result<Usual, Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    sys::default_signals();
    // Whatever the spawner's own is: the code, another user, must be able to see its root.
    umask(Mode::WGRP | Mode::WOTH);
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| step("die with the spawner")(e.into()))?;
    cgroup::join(&plan.tasks).map_err(step("join the control groups"))?;
    let kept = [&plan.stdout, &plan.stderr, &plan.line, &plan.status].map(AsFd::as_fd);
    // SAFETY: from here on only these are used, and this process ends without dropping anything that the
    // spawner had opened. It may wait long, and other sandboxes' ends must not stay open for that.
    unsafe { sys::close_all_but(&kept) }.map_err(step("let go of other sandboxes"))?;
    sys::unshare_cgroup_namespace().map_err(step("make a control group namespace"))?;
    fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUST).map_err(step("be the first to go"))?;
    let usual = Usual::open().map_err(step("listen inside the sandbox"))?;
    rootfs::build(plan.root, plan.uid)?;
    sethostname(b"sandbox").map_err(|e| step("name the sandbox")(e.into()))?;
    Ok(usual)
}

fn drop_privileges(uid: u32) -> io::Result<()> {
    sys::drop_bounding_set()?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    // Leaving uid 0 empties the effective, permitted and ambient sets.
    set_thread_res_uid(user, user, user)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_no_new_privs(true)?)
}
