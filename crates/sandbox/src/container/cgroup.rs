//! Control groups: for each thing to limit or measure, the hierarchy of the kernel that can do it here.
//!
//! Hosts have version 2, version 1, or both at once with each controller in one of them. So the choice is made
//! for each [`Feature`]: version 2 where it has it, else version 1, else it is reported as not enforced.
//! Every sandbox has a folder `rouse-<instance>/<group>` in each hierarchy that is used. The group's name says
//! nothing: it is made before anybody knows what will run in it.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Mode, OFlags, open};
use serde::{Deserialize, Serialize};

pub use super::layout::Version;
use super::layout::{Feature, Hierarchy};
use super::wire::Refused;
use crate::{Limits, Stats};

/// One period of the scheduler's quota.
const CPU_PERIOD_US: u64 = 100_000;
/// The least quota that the kernel takes.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// Waits for what a killed predecessor left: the kernel reaps its processes within milliseconds.
const CLEAN_TRIES: u32 = 200;
const CLEAN_PAUSE: Duration = Duration::from_millis(5);

/// The hierarchies that this spawner uses, each with its folder made.
#[derive(Debug)]
pub(super) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

/// What a sandbox' first process needs to be in its group from its first instruction.
#[derive(Debug)]
pub(super) struct Join {
    /// The folder in version 2, for `CLONE_INTO_CGROUP`.
    pub(super) unified: Option<OwnedFd>,
    /// `tasks` in each version 1: the child writes `0`, which is itself. Writing another's number into
    /// `cgroup.procs` waits for a grace period of the kernel: tens of milliseconds.
    pub(super) tasks: Vec<OwnedFd>,
}

/// Control files of one group, opened for a process that could not open them itself.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) freezer: Option<(Version, OwnedFd, OwnedFd)>,
    pub(super) cpu: Option<(Version, OwnedFd)>,
    pub(super) memory_peak: Option<OwnedFd>,
}

impl Cgroups {
    /// Makes the folders that groups are made in. What cannot be made is left out, and said in the log.
    pub(super) fn prepare(hierarchies: Vec<Hierarchy>, instance: &str) -> Self {
        let mut usable = Vec::new();
        for mut hierarchy in hierarchies {
            let parent = std::mem::take(&mut hierarchy.folder);
            hierarchy.folder = parent.join(format!("rouse-{instance}"));
            if let Err(error) = fs::create_dir_all(&hierarchy.folder) {
                tracing::warn!(folder = %hierarchy.folder.display(), %error, "no control groups here");
                continue;
            }
            if hierarchy.version == Version::V2 {
                hierarchy.features.retain(|feature| {
                    let Some(controller) = feature.controller() else { return true };
                    let enabled =
                        enable(&parent, controller).and_then(|()| enable(&hierarchy.folder, controller));
                    if let Err(error) = &enabled {
                        tracing::warn!(controller, %error, "the controller cannot be used");
                    }
                    enabled.is_ok()
                });
            }
            usable.push(hierarchy);
        }
        Self { hierarchies: usable }
    }

    /// Which version enforces or measures a feature.
    pub(super) fn version(&self, feature: Feature) -> Option<Version> {
        self.find(feature).map(|hierarchy| hierarchy.version)
    }

