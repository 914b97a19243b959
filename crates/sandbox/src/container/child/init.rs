//! The first process: reaps what the code leaves, and ends with it, which ends all.
//!
//! A zygote's init ends later: with the last of its forks, whose sandboxes' processes are below it. Once their zygote is
//! gone it is the one to be told when they end, and it tells the spawner.

use std::{
    convert::Infallible,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::Errno,
    process::{
        DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, set_dumpable_behavior,
        set_parent_process_death_signal, wait,
    },
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::CapabilitySet,
};

use super::{
    super::{
        sys,
        wire::{self, Refused},
    },
    Owner, Plan, Ready, drop_privileges, drop_privileges_but,
};
use crate::Exit;

/// Who init is: nobody, so that the code, which has an uid of its own, can neither signal nor trace it.
pub(super) const UID: u32 = 65_534;

/// Lets go of all but the way to the spawner, drops every privilege, and reaps.
pub(super) fn run(plan: &Plan<'_>, code: Pid) -> Result<Infallible, Refused> {
    if let Owner::Zygote(_) = plan.owner {
        confine(plan, &[plan.line.as_fd()])?;
        return keep(plan, code);
    }
    confine(plan, &[plan.status.as_fd()])?;
    reap(plan, code)
}

/// Reaps until the code has ended, and tells how. Precondition: [`confine`].
pub(super) fn reap(plan: &Plan<'_>, code: Pid) -> Result<Infallible, Refused> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == code => {
                let Some(exit) = exit(status) else { continue };
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

/// Reaps for a zygote and its forks, until the last of them has gone.
fn keep(plan: &Plan<'_>, zygote: Pid) -> Result<Infallible, Refused> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let Some(exit) = exit(status) else { continue };
                let pid_told = pid.as_raw_nonzero().get();
                let told = Ready::Ended { pid: pid_told, zygote: pid == zygote, exit };
                // If the spawner is gone, so is this process at once.
                let _ = wire::send(plan.line.as_fd(), &told, &[]);
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => sys::exit_now(0),
        }
    }
}

/// Init of a fork's sandbox: what it adopts, the kernel reaps, and the spawner ends it when the fork has ended.
pub(super) fn linger(plan: &Plan<'_>) -> Result<Infallible, Refused> {
    confine(plan, &[plan.status.as_fd()])?;
    sys::ignore_children();
    loop {
        // Nothing is waited for: it is woken by its death.
        let _ = poll(&mut [], None);
    }
}

fn exit(status: WaitStatus) -> Option<Exit> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => None,
    }
}

/// Lets go of all but what is kept, and of every privilege. The first that is kept leads to the spawner.
#[expect(unsafe_code, reason = "closes what this copy of the spawner's memory still names")]
pub(super) fn confine(plan: &Plan<'_>, kept: &[BorrowedFd<'_>]) -> Result<(), Refused> {
    // Its outputs are the code's alone: they end when the code has closed them.
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .and_then(|null| dup2_stdin(&null).and(dup2_stdout(&null)).and(dup2_stderr(&null)));
    null.map_err(|e| Refused::host("let go of the outputs", &e.into()))?;
    // SAFETY: from here on only these are used, and this process ends without dropping anything else.
    let closed = unsafe { sys::close_all_but(kept) };
    let confined = closed
        .and_then(|()| match plan.owner {
            Owner::Host | Owner::Started(_) => drop_privileges(UID),
            // It has no groups since it was root.
            Owner::Zygote(_) | Owner::Fork(_) => drop_privileges_but(CapabilitySet::empty(), UID),
        })
        .and_then(|()| Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?))
        .and_then(|()| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    // A spawner that died before that last call is found out by its end.
    let mut polled = [PollFd::from_borrowed_fd(kept[0], PollFlags::empty())];
    let alone = poll(&mut polled, Some(&Timespec::default())).is_ok_and(|gone| gone > 0);
    if confined.is_err() || alone {
        // The line may be closed already; the spawner sees a sandbox that ended without a word.
        sys::exit_now(1);
    }
    Ok(())
}
