//! `cargo xtask generate`: source files that are made from other people's models, and are committed.

mod aws;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{paths, setup};

/// What can be generated.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum What {
    /// The tables of AWS' APIs of Lambda and SQS, from botocore's models of them.
    Aws,
}

/// Writes it.
pub(crate) fn run(what: What) -> Result<()> {
    let What::Aws = what;
    let tools = setup::run()?;
    let (text, place) = (aws::text(&tools.env)?, place());
    fs::write(&place, text).with_context(|| format!("write {}", place.display()))?;
    println!("wrote {}", place.display());
    Ok(())
}

/// Where the tables stand.
fn place() -> PathBuf {
    paths::root().join("crates/aws/src/model/generated.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generating_again_gives_what_is_committed() {
        let Some(tools) = setup::written() else {
            eprintln!(
                "SKIPPED generating_again_gives_what_is_committed: botocore is not there, run `cargo xtask setup`"
            );
            return;
        };
        let text = aws::text(&tools).expect("botocore's model");
        let committed = fs::read_to_string(place()).expect("the committed tables");
        assert!(text == committed, "run `cargo xtask generate aws` and commit what it writes");
    }
}
