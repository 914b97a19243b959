//! A service over a folder of its own, with a clock that the test moves.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rouse_services::objects::{Caller, Condition, Config, Error, Objects, Reader};
use rouse_store::Records;
use rouse_types::{Clock, ManualClock, SystemClock, TenantId};

pub(crate) struct Service {
    dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) objects: Objects,
}

impl Service {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(set: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        Self::open(dir, clock, set).await
    }

    /// By the machine's own clock.
    pub(crate) async fn live() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let objects = Self::objects(&dir, Arc::new(SystemClock), |_| {}).await;
        Self { dir, clock: Arc::default(), objects }
    }

    async fn open(dir: tempfile::TempDir, clock: Arc<ManualClock>, set: impl FnOnce(&mut Config)) -> Self {
        let objects = Self::objects(&dir, clock.clone(), set).await;
        Self { dir, clock, objects }
    }

    async fn objects(
        dir: &tempfile::TempDir,
        clock: Arc<dyn Clock>,
        set: impl FnOnce(&mut Config),
    ) -> Objects {
        let mut config = Config::new(dir.path().join("objects"));
        config.reserve_bytes = 0;
        set(&mut config);
        let records = Records::open(&dir.path().join("objects.db")).unwrap();
        Objects::open(config, records, clock).await.unwrap()
    }

    pub(crate) async fn reopen(self) -> Self {
        self.reopen_with(|_| {}).await
    }

    pub(crate) async fn reopen_with(self, set: impl FnOnce(&mut Config)) -> Self {
        self.close().open_with(set).await
    }

    /// Leaves the folder to others.
    pub(crate) fn close(self) -> Closed {
        let Self { dir, clock, .. } = self;
        Closed { dir, clock }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn data(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.dir.path().join("objects/data")).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }

    /// The files of bytes.
    pub(crate) fn names(&self) -> Vec<String> {
        self.data().iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    /// How many files of bytes there are.
    pub(crate) fn files(&self) -> usize {
        self.data().len()
    }

    /// How many are being written.
    pub(crate) fn incoming(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("objects/incoming")).unwrap().count()
    }

    /// How many uploads to a bucket are noted.
    pub(crate) fn notes(&self) -> usize {
        notes(self.dir.path())
    }

    /// A file that no record names, made now.
    pub(crate) fn stray(&self) -> PathBuf {
        let some = self.data().remove(0);
        let name = some.file_name().unwrap().to_str().unwrap();
        // Another id of the same moment: the last digits but two are chance.
        let (head, tail) = name.split_at(26);
        let other = if tail.starts_with("0000") { "1111" } else { "0000" };
        let stray = some.with_file_name(format!("{head}{other}{}", &tail[4..]));
        std::fs::write(&stray, "stray").unwrap();
        stray
    }

    /// Waits for something that comes soon.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..600 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it did not come that {what}");
    }
}

/// The folder of a service that is closed.
pub(crate) struct Closed {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Closed {
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn notes(&self) -> usize {
        notes(self.dir.path())
    }

    pub(crate) async fn open_with(self, set: impl FnOnce(&mut Config)) -> Service {
        Service::open(self.dir, self.clock, set).await
    }
}

fn notes(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("objects/uploads")).map_or(0, Iterator::count)
}

pub(crate) fn caller(tenant: &str) -> Caller {
    Caller { tenant: TenantId::new(tenant).unwrap(), requester: tenant.to_owned() }
}

pub(crate) fn body(chunks: &[&str]) -> impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + use<> {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk.as_bytes()))).collect();
    futures_util::stream::iter(chunks)
}

pub(crate) async fn read(objects: &Objects, caller: &Caller, bucket: &str, key: &str) -> Vec<u8> {
    let read = objects.get(caller, bucket, key, &Condition::default(), |size| Ok(0..size)).await.unwrap();
    collect(read.body).await
}

pub(crate) async fn collect(body: Reader) -> Vec<u8> {
    body.fold(Vec::new(), |mut all, bytes| async move {
        all.extend_from_slice(&bytes.unwrap());
        all
    })
    .await
}
