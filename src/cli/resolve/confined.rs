//! Runs a tool in a sandbox: a container with a spawner of its own, that lives as long as this one build.
//!
//! It sees copies of the files that it needs, read-only, and the host's `/usr`; writes to memory alone; reaches the
//! package index and nothing else; and hands over what it made as an archive on its standard output, which is unpacked
//! here as a layer of a stranger's image is: within bounds, and never out of its folder.

use std::{
    fs,
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rouse_image::unpack::{self, Bounds};
use rouse_node::egress::{Dialer, WithEgress};
use rouse_sandbox::{
    Driver as _, Exit, Limits, Mount, Network, Output, Root, Sandbox as _, Spec, Started,
    container::ContainerDriver,
};
use rouse_types::{Code, Egress, Refusal, limits};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::timeout,
};

use super::{Job, Ran, Words, index};
use crate::cli::report::hinted;

/// Where the sandbox sees what it is given.
const BUILD: &str = "/build";
/// What one build may take. Large wheels are there twice for a moment, packed and unpacked, and all of it is memory.
const TMP_BYTES: u64 = 3 << 30;
const MEMORY_BYTES: u64 = 4 << 30;
const PROCESSES: u32 = 1_024;
const OPEN_FILES: u32 = 4_096;
/// Longer than the largest packages take to be built.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// How long a spawner may take to remove a sandbox once it is told to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Its arguments are the tool's own command, after the folder to take. Whatever the tool prints goes to standard error.
const SCRIPT: &str = r#"set -eu
umask 022
mkdir /tmp/home /tmp/out
cp -r /build/src /tmp/work
cd /tmp/work
take=$1; shift
"$@" >&2
cd "$take"
if [ "$take" = /tmp/work ] && [ "$TAKE" = modules ]; then
  mkdir -p node_modules
  exec tar -cf - node_modules
fi
exec tar -cf - ."#;

/// Runs the job, and unpacks what it made.
pub(super) async fn run(job: &Job<'_>, into: &Path, state: &Path) -> anyhow::Result<Ran> {
    let builder = Builder::start(job).await?;
    let ran = builder.run(job, into, state).await;
    builder.stop().await;
    ran
}

/// A spawner with its folder.
struct Builder {
    spawner: Child,
    driver: ContainerDriver,
    folder: tempfile::TempDir,
}

impl Builder {
    async fn start(job: &Job<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the build")?;
        let given = folder.path().join("given");
        let stage = || -> std::io::Result<()> {
            for name in ["", "src", "config"] {
                let path = given.join(name);
                fs::create_dir(&path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            }
            for (name, bytes) in &job.index.files {
                let path = given.join("config").join(name);
                fs::write(&path, bytes)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            }
            job.staged.copy(&given.join("src"))
        };
        stage().context("copy what the build needs")?;
        let roots = std::iter::once(given).chain(job.index.folders.iter().cloned()).collect();
        let (command, socket) = crate::roles::build_spawner(folder.path(), roots)?;
        let mut command = Command::from(command);
        // The terminal's Ctrl-C goes to us, who stop it in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let spawner = command.spawn().context("start the build's spawner")?;
        let builder = Self { spawner, driver: ContainerDriver::new(&socket), folder };
        let report = builder.driver.report().await.context("ask what this machine can confine")?;
        if let Some(reason) = report.unavailable {
            builder.stop().await;
            bail!(hinted(
                format!("this machine cannot confine a build: {reason}"),
                "`rouse doctor` says what it lacks; --no-scripts and --unconfined do without a sandbox",
            ));
        }
        Ok(builder)
    }

    async fn run(&self, job: &Job<'_>, into: &Path, state: &Path) -> anyhow::Result<Ran> {
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let say = {
            let refused = Arc::clone(&refused);
            Arc::new(move |line| refused.lock().unwrap_or_else(PoisonError::into_inner).push(line))
        };
        let driver = WithEgress {
            driver: Arc::new(self.driver.clone()),
            dialer: Arc::new(Dialer::new(state)),
            egress: Egress::Only(job.index.egress.iter().cloned().collect()),
            say,
        };
        let mut words = Words::new(&job.label);
        let started =
            driver.start(spec(job, self.folder.path())).await.context("start the build's sandbox")?;
        let Started { sandbox, stdout, mut stderr, .. } = started;
        let into = into.to_owned();
        let archive = blocking(stdout).context("take over the build's output")?;
        let unpacked = tokio::task::spawn_blocking(move || take(archive, &into));
        let mut unpacked = std::pin::pin!(unpacked);
        let mut result = None;
        let whole = async {
            let mut chunk = vec![0; 8 << 10];
            let mut open = true;
            loop {
                tokio::select! {
                    read = stderr.read(&mut chunk), if open => match read.context("read what the build prints")? {
                        0 => open = false,
                        read => words.take(&chunk[..read]),
                    },
                    unpacked = &mut unpacked, if result.is_none() => {
                        let unpacked = unpacked.context("unpack what was resolved")?;
                        if unpacked.is_err() {
                            // It waits for somebody to read on, and nobody will.
                            sandbox.kill();
                        }
                        result = Some(unpacked);
                    }
                    exit = sandbox.exited(), if !open || result.is_some() => {
                        // Nobody writes any more: what is in the pipe is all.
                        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
                            words.take(&chunk[..read]);
                        }
                        return anyhow::Ok(exit);
                    }
                }
            }
        };
        let Ok(exit) = timeout(TIME_MAX, whole).await else {
            bail!(hinted(
                format!("its dependencies were not resolved within {} minutes", TIME_MAX.as_secs() / 60),
                "build with a command of your own: [functions.NAME.build]",
            ));
        };
        let exit = exit?;
        let unpacked = match result {
            Some(unpacked) => unpacked,
            None => unpacked.await.context("unpack what was resolved")?,
        };
        let refused = std::mem::take(&mut *refused.lock().unwrap_or_else(PoisonError::into_inner));
        let (whole, unpacked) = match unpacked {
            Ok(whole) => (whole, Ok(())),
            Err(refusal) => (false, Err(refusal)),
        };
        Ok(Ran {
            printed: words.text(),
            refused,
            succeeded: whole && exit == Exit::Code(0),
            out_of_memory: exit == Exit::OutOfMemory,
            unpacked: if exit == Exit::OutOfMemory { Ok(()) } else { unpacked },
        })
    }

