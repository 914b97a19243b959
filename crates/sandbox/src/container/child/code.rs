//! The code's process, up to its first own instruction.

use std::{
    convert::Infallible,
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::{Errno, FdFlags, fcntl_setfd},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Pid, Resource, Rlimit, chdir, getrlimit, setrlimit, setsid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::CapabilitySet,
};

use super::{
    super::{
        image, sys,
        wire::{self, Refused},
    },
    Owner, Plan, drop_privileges, drop_privileges_but, init,
};
use crate::Spec;

/// Where an interpreter that starts ahead finds its end of the line to the spawner.
const WORD_FD: RawFd = 3;

/// What a zygote may do in its own user namespace, so that a fork of it can enter the sandbox that was made for it
/// (`setns(2)`), and then let go of all this. Over the host it is nothing.
const OF_A_ZYGOTE: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_CHROOT).union(CapabilitySet::SETPCAP);

/// Forks the code's process before it is known what it will be. It waits, without any privilege, for the spec on the end
/// that is given.
pub(super) fn ahead(plan: &Plan<'_>) -> Result<(Pid, OwnedFd), Refused> {
    let host = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| host("make a socket pair")(e.into()))?;
    if let Some(code) = sys::fork().map_err(host("fork"))? {
        return Ok((code, ours));
    }
    drop(ours);
    prepare(plan)?;
    let told = wire::receive::<Spec>(theirs.as_fd()).map_err(host("hear the first process"))?;
    let Some((spec, _)) = told else { sys::exit_now(0) };
    let Err(refused) = become_code(plan, &spec);
    Err(refused)
}

/// Connects the process, limits it, drops every privilege, and becomes the code.
pub(super) fn run(plan: &Plan<'_>, spec: &Spec) -> Result<Infallible, Refused> {
    prepare(plan)?;
    become_code(plan, spec)
}

/// What needs no spec: after it this process can do what the code will be able to, and no more.
fn prepare(plan: &Plan<'_>) -> Result<(), Refused> {
    let host = |what: &'static str| move |error: Errno| Refused::host(what, &error.into());
    setsid().map_err(host("begin a session"))?;
    let null =
        open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(host("open /dev/null"))?;
    dup2_stdin(&null).map_err(host("connect the standard input"))?;
    // Its number may be the one that an interpreter's end is to have.
    drop(null);
    dup2_stdout(&plan.stdout).map_err(host("connect the standard output"))?;
    dup2_stderr(&plan.stderr).map_err(host("connect the standard error"))?;
    sys::close_all_on_exec().map_err(|e| Refused::host("close other files", &e))?;
    if let Owner::Zygote(end) | Owner::Started(end) = &plan.owner {
        pass_on(end).map_err(|e| Refused::host("connect an interpreter", &e))?;
    }
    // Where cores are piped to a handler, the kernel starts it, as root on the host, whatever the limit is, also for
    // none; but not for a limit of one byte, by which it knows a handler that itself crashes. No file is left either.
    // The filter of system calls keeps the code from lowering it.
    limit_resource(Resource::Core, 1).map_err(host("limit resources"))?;
    if let Owner::Host | Owner::Started(_) = plan.owner {
        // Images write to /dev/stdout by its name, which asks who owns it.
        for output in [&plan.stdout, &plan.stderr] {
            let (user, group) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.uid));
            fchown(output, Some(user), Some(group)).map_err(host("give the outputs to the code"))?;
        }
    }
    debug_assert_ne!(plan.uid, init::UID);
    match plan.owner {
        Owner::Zygote(_) => drop_privileges_but(OF_A_ZYGOTE, plan.uid),
        Owner::Host | Owner::Fork(_) | Owner::Started(_) => drop_privileges(plan.uid),
    }
    .map_err(|e| Refused::host("drop privileges", &e))?;
    match plan.owner {
        Owner::Zygote(_) => plan.filters.apply_to_zygote(),
        Owner::Host | Owner::Fork(_) | Owner::Started(_) => plan.filters.apply(),
    }
    .map_err(|e| Refused::host("filter system calls", &io::Error::other(e)))
}

fn become_code(plan: &Plan<'_>, spec: &Spec) -> Result<Infallible, Refused> {
    let (argv, env) = strings(spec)?;
    limit_resources(plan, spec).map_err(|e| Refused::host("limit resources", &e.into()))?;
    let cwd = &spec.cwd;
    chdir(cwd).map_err(|error| {
        Refused::Spec(format!("the working folder {} cannot be entered: {error}", cwd.display()))
    })?;
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for program in image::programs(spec) {
        let program = CString::new(program).map_err(|_| Refused::Spec("a zero byte in argv".into()))?;
        let tried = sys::exec(&program, &argv, &env);
        // What is there and cannot be run tells more than what is not there.
        if tried.raw_os_error() != Some(libc::ENOENT) {
            error = tried;
        }
    }
    Err(Refused::Spec(format!("the program {} cannot be executed: {error}", spec.argv[0])))
}

fn strings(spec: &Spec) -> Result<(Vec<CString>, Vec<CString>), Refused> {
    let c = |text: String| CString::new(text).map_err(|_| Refused::Spec("a zero byte in argv or env".into()));
    let argv: Result<Vec<_>, _> = spec.argv.iter().cloned().map(c).collect();
    let env: Result<_, _> = spec.env.iter().map(|(name, value)| c(format!("{name}={value}"))).collect();
    Ok((argv?, env?))
}

/// Puts an interpreter's end where it looks for it, and keeps it open through `exec`.
fn pass_on(end: &OwnedFd) -> io::Result<()> {
    if end.as_raw_fd() == WORD_FD {
        return Ok(fcntl_setfd(end, FdFlags::empty())?);
    }
    sys::duplicate_to(end.as_fd(), WORD_FD)
}

fn limit_resources(plan: &Plan<'_>, spec: &Spec) -> Result<(), Errno> {
    limit_resource(Resource::Nofile, u64::from(spec.limits.open_files))?;
    match plan.owner {
        // Counted for each uid, and this one is the sandbox' own: holds where control groups do not.
        Owner::Host | Owner::Started(_) => limit_resource(Resource::Nproc, u64::from(spec.limits.processes)),
        // Here its forks have it too; there are no zygotes without control groups that count.
        Owner::Zygote(_) | Owner::Fork(_) => Ok(()),
    }
}

fn limit_resource(resource: Resource, most: u64) -> Result<(), Errno> {
    // Raising a hard limit takes a capability that hosts may not give even to root.
    let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}
