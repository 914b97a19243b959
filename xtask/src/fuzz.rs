//! `cargo xtask fuzz`: one target of fuzz/ for a while, by cargo-fuzz on the ordinary toolchain.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{paths, setup, sh};

const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "0.13.2");

pub(crate) fn run(target: &str, seconds: u64) -> Result<()> {
    let targets = paths::root().join("fuzz/fuzz_targets");
    if !targets.join(format!("{target}.rs")).is_file() {
        bail!("there is no target {target}; there are: {}", names(&targets).join(", "));
    }
    let folder = setup::cargo("cargo-fuzz", CARGO_FUZZ.0, CARGO_FUZZ.1)?;
    let mut fuzz = Command::new(folder.join("bin/cargo-fuzz"));
    fuzz.args(["run", "--fuzz-dir", "fuzz", "--features", target, target, "--", "-rss_limit_mb=2048"]);
    fuzz.arg(format!("-max_total_time={seconds}")).current_dir(paths::root());
    // The sanitizers that it turns on are unstable options of the stable compiler.
    sh::open(fuzz.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", paths::target().join("fuzz")))
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names
}
