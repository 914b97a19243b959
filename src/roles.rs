//! The processes of the platform: composed here, created and started.

use std::{ffi::OsString, process::ExitCode};

use crate::cli::args::{Global, ServeArgs};

/// `rouse serve`: the supervisor, which starts the other processes.
pub(crate) fn serve(_global: &Global, _args: &ServeArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no platform in it")
}

/// `rouse role NAME …`: one of the processes that the supervisor starts.
pub(crate) fn role(_args: &[OsString]) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no platform in it")
}
