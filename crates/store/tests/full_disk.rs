//! A full disk is an error, never a signal, loses nothing, and passes when there is space again. Each test
//! has a small file system of its own.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::{fs::File, io::Write as _, path::Path, process::Command, sync::Arc, time::Duration};

use rouse_store::{
    Ballast, Blobs, Error, Queues, Records,
    journal::{self, Cursor, Options, Reader, Writer},
    queues::{DEDUPLICATION_WINDOW_DEFAULT, NewMessage},
};
use rouse_types::{SystemClock, Timestamp};

/// A tmpfs, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Without the right to mount, the test is skipped, and says so.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn mount(test: &str, kib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        let reason = match mounted {
            Ok(output) if output.status.success() => return Some(Self(dir)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("SKIPPED {test}: cannot mount a tmpfs: {reason}");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes every block that is left.
    fn fill(&self) {
        let mut junk = File::create(self.path().join("junk")).unwrap();
        while junk.write_all(&[1; 512]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("junk")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.path()).status());
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn a_journal_uses_what_it_allocated_then_says_full_and_goes_on_with_the_ballast() {
    let test = "a_journal_uses_what_it_allocated_then_says_full_and_goes_on_with_the_ballast";
    let Some(disk) = SmallDisk::mount(test, 512) else { return };
    let ballast = Ballast::new(&disk.path().join("ballast"), 128 << 10);
    ballast.hold().unwrap();
    let options = Options { segment_bytes: 64 << 10, ..Options::new("a") };
    let mut writer = Writer::open(disk.path(), options).unwrap();
    // The live segment is mapped and almost empty; now the disk has no block left.
    disk.fill();
    let mut appended = 0_u64;
    let mut append_until_full = || {
        loop {
            match writer.append(Timestamp(appended), &[5; 200]) {
                Ok(()) => appended += 1,
                Err(journal::Error::Full { .. }) => return appended,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let read = || Reader::open(disk.path(), Cursor::default()).read(100_000).unwrap().records.len() as u64;
    let before = append_until_full();
    assert!(before > 250, "{before}");
    assert_eq!(read(), before);
    assert!(ballast.release().unwrap());
    // It looks for space again only after a while.
    std::thread::sleep(Duration::from_millis(150));
    let after = append_until_full();
    assert!(after > before, "the ballast gave space");
    assert_eq!(read(), after);
}

#[test]
fn records_refuse_writes_and_keep_what_they_have() {
    let test = "records_refuse_writes_and_keep_what_they_have";
    let Some(disk) = SmallDisk::mount(test, 2_048) else { return };
    let records = Records::open(&disk.path().join("records.db")).unwrap();
    run(async {
        let mut kept = 0;
        disk.fill();
        let error = loop {
            match records.put("n", &format!("k{kept}"), vec![7; 20_000]).await {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Full(_)), "{error:?}");
        for n in 0..kept {
            assert!(records.get("n", &format!("k{n}")).await.unwrap().is_some());
        }
        assert_eq!(records.get("n", &format!("k{kept}")).await.unwrap(), None);
        disk.free();
        records.put("n", "again", vec![7; 20_000]).await.unwrap();
    });
}

#[test]
fn of_many_messages_sent_at_once_exactly_the_accepted_are_there() {
    let test = "of_many_messages_sent_at_once_exactly_the_accepted_are_there";
    let Some(disk) = SmallDisk::mount(test, 4_096) else { return };
    let path = disk.path().join("queues.db");
    let open = || Queues::open(&path, Arc::new(SystemClock), DEDUPLICATION_WINDOW_DEFAULT).unwrap();
    let queues = open();
    let accepted = run(async {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..400_u64 {
            let queues = queues.clone();
            tasks.spawn(async move {
                let payload = [n.to_le_bytes().as_slice(), &[0; 20_000]].concat();
                match queues.enqueue("q", vec![NewMessage::new(payload)]).await {
                    Ok(_) => Some(n),
                    Err(Error::Full(_) | Error::Commit(_)) => None,
                    Err(error) => panic!("{error:?}"),
                }
            });
        }
        let mut accepted: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        accepted.sort_unstable();
        accepted
    });
    drop(queues);
    disk.fill();
    disk.free();
    let stored = run(async {
        let leased = open().lease("q", 1_000, Duration::from_secs(60)).await.unwrap();
        let mut stored: Vec<_> =
            leased.iter().map(|m| u64::from_le_bytes(m.payload[..8].try_into().unwrap())).collect();
        stored.sort_unstable();
        stored
    });
    assert!(!accepted.is_empty() && accepted.len() < 400, "{}", accepted.len());
    assert_eq!(stored, accepted);
}

#[test]
fn a_blob_that_does_not_fit_leaves_nothing_behind() {
    let test = "a_blob_that_does_not_fit_leaves_nothing_behind";
    let Some(disk) = SmallDisk::mount(test, 512) else { return };
    let blobs = Blobs::open(&disk.path().join("blobs"), 0).unwrap();
    let mut upload = blobs.begin(0).unwrap();
    let error = (0..200).find_map(|_| upload.write(&[7; 4_096]).err()).unwrap();
    assert!(matches!(error, Error::Full(_)), "{error:?}");
    drop(upload);
    assert_eq!(blobs.list().unwrap(), []);
    blobs.put(b"small", None).unwrap();
}
