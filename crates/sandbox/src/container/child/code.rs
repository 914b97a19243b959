//! The code's process, up to its first own instruction.

use std::{convert::Infallible, ffi::CString, io};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::Errno,
    process::{Resource, Rlimit, chdir, getrlimit, setrlimit, setsid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::{
    super::{image, sys, wire::Refused},
    Plan, drop_privileges, init,
};
use crate::Spec;

/// Connects the process, limits it, drops every privilege, and becomes the code.
pub(super) fn run(plan: &Plan<'_>, spec: &Spec) -> Result<Infallible, Refused> {
    let host = |what: &'static str| move |error: Errno| Refused::host(what, &error.into());
    let asked = |what: String| move |error: Errno| Refused::Spec(format!("{what}: {error}"));
    let (argv, env) = strings(spec)?;
    setsid().map_err(host("begin a session"))?;
    let null =
        open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(host("open /dev/null"))?;
    dup2_stdin(&null).map_err(host("connect the standard input"))?;
    dup2_stdout(&plan.stdout).map_err(host("connect the standard output"))?;
    dup2_stderr(&plan.stderr).map_err(host("connect the standard error"))?;
    sys::close_all_on_exec().map_err(|e| Refused::host("close other files", &e))?;
    limit_resources(spec, plan.uid).map_err(host("limit resources"))?;
    // Images write to /dev/stdout by its name, which asks who owns it.
    for output in [&plan.stdout, &plan.stderr] {
        let (user, group) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.uid));
        fchown(output, Some(user), Some(group)).map_err(host("give the outputs to the code"))?;
    }
    drop_privileges(plan.uid).map_err(|e| Refused::host("drop privileges", &e))?;
    let cwd = &spec.cwd;
    chdir(cwd).map_err(asked(format!("the working folder {} cannot be entered", cwd.display())))?;
    plan.filters.apply().map_err(|e| Refused::host("filter system calls", &io::Error::other(e)))?;
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

fn limit_resources(spec: &Spec, uid: u32) -> Result<(), Errno> {
    let set = |resource, most: u64| {
        // Raising a hard limit takes a capability that hosts may not give even to root.
        let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    // Where cores are piped to a handler, the kernel starts it, as root on the host, whatever the limit is, also for
    // none; but not for a limit of one byte, by which it knows a handler that itself crashes. No file is left either.
    // The filter of system calls keeps the code from lowering it.
    set(Resource::Core, 1)?;
    set(Resource::Nofile, u64::from(spec.limits.open_files))?;
    // Counted for each uid, and this one is the sandbox' own: holds where control groups do not.
    debug_assert_ne!(uid, init::UID);
    set(Resource::Nproc, u64::from(spec.limits.processes))
}
