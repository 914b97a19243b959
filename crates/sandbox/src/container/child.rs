//! A sandbox from its first instruction on, inside its new namespaces:
//!
//! ```text
//!  enter groups ─▶ loopback, listeners ─▶ root ─▶ fork ─┬─▶ init: reaps, tells how the code ended
//!                                                       └─▶ code: drop every privilege ─▶ seccomp ─▶ exec
//! ```
//!
//! What goes wrong is told on `ready`, which the code's `exec` closes: its end without a word means success.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    net::TcpListener,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{
        DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, chdir, getrlimit,
        set_dumpable_behavior, set_parent_process_death_signal, setrlimit, setsid, umask, wait,
    },
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    system::sethostname,
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup, rootfs,
    seccomp::Filters,
    sys,
    wire::{self, Refused},
};
use crate::{Exit, Spec};

/// Who init is: nobody, so that the code, which has an uid of its own, can neither signal nor trace it.
const INIT_UID: u32 = 65_534;

/// When the host itself runs out of memory, sandboxes go before the platform does, whose own score may be low:
/// `proc_pid_oom_score_adj(5)`.
const OOM_SCORE_ADJUST: &str = "500";

/// What the child says on `ready`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ready {
    /// The listeners stand; the message carries them.
    Listening,
    /// It cannot be.
    Failed(Refused),
}

/// All that the child needs.
pub(super) struct Plan<'a> {
    pub(super) spec: &'a Spec,
    /// An empty folder of the host to build the root over.
    pub(super) root: &'a PathBuf,
    pub(super) mount_roots: &'a [PathBuf],
    pub(super) filters: &'a Filters,
    /// User and group of the code.
    pub(super) uid: u32,
    pub(super) tasks: Vec<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// A socket pair's end.
    pub(super) ready: OwnedFd,
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
    let _ = wire::send(plan.ready.as_fd(), &Ready::Failed(refused), &[]);
    sys::exit_now(1)
}

fn confine(plan: &Plan<'_>) -> Result<Infallible, Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    sys::default_signals();
    // Whatever the spawner's own is: the code, another user, must be able to see its root.
    umask(Mode::WGRP | Mode::WOTH);
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| step("die with the spawner")(e.into()))?;
    cgroup::join(&plan.tasks).map_err(step("join the control groups"))?;
    sys::unshare_cgroup_namespace().map_err(step("make a control group namespace"))?;
    fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUST).map_err(step("be the first to go"))?;
    // After the above: a spawner that died before it is found out here, since the socket is broken.
    listen(plan).map_err(step("listen inside the sandbox"))?;
    rootfs::enter(plan.root, plan.mount_roots, plan.spec, plan.uid)?;
    sethostname(b"sandbox").map_err(|e| step("name the sandbox")(e.into()))?;
    match sys::fork().map_err(step("fork"))? {
        Some(code) => init(plan, code),
        None => code(plan),
    }
}

fn listen(plan: &Plan<'_>) -> io::Result<()> {
    let control = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::loopback_up(control.as_fd())?;
    let listeners: io::Result<Vec<OwnedFd>> = plan
        .spec
        .listeners
        .iter()
        .map(|address| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        })
        .collect();
    wire::send(plan.ready.as_fd(), &Ready::Listening, &wire::borrowed(&listeners?))
}

/// The code's process, up to its first own instruction.
fn code(plan: &Plan<'_>) -> Result<Infallible, Refused> {
    let host = |what: &'static str| move |error: Errno| Refused::host(what, &error.into());
    let asked = |what: String| move |error: Errno| Refused::Spec(format!("{what}: {error}"));
    let (argv, env) = strings(plan.spec)?;
    setsid().map_err(host("begin a session"))?;
    let null =
        open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(host("open /dev/null"))?;
    dup2_stdin(&null).map_err(host("connect the standard input"))?;
    dup2_stdout(&plan.stdout).map_err(host("connect the standard output"))?;
    dup2_stderr(&plan.stderr).map_err(host("connect the standard error"))?;
    sys::close_all_on_exec().map_err(|e| Refused::host("close other files", &e))?;
    limit_resources(plan.spec, plan.uid).map_err(host("limit resources"))?;
    drop_privileges(plan.uid).map_err(|e| Refused::host("drop privileges", &e))?;
    let cwd = &plan.spec.cwd;
    chdir(cwd).map_err(asked(format!("the working folder {} cannot be entered", cwd.display())))?;
    plan.filters.apply().map_err(|e| Refused::host("filter system calls", &io::Error::other(e)))?;
    let error = sys::exec(&argv[0], &argv, &env);
    Err(Refused::Spec(format!("the program {} cannot be executed: {error}", plan.spec.argv[0])))
}

fn strings(spec: &Spec) -> Result<(Vec<CString>, Vec<CString>), Refused> {
    let c = |text: String| CString::new(text).map_err(|_| Refused::Spec("a zero byte in argv or env".into()));
    let argv: Result<Vec<_>, _> = spec.argv.iter().cloned().map(c).collect();
    let env: Result<_, _> = spec.env.iter().map(|(name, value)| c(format!("{name}={value}"))).collect();
    Ok((argv?, env?))
}

fn limit_resources(spec: &Spec, uid: u32) -> Result<(), Errno> {
    let set = |resource, most: u64| {
        // Raising a hard limit takes a capability that hosts may not give even to root.
        let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    set(Resource::Core, 0)?;
    set(Resource::Nofile, u64::from(spec.limits.open_files))?;
    // Counted for each uid, and this one is the sandbox' own: holds where control groups do not.
    debug_assert_ne!(uid, INIT_UID);
    set(Resource::Nproc, u64::from(spec.limits.processes))
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

/// The first process: reaps what the code leaves, and ends with it, which ends all.
#[expect(unsafe_code, reason = "closes what this copy of the spawner's memory still names")]
fn init(plan: &Plan<'_>, code: Pid) -> Result<Infallible, Refused> {
    // Its outputs are the code's alone: they end when the code has closed them.
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .and_then(|null| dup2_stdin(&null).and(dup2_stdout(&null)).and(dup2_stderr(&null)));
    null.map_err(|e| Refused::host("let go of the outputs", &e.into()))?;
    // SAFETY: from here on only `status` is used, and this process ends without dropping anything.
    let closed = unsafe { sys::close_all_but(plan.status.as_fd()) };
    let confined = closed
        .and_then(|()| drop_privileges(INIT_UID))
        .and_then(|()| Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?))
        .and_then(|()| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    if confined.is_err() {
        // `ready` is closed already; the spawner sees a sandbox that ended without a word.
        sys::exit_now(1);
    }
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == code => {
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => continue,
                };
                let told = postcard::to_stdvec(&exit).unwrap_or_default();
                // If nobody reads it, nobody wants to know.
                let _ = rustix::io::write(&plan.status, &told);
                sys::exit_now(0);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => sys::exit_now(1),
        }
    }
}
