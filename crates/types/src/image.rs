//! What an image says of how it is run, and which layers its files are made of.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// An image that was unpacked on this machine: the content of `<state>/code/<hex>/image.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where it came from, with its digest; nothing for one that was uploaded.
    pub reference: Option<String>,
    /// Its layers, the lowest first: each a folder `<state>/layers/<hex>`. A layer is named by its chain id (OCI image
    /// specification, "Layer ChainID"), for what it hides depends on the layers below.
    pub layers: Vec<Digest>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The program where there is no entry point, else further arguments.
    pub cmd: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// The working folder; `/` when empty.
    pub workdir: String,
    /// The user that it wants to be. A sandbox has one user of its own, so this is for people to see.
    pub user: String,
}

impl Image {
    /// The name of the file that holds it.
    pub const FILE: &str = "image.json";

    /// The program and its arguments: `command` where one was given, else the entry point with its arguments.
    #[must_use]
    pub fn argv(&self, command: &[String]) -> Vec<String> {
        if !command.is_empty() {
            return command.to_vec();
        }
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }

    /// The working folder, absolute.
    #[must_use]
    pub fn cwd(&self) -> String {
        if self.workdir.starts_with('/') { self.workdir.clone() } else { format!("/{}", self.workdir) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_replaces_the_entry_point_and_its_arguments() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let image = Image { entrypoint: words("/run --all"), cmd: words("now"), ..Image::default() };
        assert_eq!(image.argv(&[]), words("/run --all now"));
        assert_eq!(image.argv(&words("sh -c x")), words("sh -c x"));
        assert_eq!(image.cwd(), "/");
    }
}
