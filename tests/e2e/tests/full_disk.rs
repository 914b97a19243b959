//! A full disk: nothing new is taken, and what is live goes on answering and is billed.

use std::{fs::File, io::Write, path::Path, process::Command, time::Duration};

use rouse_e2e::{App, Platform, example, need, skipped, wait_for};

/// Room for what the platform keeps in reserve, and a little.
const DISK_MIB: usize = 512;

/// A disk in memory, unmounted at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Result<Self, String> {
        let folder = rouse_e2e::state_folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m,mode=755"), "tmpfs"]);
        let output = mount.arg(folder.path()).output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(Self(folder)),
            false => Err(format!("no mount: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn fill(path: &Path) {
    let mut file = File::create(path).expect("a file");
    let full = (0..DISK_MIB).find_map(|_| file.write_all(&vec![1; 1 << 20]).err());
    assert_eq!(full.map(|error| error.kind()), Some(std::io::ErrorKind::StorageFull));
}

#[tokio::test]
async fn a_full_disk_refuses_deploys_while_calls_are_answered_and_billed() {
    let test = "a_full_disk_refuses_deploys_while_calls_are_answered_and_billed";
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(reason) => return skipped(test, &reason),
    };
    let platform = Platform::start_in(disk.0.path());
    need!(platform, "a_full_disk_refuses_deploys_while_calls_are_answered_and_billed", "component");
    need!(platform, "a_full_disk_refuses_deploys_while_calls_are_answered_and_billed", "node");
    platform.deploy(&example("hello-rust")).await;
    platform.deploy(&example("hello-node")).await;
    assert_eq!(platform.get("hello-rust").await.status, 200);

    let ballast = disk.0.path().join("ballast");
    fill(&ballast);
    let app = App::new("late")
        .file("f/index.mjs", "export const handler = async () => 'late';")
        .function("late", "source = \"f\"\nhandler = \"index.handler\"");
    let folder = app.path().display().to_string();
    let cli = platform.rouse(&["deploy", &folder]).await;
    assert!(!cli.ok && cli.err.contains("storage-full"), "{cli:?}");
    for _ in 0..50 {
        let answer = platform.get("hello-rust").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // The first of these starts an instance, on the full disk.
        let answer = platform.get("hello-node").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    std::fs::remove_file(ballast).expect("space again");
    wait_for("a deploy is taken again", Duration::from_secs(30), async || {
        platform.rouse(&["deploy", &folder]).await.ok
    })
    .await;
    assert_eq!(platform.get("late").await.text(), "late");
    wait_for("every call is on the bill", Duration::from_secs(30), async || {
        platform.json(&["usage"]).await["total"]["invocations"] == 102
    })
    .await;
}
