//! A full disk: nothing new is taken, and what is there is still told of.

mod support;

use std::{process::Command, sync::Arc, time::Duration};

use rouse_types::{Code, Runtime};
use support::{Platform, app, component, tenant, wanted};

/// A disk of its own in memory, unmounted at the end.
struct Disk(Arc<tempfile::TempDir>);

impl Disk {
    fn mount(mib: u32) -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .output()
            .map_err(|error| error.to_string())?;
        if mount.status.success() {
            return Ok(Self(Arc::new(dir)));
        }
        Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_deployments_and_nothing_else() {
    let disk = match Disk::mount(264) {
        Ok(disk) => disk,
        Err(reason) => {
            #[expect(clippy::print_stderr, reason = "a test that did not run says so")]
            {
                eprintln!("SKIPPED a_full_disk_refuses_deployments_and_nothing_else: {reason}");
            }
            return;
        }
    };
    let platform = Platform::start_in(Arc::clone(&disk.0), Duration::from_secs(3_600)).await;
    platform.deploy("shop", &[("hello", "1")]).await;
    let before = platform.snapshot("shop");
    let next = platform.upload(component("2")).await;
    // The reserve keeps uploads from taking the last space.
    let large = platform.client.put_blob_bytes(component(&"x".repeat(10 << 20))).await.expect_err("too much");
    assert_eq!((large.code, large.code.status()), (Code::StorageFull, 507));
    assert!(large.hint.is_some());
    // Something else takes it all.
    let ballast = platform.path("ballast");
    let filled = std::fs::write(&ballast, vec![0; 264 << 20]);
    assert_eq!(filled.expect_err("it is full").kind(), std::io::ErrorKind::StorageFull);
    let wanted = vec![wanted("hello", next, Runtime::Component)];
    let refusal = platform.try_deploy("shop", wanted.clone()).await.expect_err("it is full");
    assert_eq!(refusal.code, Code::StorageFull, "{refusal}");
    assert_eq!(platform.snapshot("shop"), before);
    assert_eq!(platform.client.app(&tenant(), &app("shop")).await.expect("the app").live, 1);
    platform.client.functions(&tenant()).await.expect("functions");
    std::fs::remove_file(ballast).expect("space again");
    assert_eq!(platform.try_deploy("shop", wanted).await.expect("it is live").number, 2);
    platform.stop().await;
}
