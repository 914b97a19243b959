//! What a sandbox sees of files: a fresh tmpfs as its root, the host's `/usr` read-only, a minimal `/etc`, its
//! own `/proc`, `/dev` and `/tmp`, and the folders of its spec. Built in its own mount namespace, so nothing of
//! it ever stands on the host; and in two halves, of which the first needs no spec.

use std::{
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, makedev, mknodat, open, openat2},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
        mount_remount, move_mount, open_tree, unmount,
    },
    process::{chdir, fchdir, pivot_root},
};

use super::{network::USUAL_RESOLVER, sys, wire::Refused};
use crate::{Mount, Spec};

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

pub(super) const CLONE: OpenTreeFlags =
    OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// What the host's root has beside `/usr` so that its programs find their parts: links on merged hosts.
const BESIDE_USR: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Of the host's `/etc`, what programs need and what tells nothing: the linker's cache, the alternatives of
/// commands, the certificates of authorities, the time zone.
const OF_ETC: &[&str] = &[
    "etc/ld.so.cache",
    "etc/alternatives",
    "etc/ssl/certs",
    "etc/ssl/openssl.cnf",
    "etc/pki/tls/certs",
    "etc/pki/ca-trust/extracted",
    "etc/crypto-policies",
    "etc/localtime",
    "etc/mime.types",
];

/// Files and folders of `/proc` that tell of the whole host, or steer it.
const MASKED: &[&str] = &[
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/sysrq-trigger",
    "/proc/kmsg",
    "/proc/interrupts",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
];

/// Where a spec's mounts may not go: these are the sandbox' own.
const RESERVED: &[&str] =
    &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "proc", "dev", "sys", "etc", "tmp"];

/// Bytes of files that `/etc` takes; the rest of the root are folders, which the inodes bound.
const ROOT_OPTIONS: &std::ffi::CStr = c"mode=755,size=256k,nr_inodes=1024";

/// `/tmp` before its size is known. A limit of inodes can be raised later, and not begun.
const TMP_OPTIONS: &std::ffi::CStr = c"mode=1777,size=4k,nr_inodes=16";
const PROC_FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const TMP_FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// The names that every sandbox knows.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Checks that a path can be a mount's target.
pub(super) fn check_target(target: &Path) -> Result<(), String> {
    let named = |what: &str| Err(format!("the mount target {} {what}", target.display()));
    let mut components = target.components();
    if components.next() != Some(Component::RootDir) {
        return named("is not absolute");
    }
    let Some(Component::Normal(first)) = components.clone().next() else {
        return named("is the root itself");
    };
    if RESERVED.iter().any(|reserved| first == *reserved) {
        return named("is in a folder of the sandbox' own");
    }
    if components.any(|component| !matches!(component, Component::Normal(_))) {
        return named("has a `..`");
    }
    Ok(())
}

/// Builds the part of the root that is the same for every spec, and moves this process into it. It can still be
/// written, by [`finish`]. Precondition: this process is alone in its mount namespace. What needs the sandbox' other
/// namespaces comes with [`own`].
pub(super) fn build(root: &Path, uid: u32) -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    // What is mounted here must not show on the host, nor the other way round.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|e| step("keep mounts private")(e.into()))?;
    mount("rouse", root, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, ROOT_OPTIONS)
        .map_err(|e| step("mount a root")(e.into()))?;
    chdir(root).map_err(|e| step("enter the root")(e.into()))?;
    system().map_err(step("show the host's programs"))?;
    etc(uid).map_err(step("make /etc"))?;
    devices().map_err(step("make /dev"))?;
    for name in ["tmp", "proc"] {
        fs::create_dir(name).map_err(step("make the root's folders"))?;
    }
    switch().map_err(step("change the root"))
}

/// Gives what [`finish`] writes to the first process of a sandbox that is nobody on the host; and mounts a whole
/// `/proc`, which the kernel demands to be there before such a process may mount one of its own. It is covered by
/// that one.
pub(super) fn hand_over(user: u32) -> io::Result<()> {
    for path in ["/", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"] {
        std::os::unix::fs::chown(path, Some(user), Some(user))?;
    }
    Ok(mount("proc", "/proc", "proc", PROC_FLAGS, None)?)
}