    fn find(&self, feature: Feature) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.features.contains(&feature))
    }

    /// Ends and removes every group that is there: those of a predecessor that was killed.
    pub(super) fn clean(&self) {
        for hierarchy in &self.hierarchies {
            let Ok(entries) = fs::read_dir(&hierarchy.folder) else { continue };
            for group in entries.flatten().filter(|entry| entry.path().is_dir()) {
                let mut tries = 0;
                while let Err(error) = end(&group.path()).and_then(|()| remove(&group.path())) {
                    tries += 1;
                    if tries == CLEAN_TRIES {
                        tracing::warn!(group = %group.path().display(), %error, "a left group stays");
                        break;
                    }
                    std::thread::sleep(CLEAN_PAUSE);
                }
            }
        }
    }

    /// Removes the folders of [`Cgroups::prepare`], once no group is left.
    pub(super) fn dismantle(&self) {
        self.clean();
        for hierarchy in &self.hierarchies {
            // The next start makes it again; if it cannot go, it is an empty folder.
            let _ = fs::remove_dir(&hierarchy.folder);
        }
    }

    /// Makes a group, without limits yet: what runs in it until [`Cgroups::limit`] is ours.
    pub(super) fn create(&self, group: &str) -> Result<Join, Refused> {
        let mut join = Join { unified: None, tasks: Vec::new() };
        for hierarchy in &self.hierarchies {
            let group = hierarchy.folder.join(group);
            fs::create_dir(&group).map_err(|e| Refused::host("make a control group", &e))?;
            match hierarchy.version {
                Version::V2 => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    let opened = open(&group, flags, Mode::empty());
                    join.unified =
                        Some(opened.map_err(|e| Refused::host("open a control group", &e.into()))?);
                }
                Version::V1 => {
                    let tasks = open_file(&group.join("tasks"), OFlags::WRONLY);
                    join.tasks.push(tasks.map_err(|e| Refused::host("open a control group", &e))?);
                }
            }
        }
        Ok(join)
    }

    /// Files that take a process into the group: whoever holds them writes `0`, which is itself. The kernel asks for
    /// the rights of the process that opened them (Linux 5.16).
    pub(super) fn entrances(&self, group: &str) -> Result<Vec<OwnedFd>, Refused> {
        let name = |version| match version {
            Version::V2 => "cgroup.procs",
            Version::V1 => "tasks",
        };
        let files = self.hierarchies.iter().map(|hierarchy| {
            open_file(&hierarchy.folder.join(group).join(name(hierarchy.version)), OFlags::WRONLY)
        });
        files.collect::<io::Result<_>>().map_err(|e| Refused::host("open a control group", &e))
    }

    /// Has the kernel kill one process, and not the whole group, when the group's memory is used up.
    pub(super) fn lose_one(&self, group: &str) {
        if let Some(hierarchy) = self.find(Feature::Memory) {
            // Version 1 knows nothing else.
            let _ = fs::write(hierarchy.folder.join(group).join("memory.oom.group"), "0");
        }
    }

    /// Changes what a group may hold, and nothing else.
    pub(super) fn limit_memory(&self, group: &str, limits: &Limits) -> io::Result<()> {
        self.find(Feature::Memory).map_or(Ok(()), |hierarchy| {
            limit(&hierarchy.folder.join(group), hierarchy.version, Feature::Memory, limits)
        })
    }

    /// Kills all processes of a group.
    pub(super) fn end(&self, group: &str) {
        for hierarchy in &self.hierarchies {
            if let Err(error) = end(&hierarchy.folder.join(group)) {
                tracing::warn!(group, %error, "the processes of a group could not be ended");
            }
        }
    }

    /// Gives a group its limits.
    pub(super) fn limit(&self, group: &str, limits: &Limits) -> Result<(), Refused> {
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.folder.join(group);
            for feature in &hierarchy.features {
                limit(&folder, hierarchy.version, *feature, limits)
                    .map_err(|e| Refused::host(format!("limit {feature:?}"), &e))?;
            }
        }
        Ok(())
    }

    /// Opens the control files that the node acts and measures through. What this host lacks is `None`.
    pub(super) fn files(&self, group: &str) -> Files {
        let mut files = Files::default();
        let at = |feature| self.find(feature).map(|h| (h.version, h.folder.join(group)));
        if let Some((version, group)) = at(Feature::Freezer) {
            let (set, told) = match version {
                Version::V2 => ("cgroup.freeze", "cgroup.events"),
                Version::V1 => ("freezer.state", "freezer.state"),
            };
            let set = open_file(&group.join(set), OFlags::WRONLY);
            let told = open_file(&group.join(told), OFlags::RDONLY);
            files.freezer = set.ok().zip(told.ok()).map(|(set, told)| (version, set, told));
        }
        if let Some((version, group)) = at(Feature::CpuUsage) {
            files.cpu =
                open_file(&group.join(cpu_file(version)), OFlags::RDONLY).ok().map(|fd| (version, fd));
        }
        if let Some((version, group)) = at(Feature::Memory) {
            files.memory_peak = open_file(&group.join(peak_file(version)), OFlags::RDONLY).ok();
        }
        files
    }

    /// CPU time that a group has used, in microseconds.
    pub(super) fn cpu_us(&self, group: &str) -> u64 {
        self.read(group, Feature::CpuUsage, cpu_file).and_then(|(v, text)| cpu_us(v, &text)).unwrap_or(0)
    }

    /// Memory that a group holds, in bytes.
    pub(super) fn memory_bytes(&self, group: &str) -> u64 {
        let text = self.read(group, Feature::Memory, memory_file);
        text.and_then(|(_, text)| text.trim().parse().ok()).unwrap_or(0)
    }

    fn read(
        &self,
        group: &str,
        feature: Feature,
        name: fn(Version) -> &'static str,
    ) -> Option<(Version, String)> {
        let hierarchy = self.find(feature)?;
        let text = fs::read_to_string(hierarchy.folder.join(group).join(name(hierarchy.version))).ok()?;
        Some((hierarchy.version, text))
    }

    /// The last figures of a group.
    pub(super) fn stats(&self, group: &str) -> Stats {
        let peak = self.read(group, Feature::Memory, peak_file);
        Stats {
            cpu_us: self.cpu_us(group),
            memory_peak_bytes: peak.and_then(|(_, text)| text.trim().parse().ok()).unwrap_or(0),
        }
    }

    /// Whether the kernel killed a process of the group because its memory was used up.
    pub(super) fn out_of_memory(&self, group: &str) -> bool {
        let Some(hierarchy) = self.find(Feature::Memory) else { return false };
        let name = match hierarchy.version {
            Version::V2 => "memory.events",
            Version::V1 => "memory.oom_control",
        };
        let text = fs::read_to_string(hierarchy.folder.join(group).join(name)).unwrap_or_default();
        field(&text, "oom_kill").is_some_and(|count| count > 0)
    }

    /// Lets a group's processes go on: a frozen process of version 1 does not even die.
    pub(super) fn thaw(&self, group: &str) {
        if let Some(hierarchy) = self.find(Feature::Freezer)
            && hierarchy.version == Version::V1
        {
            // It may be gone already; then there is nothing to thaw.
            let _ = fs::write(hierarchy.folder.join(group).join("freezer.state"), "THAWED");
        }
    }

    /// Removes a group. It can take a few tries: processes that were reaped leave their groups a little later.
    pub(super) fn remove(&self, group: &str) -> io::Result<()> {
        let results = self.hierarchies.iter().map(|hierarchy| remove(&hierarchy.folder.join(group)));
        results.fold(Ok(()), Result::and)
    }
}

