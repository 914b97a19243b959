//! Which hierarchy of control groups does what on a host: a pure reading of what the kernel tells.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The group that processes of ours are moved to when the group they were in gets children with controllers.
pub(super) const LEAF: &str = "rouse-processes";

/// The two interfaces of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One hierarchy for each controller (Linux, `cgroup-v1`).
    V1,
    /// The unified hierarchy (Linux, `cgroup-v2`).
    V2,
}

/// What a group can do for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Memory,
    Cpu,
    Pids,
    Freezer,
    CpuUsage,
}

impl Feature {
    const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::Pids, Self::Freezer, Self::CpuUsage];

    /// The controller that version 2 needs to be enabled for it; the rest it always has.
    pub(super) fn controller(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory"),
            Self::Cpu => Some("cpu"),
            Self::Pids => Some("pids"),
            Self::Freezer | Self::CpuUsage => None,
        }
    }

    fn controller_v1(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
            Self::CpuUsage => "cpuacct",
        }
    }
}

/// One hierarchy, and what it is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// The group that this process is in.
    pub(super) folder: PathBuf,
    pub(super) features: Vec<Feature>,
}

/// Chooses, for each feature, version 2 where it has it and else version 1. `controllers` reads the controllers
/// that a version 2 group may hand on.
pub(super) fn choose(
    mountinfo: &str,
    own_groups: &str,
    controllers: impl FnOnce(PathBuf) -> String,
) -> Vec<Hierarchy> {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut chosen: Vec<Hierarchy> = Vec::new();
    let mut left: Vec<Feature> = Feature::ALL.to_vec();
    if let Some(unified) = mounts.iter().find(|mount| mount.kind == "cgroup2") {
        let folder = unified.folder(own_group(own_groups, ""));
        let listed = controllers(folder.clone());
        let has = |feature: &Feature| {
            feature.controller().is_none_or(|name| listed.split_whitespace().any(|one| one == name))
        };
        let features: Vec<Feature> = left.iter().copied().filter(has).collect();
        left.retain(|feature| !features.contains(feature));
        chosen.push(Hierarchy { version: Version::V2, folder, features });
    }
    for feature in left {
        let name = feature.controller_v1();
        let Some(mount) = mounts.iter().find(|mount| mount.kind == "cgroup" && mount.has(name)) else {
            continue;
        };
        let folder = mount.folder(own_group(own_groups, name));
        match chosen.iter_mut().find(|hierarchy| hierarchy.folder == folder) {
            Some(hierarchy) => hierarchy.features.push(feature),
            None => chosen.push(Hierarchy { version: Version::V1, folder, features: vec![feature] }),
        }
    }
    chosen
}

/// This process' group in the hierarchy of a controller, or with `""` in version 2: `proc_pid_cgroup(5)`.
fn own_group<'a>(own_groups: &'a str, controller: &str) -> &'a str {
    let group = own_groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|one| one == controller).then_some(path)
    });
    // A predecessor of ours may have moved us into the leaf.
    let group = group.unwrap_or("/");
    group.strip_suffix(LEAF).unwrap_or(group)
}

/// A line of `proc_pid_mountinfo(5)`.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1)?;
        Some(Self { root, point, kind, options })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// Where a group is seen: below the mount, which may itself show only a part.
    fn folder(&self, group: &str) -> PathBuf {
        let below = Path::new(group).strip_prefix(self.root).unwrap_or(Path::new(""));
        Path::new(self.point).join(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const OWN: &str = "8:pids:/\n4:memory:/service/a\n1:cpu,cpuacct:/\n0::/\n";

    #[test]
    fn a_hybrid_host_gives_each_feature_from_where_it_is() {
        let chosen = choose(HYBRID, OWN, |_| "hugetlb\n".into());
        let expected = [
            (Version::V2, "/sys/fs/cgroup/unified", vec![Feature::Freezer, Feature::CpuUsage]),
            (Version::V1, "/sys/fs/cgroup/memory/service/a", vec![Feature::Memory]),
            (Version::V1, "/sys/fs/cgroup/cpu", vec![Feature::Cpu]),
            (Version::V1, "/sys/fs/cgroup/pids", vec![Feature::Pids]),
        ];
        let expected = expected.map(|(version, folder, features)| Hierarchy {
            version,
            folder: folder.into(),
            features,
        });
        assert_eq!(chosen, expected);
    }

    #[test]
    fn a_unified_host_gives_all_from_one_hierarchy() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let chosen = choose(mounts, "0::/system.slice/rouse.service/rouse-processes\n", |folder| {
            assert_eq!(folder, Path::new("/sys/fs/cgroup/system.slice/rouse.service"));
            "cpuset cpu io memory pids\n".into()
        });
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0].features, Feature::ALL);
    }

    #[test]
    fn an_old_host_gives_all_from_version_1_and_a_bare_one_nothing() {
        let v1 = "32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n33 31 0:30 / /cg/freezer rw - cgroup cgroup rw,freezer\n";
        let chosen = choose(v1, "", |_| unreachable!("there is no version 2"));
        assert_eq!(chosen[0].features, [Feature::Cpu, Feature::CpuUsage]);
        assert_eq!(chosen[1].features, [Feature::Freezer]);
        assert_eq!(choose("", "", |_| String::new()), []);
        assert_eq!(choose("garbage - \n - - -\n", "::\n", |_| String::new()), []);
    }

    #[test]
    fn a_mount_that_shows_a_part_is_read_relative_to_it() {
        let mounts = "35 31 0:32 /box/7 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let chosen = choose(mounts, "4:memory:/box/7/inner\n", |_| String::new());
        assert_eq!(chosen[0].folder, Path::new("/sys/fs/cgroup/memory/inner"));
    }
}