/// Mounts the sandbox' own `/tmp` and `/proc`. Precondition: [`build`], and this process is the first of its pid
/// namespace.
pub(super) fn own() -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    mount("tmp", "/tmp", "tmpfs", TMP_FLAGS, TMP_OPTIONS).map_err(|e| step("mount /tmp")(e.into()))?;
    proc().map_err(step("mount /proc"))
}

/// Shows folders of the host. `trees` are those of [`open_mounts`].
pub(super) fn show<'a>(mounts: impl Iterator<Item = (&'a Mount, &'a OwnedFd)>) -> Result<(), Refused> {
    for (one, tree) in mounts {
        let target = &one.target;
        let shown = fs::create_dir_all(target).and_then(|()| attach(tree, target));
        shown.map_err(|error| {
            let (source, target) = (one.source.display(), target.display());
            Refused::Spec(format!("{source} cannot be shown at {target}: {error}"))
        })?;
    }
    Ok(())
}

/// Adds what a spec asks for, and closes the root for writing. `trees` are those of [`open_mounts`], `shown` what is
/// there already.
pub(super) fn finish(spec: &Spec, trees: &[OwnedFd], shown: &[Mount]) -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    name_hosts(spec)?;
    resize_tmp(spec.limits.tmp_bytes).map_err(step("give /tmp its size"))?;
    show(spec.mounts.iter().zip(trees).filter(|(one, _)| !shown.contains(one)))?;
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let closed = root.map_err(io::Error::from);
    closed
        .and_then(|root| sys::mount_attributes(root.as_fd(), libc::MOUNT_ATTR_RDONLY, false))
        .map_err(step("close the root for writing"))
}

/// Says in `/etc` which names the spec knows, and who knows others.
pub(super) fn name_hosts(spec: &Spec) -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    add_hosts(&spec.hosts).map_err(step("make /etc/hosts"))?;
    if spec.resolver != Some(USUAL_RESOLVER) {
        resolver("/etc".as_ref(), spec.resolver).map_err(step("name the resolver"))?;
    }
    Ok(())
}

fn system() -> io::Result<()> {
    fs::create_dir("usr")?;
    bind("/usr".as_ref(), "usr".as_ref())?;
    for name in BESIDE_USR {
        let host = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&host) else { continue };
        if metadata.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&host)?, name)?;
        } else {
            fs::create_dir(name)?;
            bind(&host, name.as_ref())?;
        }
    }
    Ok(())
}

fn etc(uid: u32) -> io::Result<()> {
    fs::create_dir("etc")?;
    fs::write(
        "etc/passwd",
        format!(
            "root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:{uid}:{uid}:sandbox:/tmp:/usr/sbin/nologin\n"
        ),
    )?;
    fs::write("etc/group", format!("root:x:0:\nsandbox:x:{uid}:\n"))?;
    fs::write("etc/hosts", HOSTS)?;
    fs::write("etc/hostname", "sandbox\n")?;
    resolver("etc".as_ref(), Some(USUAL_RESOLVER))?;
    for name in OF_ETC {
        let host = Path::new("/").join(name);
        // A link of the host's may lead anywhere; what is meant is what it leads to, at the link's place.
        let Ok(metadata) = fs::metadata(&host) else { continue };
        if metadata.is_dir() {
            fs::create_dir_all(name)?;
        } else {
            if let Some(parent) = Path::new(name).parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(name, "")?;
        }
        bind(&host, name.as_ref())?;
    }
    Ok(())
}

/// Where programs ask for names.
fn resolver(etc: &Path, address: Option<IpAddr>) -> io::Result<()> {
    let (line, names) = match address {
        Some(address) => (format!("nameserver {address}\n"), "files dns"),
        None => (String::new(), "files"),
    };
    fs::write(etc.join("resolv.conf"), line)?;
    fs::write(etc.join("nsswitch.conf"), format!("passwd: files\ngroup: files\nhosts: {names}\n"))
}

