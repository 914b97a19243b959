//! What a sandbox of an image sees of files: the image's layers, stacked, under what the code writes, which goes to its
//! own memory. Built over the root that every sandbox has, which is left behind then; its `/proc` and `/dev` come along.
//!
//! ```text
//!  spawner:  open each layer ─▶ map its owner to the sandbox' user ─▶ hand the trees over
//!  child:    attach ─▶ our own files into the upper folder ─▶ overlay ─▶ move /proc, /dev ─▶ mounts ─▶ change the root
//! ```
//!
//! All that is made before the overlay is mounted is made in the empty upper folder, by names that no layer can
//! redirect: a folder there shadows whatever link the image has at its place.
//!
//! Needs Linux 5.19, whose overlayfs takes mapped layers.

use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsmount,
        fsopen, mount, move_mount, open_tree,
    },
    process::{Pid, Signal, WaitOptions, chdir, kill_process, waitpid},
};

use super::{
    rootfs::{self, CLONE},
    sys,
    wire::Refused,
};
use crate::{Mount, Root, Spec};

/// Layers of one image: what Docker takes. Each is a descriptor that is handed over.
pub(super) const LAYERS_MAX: usize = 127;
/// Of the image's `passwd` and `group`, which we add a line to.
const ACCOUNTS_BYTES_MAX: u64 = 1 << 20;
/// Where programs are looked for when the image's environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where it is all put together, below the root that every sandbox has.
const PLACE: &str = "/image";

/// Opens the layers of a spec as trees whose files belong to `uid`, whoever unpacked them; nothing for a spec without.
///
/// Precondition: as of [`sys::fork_into_user_namespace`]. It is the spawner that runs this.
pub(super) fn open_layers(root: &Root, mount_roots: &[PathBuf], uid: u32) -> Result<Vec<OwnedFd>, Refused> {
    let Root::Layers(layers) = root else { return Ok(Vec::new()) };
    let mounts: Vec<Mount> =
        layers.iter().map(|layer| Mount { source: layer.clone(), target: PathBuf::new() }).collect();
    let trees = rootfs::open_mounts(&mounts, mount_roots)?;
    let mut users: Option<(u32, OwnedFd)> = None;
    for (tree, layer) in trees.iter().zip(layers) {
        let owner = fstat(tree).map_err(|e| Refused::host("look at a layer", &e.into()))?.st_uid;
        // One process unpacks all layers, so one mapping serves them.
        if users.as_ref().is_none_or(|(known, _)| *known != owner) {
            let made =
                map_user(owner, uid).map_err(|e| Refused::host("make a user namespace for an image", &e))?;
            users = Some((owner, made));
        }
        let Some((_, namespace)) = &users else { continue };
        sys::map_mount(tree.as_fd(), namespace.as_fd()).map_err(|error| {
            Refused::host(
                format!("map the owner of {}, for which Linux 5.19 is needed", layer.display()),
                &error,
            )
        })?;
    }
    Ok(trees)
}

/// A user namespace in which the one user is another.
fn map_user(from: u32, to: u32) -> io::Result<OwnedFd> {
    let Some(process) = sys::fork_into_user_namespace()? else { sys::wait_for_end() };
    let made = (|| {
        let about = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
        // Group and user of what we unpack are the same person.
        fs::write(about.join("uid_map"), format!("{from} {to} 1"))?;
        fs::write(about.join("gid_map"), format!("{from} {to} 1"))?;
        Ok(File::open(about.join("ns/user"))?.into())
    })();
    end(process);
    made
}

fn end(process: Pid) {
    let _ = kill_process(process, Signal::KILL);
    while let Err(rustix::io::Errno::INTR) = waitpid(Some(process), WaitOptions::empty()) {}
}

