//! Which system calls a sandbox may make. Two filters that stand in a row:
//!
//! 1. By number. What is allowed passes. What we know and refuse is "not permitted" (`EPERM`), so that a program
//!    can say what it was about to do. All else "is not there" (`ENOSYS`): calls of other ABIs, `clone3`, and
//!    whatever the kernel will get in future; libraries then fall back to what older kernels have.
//! 2. By argument, for the few calls that are allowed in part.
//!
//! The list follows what container engines allow by default, less what a function has no use for: no tracing,
//! no keyrings, no namespaces, no mounts, no io_uring, no performance counters.
//!
//! The first filter is a binary search, written here: as a chain of comparisons, which is what crates make of
//! such a list, it is ten times as long, and the kernel, which tries each call when a filter is installed, took
//! 0.7 ms of a 3 ms start for it.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter, sock_filter,
};

/// Flags of `clone(2)` that make a namespace.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Address families that a function can use: its loopback, unix sockets, and the list of its interfaces.
const FAMILIES: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Both filters, compiled once.
#[derive(Debug)]
pub(super) struct Filters {
    by_number: BpfProgram,
    /// As `by_number`, for zygotes.
    by_number_zygote: BpfProgram,
    by_argument: BpfProgram,
}

impl Filters {
    /// Compiles the filters for this machine.
    pub(super) fn compile() -> Result<Self, seccompiler::BackendError> {
        let arch = std::env::consts::ARCH.try_into()?;
        let not_permitted = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let rules = refused_arguments()?;
        let by_argument = SeccompFilter::new(rules, SeccompAction::Allow, not_permitted, arch)?;
        Ok(Self {
            by_number: search(answer),
            by_number_zygote: search(zygote_answer),
            by_argument: by_argument.try_into()?,
        })
    }

    /// Puts this thread and all that it starts under the filters, for good.
    pub(super) fn apply(&self) -> Result<(), seccompiler::Error> {
        apply_filter(&self.by_number)?;
        apply_filter(&self.by_argument)
    }

    /// The same for a zygote, which may enter namespaces. Its forks forbid themselves that too, before anything
    /// of a spec is run: see `zygote.py`.
    pub(super) fn apply_to_zygote(&self) -> Result<(), seccompiler::Error> {
        apply_filter(&self.by_number_zygote)?;
        apply_filter(&self.by_argument)
    }
}

/// What the filter returns for a call: `seccomp(2)`.
fn answer(number: u32) -> u32 {
    let number = i64::from(number);
    if allowed().any(|one| one == number) {
        libc::SECCOMP_RET_ALLOW
    } else if REFUSED.contains(&number) {
        libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()
    } else {
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()
    }
}

fn zygote_answer(number: u32) -> u32 {
    if i64::from(number) == libc::SYS_setns { libc::SECCOMP_RET_ALLOW } else { answer(number) }
}

/// The first filter: checks the machine, then finds the answer by halves.
fn search(answer: fn(u32) -> u32) -> BpfProgram {
    // `struct seccomp_data` begins with the number of the call and the architecture, of four bytes each.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    #[cfg(target_arch = "x86_64")]
    const THIS_ARCH: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const THIS_ARCH: u32 = 0xc000_00b7;
    let last = allowed().chain(REFUSED.iter().copied()).max().unwrap_or(0);
    // Where the answer changes: (first number, answer), up to one past the last that is named.
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in 0..=u32::try_from(last).unwrap_or(0) + 1 {
        let answer = answer(number);
        if ranges.last().is_none_or(|(_, before)| *before != answer) {
            ranges.push((number, answer));
        }
    }
    let mut program = vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, ARCH, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, THIS_ARCH, 1, 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER, 0, 0),
    ];
    program.extend(halves(&ranges));
    program
}

