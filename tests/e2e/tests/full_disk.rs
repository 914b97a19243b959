//! A full disk: nothing new is taken, and what is live goes on answering and is billed.

use std::time::Duration;

use rouse_e2e::{App, Disk, Platform, example, need, skipped, wait_for};

/// Room for what the platform keeps in reserve, and a little.
const DISK_MIB: usize = 512;

#[tokio::test]
async fn a_full_disk_refuses_deploys_while_calls_are_answered_and_billed() {
    let test = "a_full_disk_refuses_deploys_while_calls_are_answered_and_billed";
    let disk = match Disk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => return skipped(test, &reason),
    };
    let platform = Platform::start_in(disk.path());
    need!(platform, "a_full_disk_refuses_deploys_while_calls_are_answered_and_billed", "component");
    need!(platform, "a_full_disk_refuses_deploys_while_calls_are_answered_and_billed", "node");
    platform.deploy(&example("hello-rust")).await;
    platform.deploy(&example("hello-node")).await;
    assert_eq!(platform.get("hello-rust").await.status, 200);

    disk.fill();
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

    disk.clear();
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
