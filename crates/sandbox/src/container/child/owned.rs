//! Sandboxes whose namespaces belong to a user namespace of their own: a zygote's, and those of its forks.
//!
//! ```text
//!  spawner ─ fork ─▶ root's own mounts ─▶ user namespace: new, or the zygote's ─▶ nobody ─ fork ─▶ first process
//! ```
//!
//! In that namespace exist two users, the code's and init's, and neither is anybody on the host. A zygote may enter
//! what belongs to it, and nothing else: so the processes of its forks are below its own, where `setns(2)` can put
//! them, and it can be left as soon as they run.
//!
//! The forks on the way are children of the spawner like the first one, so that all die with it. The process that
//! calls one of these functions ends; what returns from it is the sandbox' first process.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitOptions, getpid, set_parent_process_death_signal, waitpid},
    thread::{
        Gid, ThreadNameSpaceType, Uid, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

use super::{
    super::{
        rootfs, sys,
        wire::{self, Refused},
    },
    Plan, Ready, init,
};

/// Into a new user namespace: a zygote's sandbox.
pub(super) fn own(plan: &Plan<'_>) -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    leave_root().map_err(step("prepare a user namespace"))?;
    unshare_users(plan.uid).map_err(step("make a user namespace"))?;
    enter()
}

/// Into the user namespace of a zygote, and below its processes.
pub(super) fn join(plan: &Plan<'_>, zygote: BorrowedFd<'_>) -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    leave_root().map_err(step("prepare a user namespace"))?;
    let (users, processes) = (ThreadNameSpaceType::USER, ThreadNameSpaceType::PROCESS_ID);
    move_into_thread_name_spaces(zygote, users | processes)
        .map_err(|e| step("enter the zygote's user namespace")(e.into()))?;
    // Only its children are among the zygote's processes.
    if let Some(helper) = sys::fork_sibling().map_err(step("fork"))? {
        let told = wire::send(plan.line.as_fd(), &Ready::Helper, &wire::borrowed(&[helper]));
        sys::exit_now(i32::from(told.is_err()));
    }
    enter()
}

/// What takes root's rights on the host.
fn leave_root() -> io::Result<()> {
    set_thread_groups(&[])?;
    rootfs::hand_over(init::UID)
}

/// Makes a user namespace that knows the code's user and init's by their numbers on the host. Who owns it is root:
/// nobody gets rights in it by being one of them.
fn unshare_users(uid: u32) -> io::Result<()> {
    let pid = getpid();
    let (unshared, unshared_tell) = pipe_with(PipeFlags::CLOEXEC)?;
    // The maps can be written only by somebody who is root outside.
    let Some(writer) = sys::fork()? else {
        drop(unshared_tell);
        let go = rustix::io::read(&unshared, &mut [0]);
        let init = init::UID;
        let map = format!("{uid} {uid} 1\n{init} {init} 1\n");
        let written = ["uid_map", "gid_map"]
            .iter()
            .try_for_each(|file| fs::write(format!("/proc/{}/{file}", pid.as_raw_nonzero()), &map));
        sys::exit_now(i32::from(go != Ok(1) || written.is_err()));
    };
    sys::unshare_user_namespace()?;
    rustix::io::write(&unshared_tell, b"x")?;
    match waitpid(Some(writer), WaitOptions::empty())? {
        Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
        _ => Err(io::Error::other("its users could not be written")),
    }
}

/// Becomes init's user, and forks the first process of the sandbox.
fn enter() -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    let (user, group) = (Uid::from_raw(init::UID), Gid::from_raw(init::UID));
    set_thread_res_gid(group, group, group)
        .and_then(|()| set_thread_res_uid(user, user, user))
        .map_err(|e| step("become nobody")(e.into()))?;
    if sys::fork_sibling_into_namespaces().map_err(step("make namespaces"))?.is_some() {
        sys::exit_now(0);
    }
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| step("die with the spawner")(e.into()))
}
