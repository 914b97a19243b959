//! A sandbox whose interpreter starts before the spec is known, and then becomes the code.
//!
//! ```text
//!  activate: the interpreter's mounts ─▶ fork ─┬─▶ interpreter: drop every privilege ─▶ seccomp ─▶ exec ─▶ ready ─┐
//!                                              └─▶ init: waits, with its privileges                  told by the  │
//!  activate: listeners ─▶ mounts of the spec ─▶ init drops every privilege ─▶ listening ─▶ spawner: the spec ─────┘
//! ```
//!
//! As long as init has privileges, no code runs that is anybody's: the interpreter is told the spec after init is
//! confined, by the spawner.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, OwnedFd},
};

use super::{
    super::{
        network::{self, Usual},
        rootfs, sys,
        wire::{self, Refused},
    },
    Activate, Plan, Ready, code, init,
};
use crate::Spec;

/// Starts the interpreter, and waits for the spec. `trees` are those of the interpreter's own mounts.
#[expect(unsafe_code, reason = "closes what the interpreter's first process needs no more")]
pub(super) fn run(
    plan: &Plan<'_>,
    usual: Usual,
    interpreter: &Spec,
    trees: Vec<OwnedFd>,
) -> Result<Infallible, Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    rootfs::show(interpreter.mounts.iter().zip(&trees))?;
    drop(trees);
    let Some(code) = sys::fork().map_err(step("fork"))? else { return code::run(plan, interpreter) };
    let told = wire::receive::<Activate>(plan.line.as_fd()).map_err(step("hear the spawner"))?;
    let Some((Activate { spec, .. }, trees)) = told else { sys::exit_now(0) };
    let sockets = network::open(&spec, usual).map_err(step("listen inside the sandbox"))?;
    rootfs::finish(&spec, &trees, &interpreter.mounts)?;
    let mut kept = vec![plan.status.as_fd(), plan.line.as_fd()];
    kept.extend(sockets.iter().map(AsFd::as_fd));
    init::confine(plan, &kept)?;
    wire::send(plan.line.as_fd(), &Ready::Listening, &wire::borrowed(&sockets))
        .map_err(step("hand over the listeners"))?;
    // SAFETY: from here on only this one is used, and this process ends without dropping anything.
    unsafe { sys::close_all_but(&[plan.status.as_fd()]) }.map_err(step("let go of the listeners"))?;
    init::reap(plan, code)
}
