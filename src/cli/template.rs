//! The apps that `rouse init` begins with: the files below `templates/`, in this binary.

use rouse_manifest::detect::Host;
use rouse_types::AppName;

use super::args::Template;

/// What is written when the machine has no interpreter that tells a version.
const PYTHON_MINOR: u8 = 11;
const NODE_MAJOR: u8 = 20;

macro_rules! files {
    ($folder:literal: $($path:literal <- $file:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../templates/", $folder, "/", $file)))),*]
    };
}

fn table(template: Template) -> &'static [(&'static str, &'static str)] {
    match template {
        Template::JsComponent => files!("js-component":
            "rouse.toml" <- "rouse.toml",
            "hello.js" <- "hello.js",
            "package.json" <- "package.json",
            "wit/world.wit" <- "wit/world.wit",
            "README.md" <- "README.md",
            ".gitignore" <- "gitignore",
        ),
        // Not named Cargo.toml here, so that cargo does not take the template for a package of ours.
        Template::RustComponent => files!("rust-component":
            "rouse.toml" <- "rouse.toml",
            "Cargo.toml" <- "Cargo.toml.in",
            "src/lib.rs" <- "src/lib.rs",
            "README.md" <- "README.md",
            ".gitignore" <- "gitignore",
        ),
        Template::PythonLambda => files!("python-lambda":
            "rouse.toml" <- "rouse.toml",
            "hello/app.py" <- "hello/app.py",
            "README.md" <- "README.md",
            ".gitignore" <- "gitignore",
        ),
        Template::NodeLambda => files!("node-lambda":
            "rouse.toml" <- "rouse.toml",
            "hello/index.mjs" <- "hello/index.mjs",
            "README.md" <- "README.md",
            ".gitignore" <- "gitignore",
        ),
        Template::HttpPython => files!("http-python":
            "rouse.toml" <- "rouse.toml",
            "hello/main.py" <- "hello/main.py",
            "README.md" <- "README.md",
            ".gitignore" <- "gitignore",
        ),
        Template::HttpNode => files!("http-node":
            "rouse.toml" <- "rouse.toml",
            "hello/server.mjs" <- "hello/server.mjs",
            "README.md" <- "README.md",
            ".gitignore" <- "gitignore",
        ),
    }
}

/// The files of a new app: their paths and contents.
pub(crate) fn files(template: Template, name: &AppName, host: Host) -> Vec<(&'static str, String)> {
    let python = format!("python3.{}", host.python_minor.unwrap_or(PYTHON_MINOR));
    let node = format!("nodejs{}", host.node_major.unwrap_or(NODE_MAJOR));
    let fill = |text: &str| {
        text.replace("{{name}}", name.as_str()).replace("{{python}}", &python).replace("{{node}}", &node)
    };
    table(template).iter().map(|(path, text)| (*path, fill(text))).collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_template_has_a_manifest_that_reads_and_no_gap_left_to_fill() {
        let name = AppName::new("my-app").expect("a name");
        for &template in Template::value_variants() {
            let files = files(template, &name, Host::default());
            let (_, manifest) = files.iter().find(|(path, _)| *path == "rouse.toml").expect("a manifest");
            let manifest = rouse_manifest::parse(manifest).expect("a manifest that reads");
            assert_eq!(manifest.app.name, name, "{template:?}");
            let gap = |text: &str| ["{{name", "{{python", "{{node"].iter().any(|gap| text.contains(gap));
            assert!(!files.iter().any(|(_, text)| gap(text)), "{template:?}");
            assert!(files.iter().any(|(path, _)| *path == "README.md"), "{template:?}");
        }
    }
}
