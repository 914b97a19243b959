//! An app on disk: its folder and its manifest.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rouse_manifest::{FILE_NAME, Function, MANIFEST_BYTES_MAX, Manifest};

use super::{
    out,
    report::{Shown, hinted},
    style::Style,
};

/// An app whose manifest is right.
#[derive(Debug)]
pub(crate) struct App {
    /// Its folder, without links.
    pub(crate) folder: PathBuf,
    /// What it says.
    pub(crate) manifest: Manifest,
}

impl App {
    /// Reads the app in a folder. What is wrong with the manifest is shown at once.
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let here = std::env::current_dir().unwrap_or_default();
        let shown = path.strip_prefix(&here).or_else(|_| path.strip_prefix("./")).unwrap_or(&path);
        let shown = shown.display().to_string();
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(hinted(
                format!("there is no {FILE_NAME} in {}", folder.display()),
                "begin an app with `rouse init NAME`, or name the app's folder",
            )),
            Err(error) => return Err(error).with_context(|| format!("read {shown}")),
        };
        if metadata.len() > MANIFEST_BYTES_MAX as u64 {
            bail!("{shown} has {} bytes; at most {MANIFEST_BYTES_MAX} are read", metadata.len());
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {shown}"))?;
        let manifest = rouse_manifest::parse(&text).map_err(|errors| {
            let style = Style::stderr();
            let count = errors.all.len();
            let plural = if count == 1 { "error" } else { "errors" };
            out::note(errors.render(&shown, &text).trim_end());
            out::note(&format!("{} {shown} has {count} {plural}", style.red("error[manifest-invalid]:")));
            anyhow::Error::from(Shown)
        })?;
        let folder = folder.canonicalize().with_context(|| format!("read {}", folder.display()))?;
        Ok(Self { folder, manifest })
    }

    /// A function's source. It is there, and no link leads it out of the app's folder.
    pub(crate) fn source(&self, function: &Function) -> anyhow::Result<PathBuf> {
        self.inside(&self.folder.join(&function.source), "source")
    }

    /// A path of this app, without links, if it lies inside.
    pub(crate) fn inside(&self, path: &Path, what: &str) -> anyhow::Result<PathBuf> {
        let real = path.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => hinted(
                format!("the {what} {} is not there", path.display()),
                format!("mend `{what}` in {FILE_NAME}"),
            ),
            _ => anyhow::Error::from(error).context(format!("read {}", path.display())),
        })?;
        if !real.starts_with(&self.folder) {
            bail!(hinted(
                format!("the {what} {} leads out of the app's folder, to {}", path.display(), real.display()),
                "copy it into the app's folder",
            ));
        }
        Ok(real)
    }
}