    async fn stop(mut self) {
        self.terminate();
        // It ends with us at the latest.
        let _ = timeout(STOP_MAX, self.spawner.wait()).await;
    }

    fn terminate(&self) {
        let pid = self.spawner.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// A pipe to be read by a thread that may wait.
fn blocking(output: Output) -> anyhow::Result<OwnedFd> {
    match output {
        Output::Pipe(pipe) => pipe.into_blocking_fd().context("read a pipe"),
        Output::Sim(_) => bail!("a simulated sandbox builds nothing"),
    }
}

/// Unpacks an archive, and tells whether there was one at all.
fn take(from: OwnedFd, into: &Path) -> Result<bool, Refusal> {
    let mut from = fs::File::from(from);
    let mut first = [0; 1];
    let read = from.read(&mut first).unwrap_or(0);
    if read == 0 {
        return Ok(false);
    }
    let mut bounds = Bounds { entries: limits::CODE_FILES_MAX, bytes: limits::CODE_UNPACKED_BYTES_MAX };
    let mut from = std::io::BufReader::with_capacity(64 << 10, std::io::Read::chain(first.as_slice(), from));
    unpack::unpack(&mut from, into, &mut bounds)?;
    // tar fills its last record; who closed the pipe before would look like a failure to it.
    std::io::copy(&mut from.take(limits::CODE_UNPACKED_BYTES_MAX), &mut std::io::sink())
        .map_err(|error| Refusal::new(Code::Internal, format!("read what was resolved: {error}")))?;
    Ok(true)
}

fn spec(job: &Job<'_>, folder: &Path) -> Spec {
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let is_pip = matches!(job.tool, super::Tool::Pip { .. });
    let mut argv: Vec<String> = ["/bin/sh", "-c", SCRIPT, "build"].map(str::to_owned).into();
    argv.push(if is_pip { "/tmp/out" } else { "/tmp/work" }.to_owned());
    argv.extend(job.argv.iter().cloned());
    if is_pip {
        argv.extend(["--target", "/tmp/out"].map(str::to_owned));
    }
    let mut env: Vec<(String, String)> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/tmp/home"),
        ("LANG", "C.UTF-8"),
        ("TAKE", if job.whole { "all" } else { "modules" }),
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("npm_config_cache", "/tmp/npm"),
        ("npm_config_fetch_retries", "2"),
        ("npm_config_fetch_retry_mintimeout", "1000"),
        ("npm_config_fetch_retry_maxtimeout", "5000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    env.extend(super::SAME_EACH_TIME.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env.extend(job.index.env.iter().cloned());
    let mut mounts = vec![Mount { source: folder.join("given"), target: PathBuf::from(BUILD) }];
    mounts.extend(job.index.folders.iter().enumerate().map(|(number, folder)| Mount {
        source: folder.clone(),
        target: Path::new(index::FOLDERS).join(number.to_string()),
    }));
    Spec {
        id: "build".to_owned(),
        argv,
        env,
        cwd: "/tmp".into(),
        mounts,
        limits: Limits {
            memory_bytes: MEMORY_BYTES,
            cpu_millis: cores * 1_000,
            processes: PROCESSES,
            tmp_bytes: TMP_BYTES,
            open_files: OPEN_FILES,
        },
        listeners: Vec::new(),
        resolver: None,
        hosts: Vec::new(),
        network: Network::Sockets,
        root: Root::Host,
        interpreter: None,
    }
}