/// Code that returns the answer of the range that the loaded number is in.
fn halves(ranges: &[(u32, u32)]) -> BpfProgram {
    if let [(_, answer)] = ranges {
        return vec![instruction(libc::BPF_RET | libc::BPF_K, *answer, 0, 0)];
    }
    let (below, from) = ranges.split_at(ranges.len() / 2);
    let below = halves(below);
    // A jump spans at most 255 instructions; a half has two for each of its ranges, of which there are some 60.
    let skip = u8::try_from(below.len()).expect("fewer than 128 ranges");
    let mut program = vec![instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, from[0].0, skip, 0)];
    program.extend(below);
    program.extend(halves(from));
    program
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Operation codes have eight bits: `linux/bpf_common.h`.
    let code = u16::try_from(code & 0xff).unwrap_or_default();
    sock_filter { code, jt, jf, k }
}

fn allowed() -> impl Iterator<Item = i64> {
    ALLOWED.iter().chain(ALLOWED_OLD).copied()
}

/// Refused with these arguments.
fn refused_arguments() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let condition = |argument, is, value: libc::c_int| {
        SeccompCondition::new(argument, Width::Dword, is, u64::from(value.cast_unsigned()))
    };
    let mut rules = BTreeMap::new();
    let mut namespaces = Vec::new();
    for &flag in NAMESPACES {
        let has = condition(0, Is::MaskedEq(u64::from(flag.cast_unsigned())), flag)?;
        namespaces.push(SeccompRule::new(vec![has])?);
    }
    rules.insert(libc::SYS_clone, namespaces);
    let other: Result<_, _> = FAMILIES.iter().map(|&family| condition(0, Is::Ne, family)).collect();
    let netlink_but_routes =
        vec![condition(0, Is::Eq, libc::AF_NETLINK)?, condition(2, Is::Ne, libc::NETLINK_ROUTE)?];
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(other?)?, SeccompRule::new(netlink_but_routes)?]);
    // Other families are looked for, and their modules loaded, before the kernel finds that they make no pairs.
    rules.insert(libc::SYS_socketpair, vec![SeccompRule::new(vec![condition(0, Is::Ne, libc::AF_UNIX)?])?]);
    // Being told who reads which file: all sandboxes see the host's `/usr`, and would learn what others do.
    let mut watched = Vec::new();
    for event in [libc::IN_ACCESS, libc::IN_OPEN, libc::IN_CLOSE_NOWRITE] {
        let is = SeccompCondition::new(2, Width::Dword, Is::MaskedEq(event.into()), event.into())?;
        watched.push(SeccompRule::new(vec![is])?);
    }
    rules.insert(libc::SYS_inotify_add_watch, watched);
    let old_watch = condition(1, Is::Eq, libc::F_NOTIFY)?;
    rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![old_watch])?]);
    // The limit of core files stays what it is: see `limit_resources`. Asking for it is harmless.
    let core = condition(0, Is::Eq, libc::RLIMIT_CORE.cast_signed())?;
    rules.insert(libc::SYS_setrlimit, vec![SeccompRule::new(vec![core])?]);
    let core = condition(1, Is::Eq, libc::RLIMIT_CORE.cast_signed())?;
    let sets = SeccompCondition::new(2, Width::Qword, Is::Ne, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![core, sets])?]);
    // Typing into a terminal on behalf of its user.
    let mut terminal = Vec::new();
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        let is = SeccompCondition::new(1, Width::Dword, Is::Eq, request)?;
        terminal.push(SeccompRule::new(vec![is])?);
    }
    rules.insert(libc::SYS_ioctl, terminal);
    // Another execution domain; asking for the present one, and setting the plain one, are harmless.
    let another = vec![condition(0, Is::Ne, 0)?, condition(0, Is::Ne, -1)?];
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(another)?]);
    Ok(rules)
}

