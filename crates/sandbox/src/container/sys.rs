//! The kernel's calls that have no safe form elsewhere, each made safe here and nowhere else in this driver.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; each block states why it is sound")]

use std::{
    ffi::{CString, c_char},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::Pid,
    thread::{
        CapabilitySet, LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space,
        move_into_thread_name_spaces,
    },
};

/// Namespaces of a sandbox. The control group's is entered later, once its first process is in its groups.
const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET;

/// `struct clone_args` up to the fields that we use: `clone(2)`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks this process into new namespaces: `None` in the child, its pidfd in the parent.
///
/// Precondition: this process has one thread, so that the child may allocate and lock as it likes. The spawner
/// checks it when it starts.
pub(super) fn fork_into_namespaces(group: Option<BorrowedFd<'_>>) -> io::Result<Option<OwnedFd>> {
    clone(NAMESPACES, libc::SIGCHLD, group)
}

/// The same into a new mount namespace alone, which is the child's before it has any other.
pub(super) fn fork_into_mounts(group: Option<BorrowedFd<'_>>) -> io::Result<Option<OwnedFd>> {
    clone(libc::CLONE_NEWNS, libc::SIGCHLD, group)
}

/// Forks a child of this process' own parent: `None` in the child, its pidfd here. The same precondition.
pub(super) fn fork_sibling() -> io::Result<Option<OwnedFd>> {
    clone(libc::CLONE_PARENT, 0, None)
}

/// The same, into new namespaces of this process' user namespace.
pub(super) fn fork_sibling_into_namespaces() -> io::Result<Option<OwnedFd>> {
    clone(libc::CLONE_PARENT | NAMESPACES | libc::CLONE_NEWCGROUP, 0, None)
}

fn clone(
    flags: libc::c_int,
    exit_signal: libc::c_int,
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Option<OwnedFd>> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: u64::from((flags | libc::CLONE_PIDFD).cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(exit_signal.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(group) = group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: the arguments live through the call and are as large as we say; without CLONE_VM the child has
    // its own copy of everything, as after fork(2), and this process has no other thread whose locks it could
    // have copied.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        // SAFETY: the kernel stored a new descriptor there, which is nobody else's.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// `fork(2)`: `None` in the child. The same precondition as [`fork_into_namespaces`].
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, see above.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// The number of a process that was not reaped yet.
pub(super) fn pid_of(process: BorrowedFd<'_>) -> io::Result<Pid> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let number = about.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    number.and_then(Pid::from_raw).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// The network namespace of this process.
pub(super) fn own_network() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/self/ns/net")?.into())
}

/// Makes TCP sockets in the network of another process, and comes back to `own`.
///
/// Precondition: one thread, as everywhere in the spawner.
pub(super) fn sockets_inside(
    process: BorrowedFd<'_>,
    own: BorrowedFd<'_>,
    count: usize,
) -> io::Result<Vec<OwnedFd>> {
    move_into_thread_name_spaces(process, ThreadNameSpaceType::NETWORK)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let sockets =
        (0..count).map(|_| Ok(socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)).collect();
    if let Err(error) = move_into_link_name_space(own, Some(LinkNameSpaceType::Network)) {
        // In a stranger's network this process must make nothing more; its supervisor starts another.
        tracing::error!(%error, "the spawner cannot come back to its own network, and ends");
        exit_now(1);
    }
    sockets
}

/// Forks a process into a user namespace of its own, where it is nobody yet: `None` in it. The same precondition as
/// [`fork_into_namespaces`]. It dies with this process.
pub(super) fn fork_into_user_namespace() -> io::Result<Option<Pid>> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack of its own this is fork(2), and this process has one thread.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(i32::try_from(pid).ok().and_then(Pid::from_raw)),
    }
}

/// Waits to be killed, also by the end of the parent.
pub(super) fn wait_for_end() -> ! {
    // SAFETY: both take numbers and touch no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// Makes a mount that is attached nowhere yet show its files as those of another user, by the mapping of a user
/// namespace.
pub(super) fn map_mount(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    set_attributes(mount, libc::MOUNT_ATTR_IDMAP, false, u64::from(users.as_raw_fd().unsigned_abs()))
}

/// Makes this process the first of a new user namespace, in which it has every capability and no user yet.
pub(super) fn unshare_user_namespace() -> io::Result<()> {
    // SAFETY: a new user namespace changes nothing that safe types rely on.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }?)
}

/// Makes this process' control groups the root of what it sees of them.
pub(super) fn unshare_cgroup_namespace() -> io::Result<()> {
    // SAFETY: a new control group namespace changes nothing that safe types rely on.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }?)
}

/// Ends this process at once, without running anything that its parent left for its own end.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Makes `exec` close every descriptor but the standard ones, whoever opened it and however.
pub(super) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: nothing is closed now, so every descriptor stays what its owner takes it for.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a descriptor of this number out of another, open through `exec`. What had the number before is closed.
///
/// Precondition: whoever owned the number does not use it any more, and is never dropped.
pub(super) fn duplicate_to(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: by the precondition nobody takes the number for what it was.
    match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Closes every descriptor but the standard ones and those that are named.
///
/// # Safety
/// Nothing that owns another descriptor may be used or dropped after this.
pub(super) unsafe fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let close = |first: u32, last: u32| {
        if first > last {
            return Ok(());
        }
        // SAFETY: as this function's own.
        match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        close(first, fd - 1)?;
        first = fd + 1;
    }
    close(first, u32::MAX)
}

/// Adds attributes to a mount, or to all mounts of a tree.
pub(super) fn mount_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    set_attributes(mount, set, recursive, 0)
}

fn set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool, userns_fd: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, the attributes live through the call and are as large as we say.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Brings up the loopback of this network namespace: `netdevice(7)`.
pub(super) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request is an `ifreq` as SIOCSIFFLAGS reads it, and lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes every capability but some out of the bounding set, also those that are newer than this program.
pub(super) fn drop_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    for capability in 0..=63 {
        if kept.bits() & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == -1 {
            let error = io::Error::last_os_error();
            // The first number that the kernel does not know ends the list.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Blocks SIGTERM and SIGINT and gives a descriptor that reads as they come.
pub(super) fn termination_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is read, and lives through the calls.
    let fd = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the kernel reap this process' children.
pub(super) fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Gives every signal back the meaning that a program expects at its start.
pub(super) fn default_signals() {
    // SAFETY: the set is initialised by sigemptyset; SIG_DFL is a valid disposition for SIGPIPE, the only one
    // that Rust's runtime changes.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// `execve(2)`. Returns only with an error.
pub(super) fn exec(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer and, like their strings, live through the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// How many threads this process has.
pub(super) fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir(Path::new("/proc/self/task"))?.count())
}
