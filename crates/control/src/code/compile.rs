//! Compiles a component in a child process: what a compiler does with a stranger's bytes, it does within
//! bounds of time and memory, and its end is not ours.

use std::{ffi::OsString, fs::File, io, path::Path, process::Stdio, time::Duration};

use rouse_types::{Code, Digest, Refusal};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    sync::Semaphore,
};

use super::Store;
use crate::state;

/// The largest component of an interpreted language takes half a minute on one slow core.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Memory that the child may write to: a component of 30 MiB takes 2 GiB. Not its address space, of which the
/// engine reserves far more than it uses.
const MEMORY_BYTES_MAX: u64 = 8 << 30;
/// The largest file that it may write.
const OUTPUT_BYTES_MAX: u64 = 1 << 30;
/// Compiles at once. Each uses all cores by itself, so more would only take memory.
const PARALLEL_MAX: usize = 2;
/// Of what the child prints, so much is read.
const PRINTED_BYTES_MAX: u64 = 64 << 10;

/// Runs compilers.
#[derive(Debug)]
pub(crate) struct Compiler {
    command: Vec<OsString>,
    turns: Semaphore,
}

impl Compiler {
    pub(crate) fn new(command: Vec<OsString>) -> Self {
        Self { command, turns: Semaphore::new(PARALLEL_MAX) }
    }

    /// Compiles a component that is in its place already, unless that was done before.
    pub(crate) async fn compile(&self, store: &Store, digest: &Digest) -> Result<bool, Refusal> {
        let output = store.compiled(digest);
        if output.is_file() {
            return Ok(true);
        }
        let failed = |error: io::Error| state::io_refusal("compile a component", &error);
        let _turn = self.turns.acquire().await.map_err(|error| failed(io::Error::other(error)))?;
        let partial = store.compiling(digest);
        let result = self.run(&store.place(digest), &partial).await;
        let kept = match result {
            Ok(()) => keep(&partial, &output).map_err(failed),
            Err(refusal) => Err(refusal),
        };
        if kept.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        kept.map(|()| false)
    }

    async fn run(&self, input: &Path, output: &Path) -> Result<(), Refusal> {
        let failed = |error: io::Error| state::io_refusal("run the compiler", &error);
        let (program, args) =
            self.command.split_first().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut child = Command::new(program)
            .args(args)
            .arg(input)
            .arg(output)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            bound(pid);
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let done = async { tokio::join!(printed(stdout), printed(stderr), child.wait()) };
        let Ok((stdout, stderr, status)) = tokio::time::timeout(TIMEOUT, done).await else {
            // Dropping the child kills it.
            return Err(Refusal::new(
                Code::CodeTooLarge,
                format!("the component was not compiled within {} s", TIMEOUT.as_secs()),
            )
            .hint("make it smaller, or split it"));
        };
        let status = status.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        if let Ok(refusal) = serde_json::from_slice::<Refusal>(&stdout) {
            return Err(refusal);
        }
        let stderr = String::from_utf8_lossy(&stderr);
        tracing::error!(%status, %stderr, "the compiler failed and did not say why");
        Err(Refusal::new(Code::CodeInvalid, format!("the component cannot be compiled: the compiler ended with {status}"))
            .hint("it may need more memory or disk than it may have; `wasm-tools validate` tells whether it is valid"))
    }
}

/// The child is ours and was started a moment ago; should it be gone already, there is nothing to bound.
fn bound(pid: Pid) {
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    for (resource, bytes) in
        [(Resource::Data, MEMORY_BYTES_MAX), (Resource::Fsize, OUTPUT_BYTES_MAX), (Resource::Core, 0)]
    {
        if let Err(error) = prlimit(Some(pid), resource, limit(bytes)) {
            tracing::warn!(?resource, %error, "the compiler runs without a limit");
        }
    }
}

/// The begin of what a child prints. The rest is read too, lest it waits for a reader for ever.
async fn printed(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut begin = Vec::new();
    if let Some(mut from) = from {
        let _ = (&mut from).take(PRINTED_BYTES_MAX).read_to_end(&mut begin).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    begin
}

/// Gives a whole file its name.
fn keep(partial: &Path, output: &Path) -> io::Result<()> {
    let file = File::open(partial)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
    file.sync_all()?;
    std::fs::rename(partial, output)?;
    File::open(output.parent().unwrap_or(Path::new(".")))?.sync_all()
}
