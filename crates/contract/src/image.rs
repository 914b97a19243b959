//! How an image says it is run: what both contracts launch it by.

use std::path::{Path, PathBuf};

use rouse_sandbox::Root;
use rouse_types::{Code, FunctionVersion, Image, Refusal};

/// An image's own words, as a sandbox takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: PathBuf,
    pub(crate) root: Root,
}

/// Reads what was written down when the image was unpacked: `code` is the folder of its code.
///
/// # Errors
/// It cannot be read, or names no program.
pub(crate) fn read(version: &FunctionVersion, code: &Path, state: &Path) -> Result<Parts, Refusal> {
    let unreadable = |error: std::io::Error| {
        tracing::error!(%error, version = %version.key(), "what an image says cannot be read");
        Refusal::new(Code::Internal, format!("the image of {} is not on this machine", version.key()))
            .hint("deploy it again")
    };
    let text = std::fs::read(code.join(Image::FILE)).map_err(unreadable)?;
    let image: Image = serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?;
    let argv = image.argv(&version.http.command);
    if argv.is_empty() {
        return Err(Refusal::new(
            Code::ImageInvalid,
            format!("the image of {} names no program", version.key()),
        )
        .hint("give it an ENTRYPOINT or CMD, or write `command` in rouse.toml"));
    }
    let layers = image.layers.iter().map(|layer| state.join("layers").join(layer.hex())).collect();
    Ok(Parts { argv, cwd: image.cwd().into(), env: image.env, root: Root::Layers(layers) })
}

#[cfg(test)]
mod tests {
    use rouse_types::Digest;

    use super::*;
    use crate::lambda::runtime::tests::version;

    #[test]
    fn an_image_is_run_as_it_says_or_by_the_functions_own_command() {
        let state = tempfile::tempdir().expect("a folder");
        let mut version = version("image");
        assert_eq!(read(&version, state.path(), state.path()).expect_err("not there").code, Code::Internal);
        let mut image = Image { workdir: "srv".into(), layers: vec![Digest::of(b"l")], ..Image::default() };
        let record = |image: &Image| {
            std::fs::write(state.path().join(Image::FILE), serde_json::to_vec(image).expect("json"))
                .expect("a file");
        };
        record(&image);
        assert_eq!(
            read(&version, state.path(), state.path()).expect_err("no program").code,
            Code::ImageInvalid
        );
        image.cmd = vec!["server".into()];
        record(&image);
        let parts = read(&version, state.path(), state.path()).expect("read");
        assert_eq!((parts.argv, parts.cwd), (vec!["server".to_owned()], "/srv".into()));
        let layer = state.path().join("layers").join(Digest::of(b"l").hex());
        assert_eq!(parts.root, Root::Layers(vec![layer]));
        version.http.command = vec!["other".into()];
        assert_eq!(read(&version, state.path(), state.path()).expect("read").argv, ["other"]);
    }
}
