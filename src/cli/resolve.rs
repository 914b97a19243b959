//! A function's dependencies, as its folder names them: resolved by pip or npm in a sandbox of their own, since what
//! they run was written by strangers, and kept by the digest of what they were resolved from.
//!
//! ```text
//!  needs ─▶ staged ─▶ key ─▶ cache: there ───────────────────────────────────────▶ Dependencies
//!                        └─▶ not there: index ─▶ confined (or direct) ─▶ unpacked ──┘
//!                                                    └─ failed ─▶ failure: what, where, next step
//! ```

mod cache;
mod confined;
mod direct;
mod failure;
mod index;
mod needs;
mod packages;
mod requirements;
mod staged;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, bail};
use rouse_types::{Code, FunctionName, Refusal, Runtime, limits};

pub(crate) use self::packages::Package;
use self::{
    cache::Cache,
    failure::Failure,
    index::Index,
    needs::{Needs, Tool},
    staged::Staged,
};
use super::{
    args::{Global, ResolveArgs},
    out,
    progress::Progress,
    report::hinted,
    state,
    style::Style,
    units,
};

/// Where sandboxes look for programs: what lies below `/usr` is seen inside.
const BIN_FOLDERS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// What compilers and packers look at to make the same from the same.
const SAME_EACH_TIME: [(&str, &str); 2] = [("SOURCE_DATE_EPOCH", "315532800"), ("PYTHONHASHSEED", "0")];

/// Resolves the functions of one app.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    /// The platform's state folder: its operator's names count for builds, too.
    state: PathBuf,
    cache: Cache,
    args: ResolveArgs,
}

/// Dependencies that are there.
#[derive(Debug, Clone)]
pub(crate) struct Dependencies {
    /// Lies beside the function's code when it runs.
    pub(crate) folder: PathBuf,
    pub(crate) packages: Vec<Package>,
    /// They were there before.
    pub(crate) cached: bool,
}

/// Whether what somebody installed in the folder is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installed {
    /// It is what they want to run.
    Kept,
    /// It is what they have to work with: npm's folder is resolved anew.
    Anew,
}

/// What a tool did.
struct Ran {
    /// The end of what it printed.
    printed: String,
    /// What it wanted to reach and could not.
    refused: Vec<String>,
    succeeded: bool,
    out_of_memory: bool,
    /// Why what it made is not there.
    unpacked: Result<(), Refusal>,
}

/// How a tool is run.
struct Job<'a> {
    /// What is shown while it runs.
    label: String,
    staged: &'a Staged,
    index: &'a Index,
    /// The program and its arguments.
    argv: Vec<String>,
    tool: Tool,
    /// All of the folder is worked on, and all of it is taken.
    whole: bool,
}

impl Resolver {
    pub(crate) fn new(global: &Global, args: &ResolveArgs) -> Self {
        Self { state: state::folder(global), cache: Cache::usual(), args: args.clone() }
    }

    #[cfg(test)]
    pub(crate) fn in_folder(cache: PathBuf, state: &Path) -> Self {
        Self { state: state.to_owned(), cache: Cache::in_folder(cache), args: ResolveArgs::default() }
    }

    /// What a function's folder depends on, resolved; none where it depends on nothing.
    ///
    /// # Errors
    /// It cannot be resolved, or not confined: with the reason and the next step.
    pub(crate) async fn dependencies(
        &self,
        name: &FunctionName,
        source: &Path,
        runtime: &Runtime,
        installed: Installed,
    ) -> anyhow::Result<Option<Dependencies>> {
        let context = || format!("function '{name}'");
        let Some(needs) = needs::of(source, runtime).with_context(context)? else { return Ok(None) };
        let is_npm = matches!(needs.tool, Tool::Npm { .. });
        if needs::installed(source, needs.tool) && (installed == Installed::Kept || !is_npm) {
            return Ok(None);
        }
        self.resolve(name, source, runtime, &needs).await.with_context(context).map(Some)
    }

