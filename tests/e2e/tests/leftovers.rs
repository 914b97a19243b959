//! Every process of the platform is killed under load, one after the other. After the next start and its ordinary end
//! the host is as it was: no process, no control group, no mount, no network, no half-made file of ours.

#[path = "../../../crates/sandbox/tests/support/internet.rs"]
mod internet;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use rouse_e2e::{App, Load, Platform, need, state_folder, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn after_the_death_of_each_process_under_load_the_next_start_leaves_a_clean_host() {
    let state = state_folder();
    // Where the machine can, with a network that has to go too.
    let full = internet::Internet::without_servers();
    let egress = if full.is_ok() { "egress = \"*\"" } else { "" };
    let with_link = network();
    let app = App::new("left").python("left", "return 'here'", egress);
    let mut had_networks = false;
    let mut groups = BTreeSet::new();
    for victim in ["gateway", "node", "control", "spawner", "supervisor"] {
        let platform = Arc::new(Platform::start_in(state.path()));
        need!(
            platform,
            "after_the_death_of_each_process_under_load_the_next_start_leaves_a_clean_host",
            "python"
        );
        platform.deploy(app.path()).await;
        let load = Load::start(&platform, 4, "/fn/default/left", |answer| answer.status == 200);
        load.answer_more(20).await;
        groups.extend(platform.functions().iter().flat_map(|process| groups_of(process.pid)));
        had_networks |= network().iter().any(|name| name.starts_with("rouse-"));
        if victim == "supervisor" {
            platform.kill_supervisor();
            load.stop().await;
            continue;
        }
        platform.kill(victim);
        // Calls that were under way may have failed; those that come later are answered.
        load.stop().await;
        let again = Load::start(&platform, 1, "/fn/default/left", |answer| answer.status == 200);
        wait_for("calls are answered again", Duration::from_secs(60), async || again.answered() > 5).await;
        again.stop().await;
    }
    assert!(!groups.is_empty(), "the functions were in control groups of ours");
    drop(Platform::start_in(state.path()));

    // Others on this machine may be at tests of theirs.
    wait_for("interfaces, rules, and what is passed on are as before", Duration::from_secs(60), async || {
        network() == with_link
    })
    .await;
    assert!(had_networks || full.is_err(), "the functions had networks");
    drop(full);
    assert_eq!(processes_that_name(state.path()), [] as [String; 0], "processes");
    let left: Vec<PathBuf> = folders("/sys/fs/cgroup".as_ref(), &|name| groups.contains(name));
    assert_eq!(left, [] as [PathBuf; 0], "control groups");
    assert_eq!(mounts_that_name(state.path()), [] as [String; 0], "mounts");
    let half_made = folders(state.path(), &|name| name.starts_with(".new-"));
    assert_eq!(half_made, [] as [PathBuf; 0], "half-made folders");
    let sockets: Vec<_> = fs::read_dir(state.path().join("run")).expect("the folder").flatten().collect();
    let sandboxes: Vec<_> =
        sockets.iter().filter(|entry| entry.file_name().to_string_lossy().contains("sandbox")).collect();
    assert!(sandboxes.is_empty(), "{sandboxes:?}");
}

/// Interfaces, those that pass packets on, and tables of the packet filter, if there is one.
fn network() -> BTreeSet<String> {
    let names = fs::read_dir("/sys/class/net").expect("interfaces").flatten();
    let names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let passing = names.iter().filter(|name| {
        let file = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
        fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    });
    let passing: Vec<_> = passing.map(|name| format!("passed on: {name}")).collect();
    let tables = Command::new("nft").args(["list", "tables"]).output();
    let tables =
        tables.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    names.into_iter().chain(passing).chain(tables.lines().map(str::to_owned)).collect()
}

/// The groups of an installation that a process is in: those called `rouse-…`.
fn groups_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let parts = text.lines().flat_map(|line| line.split('/'));
    parts.filter(|part| part.starts_with("rouse-")).map(str::to_owned).collect()
}

/// All folders below a folder whose name is wanted.
fn folders(below: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut look = vec![below.to_owned()];
    while let Some(folder) = look.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if wanted(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
            look.push(entry.path());
        }
    }
    found
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("the processes").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Command lines that have a path in them. This test's own has not.
fn processes_that_name(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("text");
    let lines = pids().filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(path))
        .collect()
}

/// Mounts of any process that have a path in them.
fn mounts_that_name(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("text");
    let tables = pids().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok());
    let found = tables.flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>());
    found.filter(|line| line.contains(path)).collect()
}
