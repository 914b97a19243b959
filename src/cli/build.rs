//! Builds a function's code as its manifest says, and finds out what runs it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use rouse_manifest::{
    Function,
    detect::{self, Contents, Host},
};
use rouse_types::{FunctionName, Isolation, Runtime};
use tokio::{io::AsyncReadExt as _, process::Command};

use super::{
    app::App,
    out,
    report::{Shown, hinted},
    style::Style,
};

/// Of what a build prints, the end is shown: there stands why it failed.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What a function is once built.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// What to pack.
    pub(crate) artifact: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) handler: Option<String>,
    pub(crate) isolation: Isolation,
}

/// Builds one function. What the build prints is shown when it fails.
pub(crate) async fn build(app: &App, name: &FunctionName, function: &Function) -> anyhow::Result<Built> {
    let source = app.source(function)?;
    let artifact = match &function.build {
        None => source,
        Some(build) => {
            let folder = workdir(&source);
            run(name, &build.command, &folder).await?;
            match &build.output {
                None => source,
                Some(output) => app.inside(&folder.join(output), "build.output").with_context(|| {
                    format!("function '{name}': the build went well, but its output is missing")
                })?,
            }
        }
    };
    identify(function, artifact).with_context(|| format!("function '{name}'"))
}

/// Where a function's build runs.
pub(crate) fn workdir(source: &Path) -> PathBuf {
    match source.is_dir() {
        true => source.to_owned(),
        false => source.parent().unwrap_or(source).to_owned(),
    }
}

fn identify(function: &Function, artifact: PathBuf) -> anyhow::Result<Built> {
    let contents = contents(&artifact)?;
    let runtime = match &function.runtime {
        Some(runtime) => runtime.clone(),
        None => runtime_of(&artifact)?,
    };
    let archive = matches!(&contents, Contents::File(name) if name.ends_with(".zip"));
    let handler = match (&function.handler, &runtime) {
        (handler, Runtime::Component | Runtime::Provided | Runtime::Image) => handler.clone(),
        (handler, _) if !function.command.is_empty() => handler.clone(),
        (Some(handler), _) => Some(handler.clone()),
        (None, _) if archive => {
            bail!(hinted("a .zip does not tell its handler", "say it: handler = \"app.handler\"",))
        }
        (None, runtime) => {
            detect::handler(&contents, runtime).map_err(|unclear| hinted(unclear.message, unclear.hint))?
        }
    };
    if runtime == Runtime::Component && artifact.is_dir() {
        bail!(hinted(
            "a component is one .wasm file, and the source is a folder",
            "name the file: source = \"hello.wasm\", or with [functions.NAME.build] its output",
        ));
    }
    let isolation = function
        .isolation_for(&runtime)
        .map_err(|message| hinted(message, "leave `isolation` out: the runtime decides it"))?;
    Ok(Built { artifact, runtime, handler, isolation })
}

/// The runtime that a source or an artifact tells by what it holds.
pub(crate) fn runtime_of(path: &Path) -> anyhow::Result<Runtime> {
    detect::runtime(&contents(path)?, host()).map_err(|unclear| hinted(unclear.message, unclear.hint))
}

fn contents(artifact: &Path) -> anyhow::Result<Contents> {
    let name = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    if !artifact.is_dir() {
        return Ok(Contents::File(artifact.file_name().map(name).unwrap_or_default()));
    }
    let read = || -> std::io::Result<Vec<String>> {
        std::fs::read_dir(artifact)?.map(|entry| Ok(name(&entry?.file_name()))).collect()
    };
    Ok(Contents::Folder(read().with_context(|| format!("list {}", artifact.display()))?))
}

/// The interpreters of this machine, by asking them: first where the platform looks for them, then where the
/// shell does.
pub(crate) fn host() -> Host {
    let ask = |program: &str| {
        let mut command = std::process::Command::new(program);
        let output = command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let version = |name: &str, prefix: &str| {
        let programs = [format!("/usr/bin/{name}"), format!("/usr/local/bin/{name}"), name.to_owned()];
        let text = programs.iter().find_map(|program| ask(program))?;
        text.trim().strip_prefix(prefix)?.split('.').next()?.parse().ok()
    };
    Host { python_minor: version("python3", "Python 3."), node_major: version("node", "v") }
}

async fn run(name: &FunctionName, command: &str, folder: &Path) -> anyhow::Result<()> {
    // One pipe for both, so that lines stand in the order in which they were written.
    let (writer, mut reader) = tokio::net::unix::pipe::pipe().context("make a pipe")?;
    let writer = writer.into_blocking_fd().context("make a pipe")?;
    let mut child = Command::new("sh");
    child.arg("-c").arg(command).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    // A group of its own: what the shell started ends with it.
    child.process_group(0);
    child.stdout(writer.try_clone().context("make a pipe")?).stderr(writer);
    let mut running = child.spawn().context("run the build")?;
    let mut group = Group(running.id());
    // The command holds our ends of the pipe until it goes.
    drop(child);
    let mut tail = Vec::new();
    let mut chunk = vec![0; 8 << 10];
    let status = loop {
        tokio::select! {
            read = reader.read(&mut chunk) => match read.context("read what the build prints")? {
                0 => break running.wait().await.context("wait for the build")?,
                read => keep(&mut tail, &chunk[..read]),
            },
            // What it left running may hold the pipe open without end: what is in it now is all.
            status = running.wait() => {
                let status = status.context("wait for the build")?;
                while let Ok(read @ 1..) = reader.try_read(&mut chunk) {
                    keep(&mut tail, &chunk[..read]);
                }
                break status;
            }
        }
    };
    // It is over: its number may belong to another process by now.
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    let style = Style::stderr();
    out::note(style.foreign_lines(&String::from_utf8_lossy(&tail)).trim_end());
    out::note(&format!(
        "{} the build of function '{name}' failed ({status})\n  {} it ran `{command}` in {}",
        style.red("error:"),
        style.cyan("hint:"),
        folder.display(),
    ));
    Err(Shown.into())
}

fn keep(tail: &mut Vec<u8>, more: &[u8]) {
    tail.extend_from_slice(more);
    if tail.len() > OUTPUT_BYTES_MAX {
        tail.drain(..tail.len() - OUTPUT_BYTES_MAX);
    }
}

/// Ends a build's processes when whoever waits for it goes away.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
    }
}