    async fn resolve(
        &self,
        name: &FunctionName,
        source: &Path,
        runtime: &Runtime,
        needs: &Needs,
    ) -> anyhow::Result<Dependencies> {
        let (staged, key) = {
            let (source, needs) = (source.to_owned(), needs.clone());
            let how = format!("{runtime} {}", if self.args.no_scripts { "no scripts" } else { "scripts" });
            let read = move || {
                let staged = Staged::of(&source, &needs)?;
                let key = staged.key(&how)?;
                anyhow::Ok((staged, key))
            };
            tokio::task::spawn_blocking(read).await.context("read the folder")??
        };
        if !self.args.fresh
            && let Some((folder, packages)) = self.cache.find(&key)
        {
            return Ok(Dependencies { folder, packages, cached: true });
        }
        let began = Instant::now();
        let fresh = self.cache.begin()?;
        self.run(name, source, needs, &staged, fresh.files()).await?;
        let packages = packages::list(fresh.files(), needs.tool).context("list what was resolved")?;
        let folder = fresh.keep(&key, &packages)?;
        let style = Style::stderr();
        let took = units::micros(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        let count = packages.len();
        let plural = if count == 1 { "package" } else { "packages" };
        out::note(&style.dim(&format!("resolved {count} {plural} for {name} in {took}")));
        if !needs.loose.is_empty() {
            let way = match needs.tool {
                Tool::Pip { .. } => "NAME==VERSION pins it",
                Tool::Npm { .. } => "a package-lock.json pins them",
            };
            out::note(&style.dim(&format!(
                "not pinned to a version: {} ({way}); kept as resolved until the files change, or `rouse build --fresh`",
                needs.loose.join(", ")
            )));
        }
        Ok(Dependencies { folder, packages, cached: false })
    }

    /// Runs the tool, so that what it makes lies in `into`.
    async fn run(
        &self,
        name: &FunctionName,
        source: &Path,
        needs: &Needs,
        staged: &Staged,
        into: &Path,
    ) -> anyhow::Result<()> {
        let confined = self.confine(needs.tool)?;
        let (program, wheels_only, index) = match needs.tool {
            Tool::Pip { minor } => {
                let (interpreter, exact) = python(minor, confined).await?;
                let index = index::pip(&interpreter, needs).await?;
                (interpreter, !exact || self.args.no_scripts, index)
            }
            Tool::Npm { .. } => {
                let npm = find("npm", confined).ok_or_else(|| {
                    hinted(
                        format!("npm is not in {}", BIN_FOLDERS.join(" or ")),
                        "apt-get install npm; a sandbox sees no home folder, so one of nvm does not serve",
                    )
                })?;
                let index = index::npm(&npm, source, needs).await?;
                (npm, false, index)
            }
        };
        let job = Job {
            label: format!("resolving dependencies of {name}"),
            staged,
            index: &index,
            argv: argv(needs.tool, &program, wheels_only, self.args.no_scripts),
            tool: needs.tool,
            whole: needs.files.is_none(),
        };
        let ran = if confined {
            confined::run(&job, into, &self.state).await?
        } else {
            direct::run(&job, into).await?
        };
        if let Err(refusal) = ran.unpacked {
            bail!(unpackable(&refusal, into));
        }
        if ran.succeeded {
            return Ok(());
        }
        let requirements = match needs.tool {
            Tool::Pip { .. } => needs::text(source, requirements::FILE)?,
            Tool::Npm { .. } => String::new(),
        };
        let (message, hint) = failure::told(&Failure {
            needs,
            requirements: &requirements,
            printed: &ran.printed,
            refused: &ran.refused,
            index: &index.host,
            wheels_only,
            out_of_memory: ran.out_of_memory,
        });
        bail!(hinted(Style::stderr().foreign_lines(&message), hint))
    }

    /// Whether the tool runs in a sandbox. That it must not run without one is an error.
    fn confine(&self, tool: Tool) -> anyhow::Result<bool> {
        let root = rustix::process::geteuid().is_root();
        if self.args.unconfined || (self.args.no_scripts && !root) {
            return Ok(false);
        }
        if root {
            return Ok(true);
        }
        let tool = tool.name();
        bail!(hinted(
            format!("{tool} runs code of its packages' authors, which only root can confine here"),
            format!(
                "as root: `sudo rouse build`; without running such code: --no-scripts; or --unconfined, as {tool} does \
                 by hand"
            ),
        ))
    }
}

/// Why what was resolved is not there.
fn unpackable(refusal: &Refusal, into: &Path) -> anyhow::Error {
    match refusal.code {
        Code::CodeTooLarge => hinted(
            format!(
                "its dependencies are larger than code may be: {} MiB, {} files",
                limits::CODE_UNPACKED_BYTES_MAX >> 20,
                limits::CODE_FILES_MAX
            ),
            "fewer or smaller dependencies; an image may have 10 GiB: docs/guides/images.md",
        ),
        Code::StorageFull => {
            let folder = into.ancestors().nth(2).unwrap_or(into);
            hinted(
                format!("the disk of {} is full", folder.display()),
                "free space there, or name another folder: XDG_CACHE_HOME",
            )
        }
        _ => hinted(
            format!("what was resolved cannot be unpacked: {}", refusal.message),
            "a package made files that no archive has; `rouse build --fresh` tries again",
        ),
    }
}

/// The tool's own command. What it is told here is what makes a build the same each time.
fn argv(tool: Tool, program: &str, wheels_only: bool, no_scripts: bool) -> Vec<String> {
    let mut argv = vec![program.to_owned()];
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
    match tool {
        Tool::Pip { minor } => {
            add(&[
                "-m",
                "pip",
                "install",
                "--no-input",
                "--no-compile",
                "--no-cache-dir",
                "--progress-bar=off",
            ]);
            add(&["--disable-pip-version-check", "--no-warn-script-location", "-r", requirements::FILE]);
            if wheels_only {
                add(&["--only-binary=:all:", "--implementation=cp", &format!("--python-version=3.{minor}")]);
            }
        }
        Tool::Npm { locked, .. } => {
            add(if locked { &["ci"] } else { &["install", "--no-package-lock"] });
            add(&["--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]);
            if no_scripts {
                add(&["--ignore-scripts"]);
            }
        }
    }
    argv
}

/// An interpreter with pip, and whether it is of this version: with another, pip can still pick wheels.
async fn python(minor: u8, confined: bool) -> anyhow::Result<(String, bool)> {
    let exact = format!("python3.{minor}");
    for name in [exact.as_str(), "python3"] {
        let Some(path) = find(name, confined) else { continue };
        let mut command = tokio::process::Command::new(&path);
        command.args(["-m", "pip", "--version"]).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let Ok(output) = command.output().await else { continue };
        // "pip 23.0.1 from … (python 3.11)"
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok((path, told.contains(&format!("(python 3.{minor})"))));
        }
    }
    bail!(hinted(
        format!("no Python in {} has pip", BIN_FOLDERS.join(" or ")),
        format!(
            "apt-get install {exact} python3-pip; a sandbox sees no home folder, so one of pyenv does not serve"
        ),
    ))
}

/// A program. One for a sandbox lies below `/usr`, also where it is a link.
fn find(name: &str, confined: bool) -> Option<String> {
    let path = std::env::var_os("PATH").filter(|_| !confined).unwrap_or_default();
    let folders = BIN_FOLDERS.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find_map(|path| {
        let target = path.canonicalize().ok()?;
        let seen = target.is_file() && (!confined || target.starts_with("/usr"));
        seen.then(|| path.to_string_lossy().into_owned())
    })
}

/// Shows what a tool says, as it says it.
struct Words {
    progress: Progress,
    label: String,
    tail: Vec<u8>,
}

impl Words {
    /// Of what is printed, the end is kept: there stands why it failed.
    const TAIL_BYTES_MAX: usize = 64 << 10;

    fn new(label: &str) -> Self {
        Self { progress: Progress::spinner(label), label: label.to_owned(), tail: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > Self::TAIL_BYTES_MAX {
            self.tail.drain(..self.tail.len() - Self::TAIL_BYTES_MAX);
        }
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) {
            let short: String = line.trim().chars().take(60).collect();
            self.progress.message(format!("{}: {}", self.label, Style::stderr().foreign(&short)));
        }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }
}