/// What is refused whole.
const REFUSED: &[i64] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes' insides.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // The kernel's own machinery.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    // Keyrings are not kept apart by namespaces.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Files by number, around every path.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // The host's clock and names.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Memory of other nodes, and pages that even the kernel cannot see.
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_memfd_secret,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// What passes on every machine.
#[rustfmt::skip]
const ALLOWED: &[i64] = calls! {
    SYS_accept SYS_accept4 SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_getres SYS_clock_gettime
    SYS_clock_nanosleep SYS_clone SYS_close SYS_close_range SYS_connect SYS_copy_file_range SYS_dup SYS_dup3
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat
    SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir SYS_fchmod
    SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr
    SYS_flock SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex
    SYS_futex_waitv SYS_get_mempolicy SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid
    SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid
    SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit SYS_getrusage SYS_getsid
    SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch
    SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents
    SYS_io_setup SYS_io_submit SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_landlock_add_rule
    SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr
    SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_mbind SYS_membarrier
    SYS_memfd_create SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap
    SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend
    SYS_mq_unlink SYS_mremap SYS_mseal SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock
    SYS_munlockall SYS_munmap SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_personality
    SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll
    SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_mrelease SYS_pselect6 SYS_pwrite64
    SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg
    SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat2 SYS_restart_syscall SYS_rseq
    SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn
    SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr
    SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop
    SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_mempolicy SYS_set_robust_list
    SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer SYS_setpgid
    SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setrlimit SYS_setsid
    SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown
    SYS_sigaltstack SYS_signalfd4 SYS_socket SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_symlinkat
    SYS_sync SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_timer_create SYS_timer_delete
    SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat
    SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
};

/// What older ABIs have beside it.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_OLD: &[i64] = calls! {
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create
    SYS_epoll_wait SYS_eventfd SYS_fork SYS_futimesat SYS_getdents SYS_getpgrp SYS_inotify_init SYS_lchown
    SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename
    SYS_renameat SYS_rmdir SYS_select SYS_signalfd SYS_stat SYS_symlink SYS_time SYS_unlink SYS_utime
    SYS_utimes SYS_vfork
};
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[i64] = calls! { SYS_renameat };

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's interpreter would return for a call.
    fn run(program: &[sock_filter], arch: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let one = &program[at];
            at += 1;
            match (u32::from(one.code), one.k) {
                (0x20, 0) => loaded = number,
                (0x20, 4) => loaded = arch,
                (0x15, k) => at += usize::from(if loaded == k { one.jt } else { one.jf }),
                (0x35, k) => at += usize::from(if loaded >= k { one.jt } else { one.jf }),
                (0x06, k) => return k,
                other => panic!("an instruction that is not ours: {other:?}"),
            }
        }
    }

    #[test]
    fn the_search_answers_each_number_as_the_lists_say() {
        let program = search(answer);
        let arch = program[1].k;
        for number in (0..2_000).chain([u32::MAX, 0x4000_0000, 0x4000_0000 + 165]) {
            assert_eq!(run(&program, arch, number), answer(number), "call {number}");
        }
        assert_eq!(run(&program, arch + 1, 0), libc::SECCOMP_RET_KILL_PROCESS);
        assert!(program.len() < 256, "{} instructions", program.len());
    }

    #[test]
    fn a_zygote_may_do_one_thing_more() {
        let program = search(zygote_answer);
        let arch = program[1].k;
        let differs: Vec<i64> = (0..2_000)
            .filter(|number| run(&program, arch, *number) != answer(*number))
            .map(i64::from)
            .collect();
        assert_eq!(differs, [libc::SYS_setns]);
    }

    #[test]
    fn the_filters_compile_and_no_call_is_both_allowed_and_refused() {
        Filters::compile().expect("filters");
        for number in allowed() {
            assert!(!REFUSED.contains(&number), "call {number} is in both lists");
        }
        for absent in [libc::SYS_clone3, libc::SYS_ptrace, libc::SYS_bpf] {
            assert!(!allowed().any(|number| number == absent), "call {absent}");
        }
    }
}