fn devices() -> io::Result<()> {
    fs::create_dir("dev")?;
    mount("dev", "dev", "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=755,size=4k,nr_inodes=32")?;
    // Major and minor numbers: admin-guide/devices.txt of the kernel.
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let path = format!("dev/{name}");
        let everyone = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::CharacterDevice, everyone, makedev(1, minor))?;
        // The umask must not matter.
        rustix::fs::chmod(&path, everyone)?;
    }
    for (link, to) in [
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
        // Shared memory counts against the limit of /tmp.
        ("dev/shm", "/tmp"),
    ] {
        std::os::unix::fs::symlink(to, link)?;
    }
    let device = open("dev", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    sys::mount_attributes(device.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
}

fn add_hosts(names: &[(IpAddr, String)]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let lines = names.iter().map(|(address, name)| format!("{address} {name}\n"));
    fs::write("/etc/hosts", HOSTS.to_owned() + &lines.collect::<String>())
}

/// The limit of `/tmp`, which began with next to nothing.
fn resize_tmp(bytes: u64) -> io::Result<()> {
    // One inode for each page that fits, since empty files take kernel memory too.
    let inodes = (bytes / 4096).max(64);
    let options = std::ffi::CString::new(format!("size={bytes},nr_inodes={inodes}"))?;
    Ok(mount_remount("/tmp", TMP_FLAGS, options.as_c_str())?)
}

fn proc() -> io::Result<()> {
    // Read-only as a whole: `sys` and others steer the host, and a process' own part its place in the queue when
    // memory is short, which the host may be unable to hold it to otherwise.
    let flags = PROC_FLAGS | MountFlags::RDONLY;
    mount("proc", "/proc", "proc", flags, c"hidepid=invisible")?;
    // A folder is hidden by an empty one, which needs no name any more once it is attached.
    fs::create_dir("/empty")?;
    for name in MASKED {
        let Ok(metadata) = fs::metadata(name) else { continue };
        let cover = if metadata.is_dir() { "/empty" } else { "/dev/null" };
        attach(&open_tree(CWD, cover, CLONE)?, name.as_ref())?;
    }
    fs::remove_dir("/empty")
}

/// Opens the folders of a spec as trees that are attached nowhere yet, read-only. The asker is not trusted with
/// the host's files: only what lies below one of the spawner's own roots, without a link on the way, can be shown.
pub(super) fn open_mounts(mounts: &[Mount], mount_roots: &[PathBuf]) -> Result<Vec<OwnedFd>, Refused> {
    mounts.iter().map(|one| open_mount(one, mount_roots)).collect()
}

fn open_mount(one: &Mount, mount_roots: &[PathBuf]) -> Result<OwnedFd, Refused> {
    let source = one.source.display();
    let found = mount_roots.iter().find_map(|root| Some((root, one.source.strip_prefix(root).ok()?)));
    let Some((root, below)) = found else {
        return Err(Refused::Spec(format!("{source} is in no folder that sandboxes may see")));
    };
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let opened =
        open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).and_then(|root| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            openat2(root, below, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
        });
    let tree = opened.and_then(|opened| {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        open_tree(&opened, "", flags)
    });
    let closed = tree.map_err(io::Error::from).and_then(|tree| {
        sys::mount_attributes(tree.as_fd(), READ_ONLY, false)?;
        Ok(tree)
    });
    closed.map_err(|error| Refused::Spec(format!("{source} cannot be shown: {error}")))
}

/// Shows a part of the host, whole and read-only.
fn bind(host: &Path, at: &Path) -> io::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, host, flags)?;
    // Before it is attached: at no moment can it be written.
    sys::mount_attributes(tree.as_fd(), READ_ONLY, true)?;
    attach(&tree, at)
}

pub(super) fn attach(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    Ok(move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Makes the working folder the root, and lets go of the old one.
pub(super) fn switch() -> io::Result<()> {
    let root = open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // The old root ends up stacked over the new one: `pivot_root(2)`, "pivot_root(".", ".")".
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    fchdir(&root)?;
    Ok(chdir("/")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clean_absolute_path_outside_the_sandbox_own_folders_can_be_a_target() {
        for good in ["/var/task", "/opt/rouse/runtime", "/srv"] {
            assert_eq!(check_target(Path::new(good)), Ok(()), "{good}");
        }
        for bad in [
            "/",
            "",
            "var/task",
            "/usr/x",
            "/etc",
            "/proc/1",
            "/var/../usr",
            "/var/task/..",
            "/tmp/x",
            "/../x",
        ] {
            assert!(check_target(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