/// CPU time in microseconds out of the text of [`cpu_file`].
pub(super) fn cpu_us(version: Version, text: &str) -> Option<u64> {
    match version {
        Version::V2 => field(text, "usage_usec"),
        Version::V1 => text.trim().parse::<u64>().ok().map(|ns| ns / 1_000),
    }
}

/// Whether a group stands still, out of the text of `cgroup.events` or `freezer.state`.
pub(super) fn is_frozen(version: Version, text: &str) -> bool {
    match version {
        Version::V2 => field(text, "frozen") == Some(1),
        Version::V1 => text.trim() == "FROZEN",
    }
}

/// What to write to freeze or thaw.
pub(super) fn freezer_state(version: Version, frozen: bool) -> &'static str {
    match (version, frozen) {
        (Version::V2, true) => "1",
        (Version::V2, false) => "0",
        (Version::V1, true) => "FROZEN",
        (Version::V1, false) => "THAWED",
    }
}

fn cpu_file(version: Version) -> &'static str {
    match version {
        Version::V2 => "cpu.stat",
        Version::V1 => "cpuacct.usage",
    }
}

fn memory_file(version: Version) -> &'static str {
    match version {
        Version::V2 => "memory.current",
        Version::V1 => "memory.usage_in_bytes",
    }
}

fn peak_file(version: Version) -> &'static str {
    match version {
        Version::V2 => "memory.peak",
        Version::V1 => "memory.max_usage_in_bytes",
    }
}

