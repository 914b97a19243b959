//! The first process: reaps what the code leaves, and ends with it, which ends all.

use std::{convert::Infallible, os::fd::AsFd};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    process::{
        DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior, set_parent_process_death_signal,
        wait,
    },
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::{
    super::{sys, wire::Refused},
    Plan, drop_privileges,
};
use crate::Exit;

/// Who init is: nobody, so that the code, which has an uid of its own, can neither signal nor trace it.
pub(super) const UID: u32 = 65_534;

/// Lets go of all but the pipe for the code's end, drops every privilege, and reaps.
#[expect(unsafe_code, reason = "closes what this copy of the spawner's memory still names")]
pub(super) fn run(plan: &Plan<'_>, code: Pid) -> Result<Infallible, Refused> {
    // Its outputs are the code's alone: they end when the code has closed them.
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .and_then(|null| dup2_stdin(&null).and(dup2_stdout(&null)).and(dup2_stderr(&null)));
    null.map_err(|e| Refused::host("let go of the outputs", &e.into()))?;
    // SAFETY: from here on only `status` is used, and this process ends without dropping anything.
    let closed = unsafe { sys::close_all_but(&[plan.status.as_fd()]) };
    let confined = closed
        .and_then(|()| drop_privileges(UID))
        .and_then(|()| Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?))
        .and_then(|()| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    if confined.is_err() {
        // The line is closed already; the spawner sees a sandbox that ended without a word.
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
