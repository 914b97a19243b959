//! A database file with its writer thread and its readers.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, error::database};

/// Operations that may wait for the writer or a reader; a further one waits to be let in. Some tenths of
/// a second of work.
const WAITING_MAX: usize = 1_024;
/// Operations of one commit: bounds how long the first of them waits for the last.
const GROUP_MAX: usize = 256;
/// Reads are short; two threads keep one long scan from holding up the others.
const READERS: usize = 2;
/// What the WAL shrinks to once it was checkpointed.
const WAL_BYTES_KEPT: i64 = 16 << 20;

/// Runs inside a transaction; gives what tells the caller how the commit ended.
type Write = Box<dyn FnOnce(&Connection) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), &Failure>) + Send>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

/// A database file. Dropping it finishes what is under way and closes the file.
#[derive(Debug)]
pub(crate) struct Db {
    path: Arc<PathBuf>,
    writer: Option<mpsc::Sender<Write>>,
    readers: Vec<mpsc::Sender<Read>>,
    reader_next: AtomicUsize,
    commits: watch::Receiver<u64>,
    threads: Vec<JoinHandle<()>>,
}

/// When what was committed is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Before a write is answered.
    Commit,
    /// Now and then: a power loss takes the last commits, and leaves the file whole. For what can be had again.
    Checkpoint,
}

impl Db {
    /// Opens or makes the file. `schema` makes the tables of version 1.
    pub(crate) fn open(path: &Path, name: &str, schema: &str) -> Result<Self, Error> {
        Self::open_as(path, name, schema, Durability::Commit)
    }

    /// Opens or makes the file, with commits that are as durable as said.
    pub(crate) fn open_as(
        path: &Path,
        name: &str,
        schema: &str,
        durability: Durability,
    ) -> Result<Self, Error> {
        let wrap = |error| database(path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
        }
        let connection = Connection::open(path).map_err(wrap)?;
        prepare(&connection, path, schema, durability)?;
        let path = Arc::new(path.to_owned());
        let (writer, writes) = mpsc::channel(WAITING_MAX);
        let (committed, commits) = watch::channel(0);
        let mut db = Self {
            path: Arc::clone(&path),
            writer: Some(writer),
            readers: Vec::new(),
            reader_next: AtomicUsize::new(0),
            commits,
            threads: Vec::new(),
        };
        let file = Arc::clone(&path);
        db.thread(format!("{name}-write"), move || write(&connection, writes, &committed, &file))?;
        for number in 0..READERS {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&*path, flags).map_err(wrap)?;
            connection.set_prepared_statement_cache_capacity(64);
            let (sender, mut reads) = mpsc::channel::<Read>(WAITING_MAX);
            db.readers.push(sender);
            db.thread(format!("{name}-read-{number}"), move || {
                while let Some(read) = reads.blocking_recv() {
                    read(&connection);
                }
            })?;
        }
        Ok(db)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn thread(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name).spawn(run);
        self.threads.push(thread.map_err(Error::io("start a thread for", &self.path))?);
        Ok(())
    }

    /// Runs `operation` in a transaction and answers once that is on the disk. A caller that stops
    /// waiting does not stop the operation.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let job: Write = Box::new(move |connection| {
            let result = in_savepoint(connection, operation);
            Box::new(move |committed| {
                // The caller may be gone.
                drop(sender.send(result.and_then(|value| committed.map(|()| value).map_err(Failure::error))));
            })
        });
        let writer = self.writer.as_ref().ok_or(Error::Closed)?;
        writer.send(job).await.map_err(|_| Error::Closed)?;
        self.sorted(receiver.await.map_err(|_| Error::Closed)?)
    }

    /// Runs `operation` on a connection that cannot write.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let job: Read = Box::new(move |connection| drop(sender.send(operation(connection))));
        let reader = self.reader_next.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        self.readers[reader].send(job).await.map_err(|_| Error::Closed)?;
        self.sorted(receiver.await.map_err(|_| Error::Closed)?)
    }

    fn sorted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| match error {
            Error::Database(error) => database(&self.path, error),
            other => other,
        })
    }

    /// Counts commits: whoever waits for a change waits for the next count.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        drop(self.writer.take());
        self.readers.clear();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn prepare(connection: &Connection, path: &Path, schema: &str, durability: Durability) -> Result<(), Error> {
    const VERSION: i64 = 2;
    let wrap = |error| database(path, error);
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "wal").map_err(wrap)?;
    let synchronous = match durability {
        Durability::Commit => "full",
        Durability::Checkpoint => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous).map_err(wrap)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT).map_err(wrap)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
    match found {
        VERSION => Ok(()),
        0 => connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {schema} PRAGMA user_version = {VERSION}; COMMIT;"))
            .map_err(wrap),
        _ => Err(Error::Version { path: path.to_owned(), found, known: VERSION }),
    }
}

/// Why a whole group was not committed. Each of its callers is told.
struct Failure {
    full: bool,
    text: String,
}

impl Failure {
    fn error(&self) -> Error {
        if self.full { Error::Full(self.text.clone()) } else { Error::Commit(self.text.clone()) }
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    operation: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    // The group's transaction could not begin, or was rolled back because the disk is full: outside of it
    // a savepoint would commit by itself.
    if connection.is_autocommit() {
        return Err(Error::Commit("no transaction is under way".to_owned()));
    }
    let run = |sql| connection.prepare_cached(sql)?.execute([]);
    run("SAVEPOINT operation")?;
    let result = operation(connection);
    if !connection.is_autocommit() {
        if result.is_err() {
            run("ROLLBACK TO operation")?;
        }
        run("RELEASE operation")?;
    }
    result
}

/// The writer: one group after the other.
fn write(
    connection: &Connection,
    mut writes: mpsc::Receiver<Write>,
    committed: &watch::Sender<u64>,
    path: &Path,
) {
    let run = |sql| -> Result<(), rusqlite::Error> { connection.prepare_cached(sql)?.execute([]).map(drop) };
    while let Some(first) = writes.blocking_recv() {
        let changes = connection.total_changes();
        let begun = run("BEGIN IMMEDIATE");
        let mut answers = vec![first(connection)];
        while answers.len() < GROUP_MAX
            && let Ok(next) = writes.try_recv()
        {
            answers.push(next(connection));
        }
        let outcome = begun.and_then(|()| run("COMMIT")).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, path = %path.display(), "cannot commit");
            let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            Failure { full, text: if full { path.display().to_string() } else { error.to_string() } }
        });
        if outcome.is_err() && !connection.is_autocommit() {
            drop(run("ROLLBACK"));
        }
        // A lease that found nothing must not wake who waits for something to lease.
        if outcome.is_ok() && connection.total_changes() != changes {
            committed.send_modify(|count| *count += 1);
        }
        for answer in answers {
            answer(outcome.as_ref().copied());
        }
    }
}
