//! What the world does to a machine: its disk fills up, its clock jumps.

use std::{collections::BTreeSet, io::Write as _, process::Command, sync::Arc, time::Duration};

use rouse_types::{Clock as _, EventSettings, InvocationId, ManualClock, SystemClock};

use crate::{
    harness::{Answer, World, event},
    quick,
};

const DISK_MIB: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Unmounts a disk in memory.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A small disk in memory.
fn disk() -> Result<(tempfile::TempDir, Mounted), String> {
    let folder = tempfile::tempdir().unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"]).arg(folder.path());
    let output = mount.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok((Mounted(folder.path().to_owned()), folder)).map(|(mounted, folder)| (folder, mounted)),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn a_full_disk_refuses_events_and_keeps_those_that_it_took() {
    let (folder, _mounted) = match disk() {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("SKIPPED a_full_disk_refuses_events_and_keeps_those_that_it_took: no mount: {reason}");
            return;
        }
    };
    let ballast = folder.path().join("ballast");
    let world = World::start_in(folder, Arc::new(SystemClock), |_| Answer::ok()).await;
    world.deploy("cart", quick()).await;
    // Nobody takes them away meanwhile.
    world.gateway_leaves().await;
    let mut taken = BTreeSet::new();
    let offer = async |taken: &mut BTreeSet<InvocationId>| {
        let sent = event("cart");
        let answer = world.accept(&sent, &[b'x'; 10_000]).await;
        if answer.is_ok() {
            taken.insert(sent.id);
        }
        answer.err()
    };
    assert!(offer(&mut taken).await.is_none());
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 1 << 16]).is_ok() {}
    let mut refused = None;
    for _ in 0..1_000 {
        refused = offer(&mut taken).await;
        if refused.is_some() {
            break;
        }
    }
    let refusal = refused.expect("a full disk takes no more");
    assert!(refusal.retry_after_ms.is_some(), "{refusal:?}");
    let before = taken.len();

    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    for _ in 0..10 {
        assert!(offer(&mut taken).await.is_none(), "there is space again");
    }
    world.gateway_comes().await;
    let calls = world.calls(before + 10).await;
    let handled: BTreeSet<_> = calls.iter().map(|call| call.delivery.id).collect();
    assert_eq!(handled, taken, "each that was taken, and none that was refused");
    world.idle().await;
}

#[tokio::test]
async fn a_clock_that_jumps_loses_no_event() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let folder = tempfile::tempdir().unwrap();
    let by: Arc<dyn rouse_types::Clock> = clock.clone();
    let world = World::start_in(folder, by, |call| match call.nth {
        0 => Answer::refused("function-error", "the first attempt fails"),
        _ => Answer::ok(),
    })
    .await;
    // Its second attempt is due in an hour, by a clock that then jumps a day ahead: it is at once.
    let hour = 60 * 60 * 1_000;
    let slow = EventSettings {
        attempts: 3,
        backoff_ms: hour,
        backoff_max_ms: hour,
        age_max_ms: 14 * 24 * hour,
        ..Default::default()
    };
    world.deploy("cart", slow).await;
    let sent = event("cart");
    world.accept(&sent, b"").await.unwrap();
    world.until("result=\"retried\"} 1").await;
    clock.set(clock.now() + DAY);
    // What comes now has the queue looked at again.
    let second = event("cart");
    world.accept(&second, b"").await.unwrap();
    let ids: Vec<_> = world.calls(3).await.iter().map(|call| call.delivery.id).collect();
    assert_eq!(ids.iter().filter(|id| **id == sent.id).count(), 2, "{ids:?}");

    // And back: what comes then is not held up by what came in the future.
    clock.set(rouse_types::Timestamp(clock.now().0 - 2 * u64::try_from(DAY.as_micros()).unwrap()));
    let third = event("cart");
    world.accept(&third, b"").await.unwrap();
    assert_eq!(world.calls(4).await[3].delivery.id, third.id);
    world.idle().await;
}
