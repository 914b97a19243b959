//! Runs a tool as its user would by hand, without a sandbox: where that was asked for, or where no code of strangers
//! is run.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

use super::{Job, Ran, Tool, Words};
use crate::cli::report::hinted;

/// As in a sandbox.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Runs the job in a copy of the files that it needs, and moves what it made.
pub(super) async fn run(job: &Job<'_>, into: &Path) -> anyhow::Result<Ran> {
    // Beside where it goes, so that a rename moves it.
    let beside = into.parent().context("a folder without a parent")?;
    let work = tempfile::Builder::new().prefix("work-").tempdir_in(beside).context("make a folder")?;
    job.staged.copy(work.path()).context("copy what the build needs")?;
    let mut words = Words::new(&job.label);
    let (program, arguments) = job.argv.split_first().context("a command without a program")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(work.path()).envs(super::SAME_EACH_TIME);
    if matches!(job.tool, Tool::Pip { .. }) {
        command.arg("--target").arg(into);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("run {program}"))?;
    let mut stderr = child.stderr.take().context("a child without an output")?;
    let read = async {
        let mut chunk = vec![0; 8 << 10];
        loop {
            match stderr.read(&mut chunk).await.context("read what the build prints")? {
                0 => return child.wait().await.context("wait for the build"),
                read => words.take(&chunk[..read]),
            }
        }
    };
    let Ok(status) = timeout(TIME_MAX, read).await else {
        bail!(hinted(
            format!("its dependencies were not resolved within {} minutes", TIME_MAX.as_secs() / 60),
            "build with a command of your own: [functions.NAME.build]",
        ));
    };
    let succeeded = status?.success();
    if succeeded && matches!(job.tool, Tool::Npm { .. }) {
        let (from, to) = if job.whole {
            fs::remove_dir(into).context("make room")?;
            (work.path().to_owned(), into.to_owned())
        } else {
            (work.path().join("node_modules"), into.join("node_modules"))
        };
        fs::rename(&from, &to).context("move what was resolved")?;
    }
    Ok(Ran { printed: words.text(), refused: Vec::new(), succeeded, out_of_memory: false, unpacked: Ok(()) })
}