/// The number after a name, in files of lines `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn limit(group: &Path, version: Version, feature: Feature, limits: &Limits) -> io::Result<()> {
    let write = |file: &str, value: String| fs::write(group.join(file), value);
    // Files that some kernels are built without: what they limit is then not there either.
    let write_if_there = |file: &str, value: &str| match fs::write(group.join(file), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    };
    let quota_us = (u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1_000).max(CPU_QUOTA_US_MIN);
    // The first process, which reaps, is ours and not the code's.
    let processes = u64::from(limits.processes) + 1;
    match (feature, version) {
        (Feature::Memory, Version::V2) => {
            write("memory.max", limits.memory_bytes.to_string())?;
            write_if_there("memory.swap.max", "0")?;
            write_if_there("memory.oom.group", "1")
        }
        (Feature::Memory, Version::V1) => {
            let bytes = limits.memory_bytes.to_string();
            if let Err(error) = write("memory.limit_in_bytes", bytes.clone()) {
                if error.raw_os_error() != Some(libc::EINVAL) {
                    return Err(error);
                }
                // More than what memory and swap may be together by now: that is raised first.
                write("memory.memsw.limit_in_bytes", bytes.clone())?;
                write("memory.limit_in_bytes", bytes.clone())?;
            }
            write_if_there("memory.swappiness", "0")?;
            write_if_there("memory.memsw.limit_in_bytes", &bytes)
        }
        // Where the host has less than all want, each has its part: what a whole core has is the default of others.
        (Feature::Cpu, Version::V2) => {
            write_if_there("cpu.weight", &(limits.cpu_millis / 10).clamp(1, 10_000).to_string())?;
            write("cpu.max", format!("{quota_us} {CPU_PERIOD_US}"))
        }
        (Feature::Cpu, Version::V1) => {
            let shares = (u64::from(limits.cpu_millis) * 1_024 / 1_000).clamp(2, 262_144);
            write_if_there("cpu.shares", &shares.to_string())?;
            write("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", quota_us.to_string())
        }
        (Feature::Pids, _) => write("pids.max", processes.to_string()),
        (Feature::Freezer | Feature::CpuUsage, _) => Ok(()),
    }
}

/// Lets the children of a version 2 group have a controller.
fn enable(group: &Path, controller: &str) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let wanted = format!("+{controller}");
    match fs::write(&file, &wanted) {
        // A group with processes of its own cannot; they move into a leaf first.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let leaf = group.join(super::layout::LEAF);
            fs::create_dir_all(&leaf)?;
            for pid in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
                // One that has ended meanwhile cannot be moved, and need not be.
                let _ = fs::write(leaf.join("cgroup.procs"), pid);
            }
            fs::write(&file, &wanted)
        }
        other => other,
    }
}

/// Kills every process of a group.
fn end(group: &Path) -> io::Result<()> {
    let pids = match fs::read_to_string(group.join("cgroup.procs")) {
        Ok(pids) => pids,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for pid in pids.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let freezer = group.join("freezer.state");
    if freezer.exists() { fs::write(freezer, "THAWED") } else { Ok(()) }
}

fn remove(group: &Path) -> io::Result<()> {
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_file(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Puts the calling process into a group of version 1. Called by the sandbox' first process itself.
pub(super) fn join(tasks: &[OwnedFd]) -> io::Result<()> {
    for file in tasks {
        rustix::io::write(file.as_fd(), b"0")?;
    }
    Ok(())
}

/// The hierarchies of this host, as the kernel tells of them.
pub(super) fn discover() -> Vec<Hierarchy> {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let mountinfo = read(Path::new("/proc/self/mountinfo"));
    let own = read(Path::new("/proc/self/cgroup"));
    let controllers = |folder: PathBuf| read(&folder.join("cgroup.controllers"));
    super::layout::choose(&mountinfo, &own, controllers)
}

/// How far a limit holds on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enforced {
    /// By the kernel, through control groups of this version.
    By(Version),
    /// Not at all.
    No,
}

impl From<Option<Version>> for Enforced {
    fn from(version: Option<Version>) -> Self {
        version.map_or(Self::No, Self::By)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_in_both_versions() {
        let stat = "usage_usec 1234\nuser_usec 1000\n";
        assert_eq!(cpu_us(Version::V2, stat), Some(1_234));
        assert_eq!(cpu_us(Version::V1, "1234567\n"), Some(1_234));
        assert!(is_frozen(Version::V2, "populated 1\nfrozen 1\n"));
        assert!(!is_frozen(Version::V2, "populated 1\nfrozen 0\n"));
        assert!(is_frozen(Version::V1, "FROZEN\n"));
        assert!(!is_frozen(Version::V1, "FREEZING\n"));
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "oom_kill"), Some(2));
    }
}
