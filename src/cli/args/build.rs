//! The words of `rouse build`.

use std::path::PathBuf;

use clap::Args;
use rouse_types::FunctionName;

use super::ResolveArgs;

/// What `rouse build` takes.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The functions [default: all of the app].
    pub(crate) functions: Vec<FunctionName>,
    /// The app's folder, with its rouse.toml.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Make OCI images instead, as layouts: this machine's interpreter, the dependencies and the code, a layer each.
    #[arg(long, conflicts_with = "zip")]
    pub(crate) image: bool,
    /// Make a zip of each, which is the default.
    #[arg(long)]
    pub(crate) zip: bool,
    /// Where the results go [default: .rouse/build in the app's folder].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Build the functions in Python for this version, such as 3.11.
    #[arg(long, value_name = "VERSION", value_parser = python_minor)]
    pub(crate) python: Option<u8>,
    #[command(flatten)]
    pub(crate) resolve: ResolveArgs,
}

fn python_minor(text: &str) -> Result<u8, String> {
    let minor = text.strip_prefix("3.").and_then(|minor| minor.parse().ok());
    minor.ok_or_else(|| "a version of Python 3, such as 3.11".to_owned())
}