/// Builds the image's root from the trees of [`open_layers`] and moves this process into it. `mounts` are those of
/// [`rootfs::open_mounts`]. Precondition: [`rootfs::build`] was run.
pub(super) fn enter(spec: &Spec, mounts: &[OwnedFd], layers: &[OwnedFd], uid: u32) -> Result<(), Refused> {
    let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
    low_ports().map_err(step("open the low ports"))?;
    rootfs::name_hosts(spec)?;
    place(spec.limits.tmp_bytes).map_err(step("mount a place for the image"))?;
    let mut lower = Vec::new();
    for (number, tree) in layers.iter().enumerate() {
        let at = format!("lower/{number}");
        fs::create_dir(&at)
            .and_then(|()| rootfs::attach(tree, at.as_ref()))
            .map_err(step("attach a layer"))?;
        lower.push(at);
    }
    // Overlayfs wants the uppermost first.
    lower.reverse();
    upper(spec, &lower, uid).map_err(step("make the image's own files"))?;
    let options = format!("lowerdir={},upperdir=upper,workdir=work", lower.join(":"));
    let mounted = CString::new(options).map_err(io::Error::from).and_then(|options| {
        Ok(mount("image", "root", "overlay", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?)
    });
    mounted.map_err(step("stack the image's layers"))?;
    chdir("root").map_err(|e| step("enter the image")(e.into()))?;
    for name in ["proc", "dev"] {
        let moved = move_mount(CWD, format!("/{name}"), CWD, name, MoveMountFlags::empty());
        moved.map_err(|e| step("take /proc and /dev along")(e.into()))?;
    }
    let tmp = open_tree(CWD, "../tmp", CLONE).map_err(io::Error::from);
    tmp.and_then(|tmp| rootfs::attach(&tmp, "tmp".as_ref())).map_err(step("show /tmp"))?;
    for (one, tree) in spec.mounts.iter().zip(mounts) {
        let target = one.target.strip_prefix("/").unwrap_or(&one.target);
        rootfs::attach(tree, target).map_err(|error| {
            let (source, target) = (one.source.display(), one.target.display());
            Refused::Spec(format!("{source} cannot be shown at {target}: {error}"))
        })?;
    }
    rootfs::switch().map_err(step("change the root"))?;
    // Now that nothing of the host is there any more, the image's links may lead where they like.
    if fs::create_dir_all(&spec.cwd).is_ok() && fs::metadata(&spec.cwd).is_ok_and(|made| made.uid() == 0) {
        let _ = chown(&spec.cwd, Some(uid), Some(uid));
    }
    Ok(())
}

/// Memory for all that the code writes, `/tmp` too: one limit for them. Enters it.
fn place(bytes: u64) -> io::Result<()> {
    fs::create_dir(PLACE)?;
    let inodes = (bytes / 4096).max(1_024);
    let options = CString::new(format!("mode=755,size={bytes},nr_inodes={inodes}"))?;
    mount("image", PLACE, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    chdir(PLACE)?;
    for name in ["lower", "upper", "work", "root", "tmp"] {
        fs::create_dir(name)?;
    }
    fs::set_permissions("tmp", fs::Permissions::from_mode(0o1777))
}

/// What is ours in the image: its hosts and resolver, a line for the code's user, and the places of mounts.
fn upper(spec: &Spec, lower: &[String], uid: u32) -> io::Result<()> {
    let folders = ["etc", "proc", "dev", "tmp"].map(PathBuf::from).into_iter();
    let targets =
        spec.mounts.iter().map(|one| one.target.strip_prefix("/").unwrap_or(&one.target).to_owned());
    for folder in folders.chain(targets) {
        let mut made = PathBuf::from("upper");
        for part in folder.components() {
            made.push(part);
            if !made.is_dir() {
                fs::create_dir(&made)?;
                chown(&made, Some(uid), Some(uid))?;
            }
        }
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        fs::copy(Path::new("/etc").join(name), Path::new("upper/etc").join(name))?;
    }
    let user = format!("sandbox:x:{uid}:{uid}:sandbox:/tmp:/sbin/nologin\n");
    fs::write("upper/etc/passwd", [account(lower, c"etc/passwd"), user.into()].concat())?;
    fs::write(
        "upper/etc/group",
        [account(lower, c"etc/group"), format!("sandbox:x:{uid}:\n").into()].concat(),
    )?;
    for name in ["", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/passwd", "etc/group"] {
        chown(Path::new("upper").join(name), Some(uid), Some(uid))?;
    }
    Ok(())
}

/// A file of the uppermost layer that has it, with a line's end; nothing if that is no plain file of a usual size.
fn account(lower: &[String], name: &CStr) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let found = lower.iter().find_map(|layer| {
        let layer = File::open(layer).ok()?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(layer, name, flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::NOENT) => None,
            other => Some(other.ok()),
        }
    });
    let mut text = Vec::new();
    if let Some(file) = found.flatten().map(File::from)
        && file.metadata().is_ok_and(|found| found.is_file() && found.len() <= ACCOUNTS_BYTES_MAX)
        && file.take(ACCOUNTS_BYTES_MAX).read_to_end(&mut text).is_err()
    {
        text.clear();
    }
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text
}

/// Lets the code listen on any port of its own network, as root of an image expects: many images listen on 80.
fn low_ports() -> io::Result<()> {
    // `/proc` inside is read-only; this one is attached nowhere.
    let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&proc)?;
    let proc = fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let path = "sys/net/ipv4/ip_unprivileged_port_start";
    let file = rustix::fs::openat(&proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, b"0")?;
    Ok(())
}

/// The paths to try for a spec's program: of an image, where a name without a folder is looked for on its `PATH`.
pub(super) fn programs(spec: &Spec) -> Vec<String> {
    let program = spec.argv.first().cloned().unwrap_or_default();
    if spec.root == Root::Host || program.contains('/') {
        return vec![program];
    }
    let path = spec.env.iter().find(|(name, _)| name == "PATH").map_or(PATH, |(_, path)| path);
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| format!("{folder}/{program}"))
        .collect()
}
