//! What a host offers to confine code with: looked at without a spawner, and without changing anything.
//!
//! Each question is answered by what the kernel tells of itself. Who asks without privileges learns what is there, and
//! not whether root could use it; those answers say so.

use std::{fs, path::Path};

use rustix::{
    fs::{Access, access},
    process::geteuid,
    system::uname,
    thread::{CapabilitySet, capabilities},
};
use serde::Serialize;

use super::{
    cgroup::{self, Version},
    full,
    layout::{Feature, Hierarchy},
};

/// The oldest kernel that has `mount_setattr(2)`.
const KERNEL_MIN: (u32, u32) = (5, 12);

/// How well something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// There, and less than it should be.
    Degraded,
    /// Not there, or of no use.
    Missing,
    /// It cannot be seen by who asks.
    Unseen,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How well it is there.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// The next step, if it is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    #[must_use]
    pub fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, state: State::Ok, detail: detail.into(), fix: None }
    }

    /// Something that is not.
    #[must_use]
    pub fn bad(what: &'static str, state: State, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, state, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// All that containers need of this host, the most needed first.
#[must_use]
pub fn containers() -> Vec<Finding> {
    let mut findings = vec![kernel(&uname().release().to_string_lossy()), privileges()];
    findings.push(there(
        "namespaces",
        &["mnt", "pid", "ipc", "uts", "net", "cgroup"].map(|name| format!("/proc/self/ns/{name}")),
        "use a kernel that is built with all of CONFIG_NAMESPACES",
    ));
    findings.push(seccomp(&read("/proc/sys/kernel/seccomp/actions_avail")));
    findings.extend(groups(&cgroup::discover(), geteuid().is_root()));
    findings
}

/// What networks of sandboxes need, which specs ask for that may reach everything. Containers do without.
#[must_use]
pub fn full_network() -> Vec<Finding> {
    vec![rules(), forwarding()]
}

fn rules() -> Finding {
    const WHAT: &str = "full network";
    if full::find().is_none() {
        let fix = "apt-get install nftables, and restart the platform";
        return Finding::bad(WHAT, State::Missing, "no nft, so no function can have egress = \"*\"", fix);
    }
    if !geteuid().is_root() {
        let fix = "run it as root to learn whether the kernel takes the rules";
        return Finding::bad(WHAT, State::Unseen, "nft is there", fix);
    }
    // Written and removed in one transaction, which nobody sees.
    if let Err(why) = full::probe("doctor") {
        let fix = "use a kernel with veth and nf_tables (nat, fib, ct count), and run as root with net_admin";
        return Finding::bad(WHAT, State::Missing, why, fix);
    }
    let closed = full::closed_by_others();
    if closed.is_empty() {
        return Finding::ok(WHAT, "pairs of interfaces, and rules by nft");
    }
    let fix =
        "accept in them what comes from and goes to the interfaces rouse-*, as DOCKER-USER is there for";
    let detail = format!("these tables of nft let nothing pass that they do not know: {}", closed.join(", "));
    Finding::bad(WHAT, State::Degraded, detail, fix)
}

/// No lack: who needs it turns it on.
fn forwarding() -> Finding {
    let (on, off): (Vec<_>, Vec<_>) = full::uplinks().into_iter().partition(|name| full::is_on(name));
    let detail = match (on.join(", "), off.join(", ")) {
        (on, off) if off.is_empty() => format!("on for {on}"),
        (_, off) => format!(
            "off for {off}; turned on while functions have egress = \"*\", and for nothing but their packets"
        ),
    };
    Finding::ok("IP forwarding", detail)
}

/// What other kinds of sandboxes would need: nothing of today's depends on it.
#[must_use]
pub fn beyond() -> Vec<Finding> {
    let overlay =
        if read("/proc/filesystems").lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay")
        {
            Finding::ok("overlayfs", "for images")
        } else {
            Finding::bad("overlayfs", State::Missing, "the kernel does not know it now", "modprobe overlay")
        };
    let users = match read("/proc/sys/user/max_user_namespaces").trim().parse() {
        Ok(0) => {
            let fix = "sysctl -w user.max_user_namespaces=15000";
            Finding::bad("user namespaces", State::Degraded, "turned off; containers do without", fix)
        }
        Ok::<u64, _>(count) => Finding::ok("user namespaces", format!("up to {count}")),
        Err(_) => {
            let fix = "none is needed: containers do without";
            Finding::bad("user namespaces", State::Degraded, "the kernel has none", fix)
        }
    };
    vec![overlay, users, kvm(Path::new("/dev/kvm"), Path::new("/sys/module/kvm_pvm"))]
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if version >= KERNEL_MIN {
        return Finding::ok("kernel", format!("Linux {release}"));
    }
    let (major, minor) = KERNEL_MIN;
    let fix = format!("use Linux {major}.{minor} or newer; components run here too");
    Finding::bad("kernel", State::Missing, format!("Linux {release}"), fix)
}

fn privileges() -> Finding {
    const WHAT: &str = "privileges";
    if !geteuid().is_root() {
        let fix = "run it as root, with `sudo rouse doctor`; and `rouse serve` as root to run containers";
        return Finding::bad(WHAT, State::Unseen, "not root: what root could do here is not seen", fix);
    }
    let needed = [
        (CapabilitySet::SYS_ADMIN, "sys_admin"),
        (CapabilitySet::NET_ADMIN, "net_admin"),
        (CapabilitySet::SETUID, "setuid"),
        (CapabilitySet::SETGID, "setgid"),
        (CapabilitySet::SETPCAP, "setpcap"),
        (CapabilitySet::CHOWN, "chown"),
        (CapabilitySet::MKNOD, "mknod"),
        (CapabilitySet::KILL, "kill"),
    ];
    let Ok(have) = capabilities(None) else { return Finding::ok(WHAT, "root") };
    let lacking: Vec<_> =
        needed.iter().filter(|(one, _)| !have.effective.contains(*one)).map(|(_, name)| *name).collect();
    if lacking.is_empty() {
        return Finding::ok(WHAT, "root");
    }
    let fix = "inside a container, start that one with --privileged, or with these capabilities";
    Finding::bad(WHAT, State::Missing, format!("root without {}", lacking.join(", ")), fix)
}

fn there(what: &'static str, paths: &[String], fix: &str) -> Finding {
    let absent: Vec<_> = paths.iter().filter(|path| fs::symlink_metadata(path).is_err()).cloned().collect();
    if absent.is_empty() {
        return Finding::ok(what, "all that are needed");
    }
    Finding::bad(what, State::Missing, format!("{} is not there", absent.join(", ")), fix)
}

fn seccomp(actions: &str) -> Finding {
    let has = |action: &str| actions.split_whitespace().any(|one| one == action);
    if has("kill_process") && has("errno") {
        return Finding::ok("seccomp", "filters of system calls");
    }
    let fix = "use a kernel that is built with CONFIG_SECCOMP_FILTER";
    Finding::bad("seccomp", State::Missing, "the kernel filters no system calls", fix)
}

/// A finding for each thing that control groups limit or measure.
fn groups(hierarchies: &[Hierarchy], is_root: bool) -> Vec<Finding> {
    let rows = [
        ("limit of memory", Feature::Memory, "an instance can use up the host's memory"),
        ("limit of CPU time", Feature::Cpu, "an instance can use up whole cores"),
        ("limit of processes", Feature::Pids, "each user's own limit (RLIMIT_NPROC) holds instead"),
        ("freezing", Feature::Freezer, "idle instances cannot be kept, and each call starts a new one"),
        ("measure of CPU time", Feature::CpuUsage, "usage is metered without CPU time"),
    ];
    let find = |feature| hierarchies.iter().find(|hierarchy| hierarchy.features.contains(&feature));
    let row = |(what, feature, consequence): (&'static str, Feature, &str)| {
        let Some(hierarchy) = find(feature) else {
            let fix = format!("mount the hierarchy or enable the controller: {}", remedy(feature));
            return Finding::bad(what, State::Degraded, format!("no control group: {consequence}"), fix);
        };
        let version = match hierarchy.version {
            Version::V1 => "1",
            Version::V2 => "2",
        };
        let detail = format!("control groups of version {version}, {}", hierarchy.folder.display());
        if !is_root {
            let fix = "run it as root to learn whether they can be used";
            return Finding::bad(what, State::Unseen, detail, fix);
        }
        match access(&hierarchy.folder, Access::WRITE_OK) {
            Ok(()) => Finding::ok(what, detail),
            Err(error) => {
                let fix = format!("make {} writable", hierarchy.folder.display());
                Finding::bad(what, State::Degraded, format!("{detail}: {error}"), fix)
            }
        }
    };
    rows.map(row).into()
}

fn remedy(feature: Feature) -> String {
    match feature.controller() {
        Some(name) => format!(
            "`{name}` in /sys/fs/cgroup/cgroup.subtree_control, or the kernel option cgroup_enable={name}"
        ),
        None => "cgroup2 at /sys/fs/cgroup".to_owned(),
    }
}

fn kvm(device: &Path, pvm: &Path) -> Finding {
    const WHAT: &str = "KVM";
    if !device.exists() {
        let fix = "nothing needs it yet; for micro VMs, turn virtualisation on and load kvm";
        return Finding::bad(WHAT, State::Missing, "no /dev/kvm", fix);
    }
    if pvm.exists() {
        let fix = "nothing needs it yet; for micro VMs, use a host with hardware virtualisation";
        return Finding::bad(WHAT, State::Degraded, "kvm_pvm, which interprets a guest's kernel", fix);
    }
    match access(device, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Finding::ok(WHAT, "for micro VMs, which are not offered yet"),
        Err(_) => Finding::bad(WHAT, State::Unseen, "/dev/kvm cannot be opened", "run it as root"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_old_enough_or_not() {
        for (release, state) in [
            ("6.18.44-x", State::Ok),
            ("5.12.0", State::Ok),
            ("5.11.22", State::Missing),
            ("4.19.0-26-amd64", State::Missing),
            ("strange", State::Missing),
        ] {
            let found = kernel(release);
            assert_eq!(found.state, state, "{release}");
            assert_eq!(found.fix.is_some(), state != State::Ok);
        }
    }

    #[test]
    fn what_no_control_group_limits_is_degraded_and_has_a_fix() {
        let folder = "/".into();
        let memory = Hierarchy { version: Version::V1, folder, features: vec![Feature::Memory] };
        let found = groups(&[memory], true);
        assert_eq!(found[0].state, State::Ok, "{found:?}");
        assert!(found[0].detail.contains("version 1"));
        let lacking = &found[1..];
        assert!(lacking.iter().all(|one| one.state == State::Degraded && one.fix.is_some()), "{lacking:?}");
        assert!(groups(&[], false).iter().all(|one| one.state == State::Degraded));
    }

    #[test]
    fn a_kernel_without_filters_is_told() {
        assert_eq!(
            seccomp("kill_process kill_thread trap errno user_notif trace log allow\n").state,
            State::Ok
        );
        assert_eq!(seccomp("").state, State::Missing);
    }

    #[test]
    fn an_interpreting_kvm_is_no_kvm() {
        assert_eq!(kvm(Path::new("/nowhere"), Path::new("/")).state, State::Missing);
        assert_eq!(kvm(Path::new("/dev/null"), Path::new("/")).state, State::Degraded);
        assert_eq!(kvm(Path::new("/dev/null"), Path::new("/nowhere")).state, State::Ok);
    }

    #[test]
    fn everything_that_is_not_as_it_should_be_has_a_next_step() {
        for found in containers().into_iter().chain(beyond()).chain(full_network()) {
            assert_eq!(found.fix.is_none(), found.state == State::Ok, "{found:?}");
        }
    }
}
