//! A Rust toolchain that builds components: rustup's target where it can be fetched, else Debian's compiler.
//!
//! The second way: Debian packages a rustc with the sources of its std (`rustc-web`, `rust-web-src`) and a C
//! library for WASI (`wasi-libc`). Cargo builds std from those sources, and the linkers of the rustup
//! toolchain (which link any target) make the component. All of it is said by environment variables, so that the
//! command in an example's `rouse.toml` is the one that anybody writes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{setup, sh};

const TARGET: &str = "wasm32-wasip2";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";

/// Makes components buildable, and gives the variables that cargo needs for it. Nothing when the target
/// is there.
pub(crate) fn install() -> Result<Vec<(String, String)>> {
    // For trying out the second way on a machine that has the first.
    let debian_wanted = std::env::var_os("ROUSE_WASM_TOOLCHAIN").is_some_and(|wanted| wanted == "debian");
    if !debian_wanted {
        if has_target() {
            return Ok(Vec::new());
        }
        setup::step(&format!("rustup target add {TARGET}"));
        // Where rustup's server cannot be reached it may try for long.
        if sh::works(Command::new("timeout").args(["120", "rustup", "target", "add", TARGET])) && has_target()
        {
            return Ok(Vec::new());
        }
        println!("    not to be had; building std from Debian's rust-web-src instead");
    }
    debian()
}

fn has_target() -> bool {
    let found = sh::output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    found.is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

fn debian() -> Result<Vec<(String, String)>> {
    setup::apt(&["rustc-web", "rust-web-src", "wasi-libc"])
        .context("no Rust toolchain for components: run `rustup target add wasm32-wasip2`")?;
    for needed in [DEBIAN_RUSTC, DEBIAN_STD, DEBIAN_LIBC] {
        if !Path::new(needed).exists() {
            bail!("{needed} is missing after the packages were installed; run `rustup target add {TARGET}`");
        }
    }
    let linkers = linkers()?;
    let linker = |name: &str| linkers.join(name).display().to_string();
    let flags = [
        "-Clink-self-contained=no".to_owned(),
        format!("-Lnative={DEBIAN_LIBC}"),
        "-Clink-arg=-lc".to_owned(),
        format!("-Clink-arg={DEBIAN_LIBC}/crt1-reactor.o"),
        format!("-Clink-arg=--wasm-ld-path={}", linker("gcc-ld/wasm-ld")),
    ];
    let variables = [
        ("RUSTC", DEBIAN_RUSTC.to_owned()),
        // std can be built by unstable means only.
        ("RUSTC_BOOTSTRAP", "1".to_owned()),
        ("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort".to_owned()),
        ("CARGO_TARGET_WASM32_WASIP2_LINKER", linker("wasm-component-ld")),
        ("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", flags.join(" ")),
    ];
    Ok(variables.map(|(key, value)| (key.to_owned(), value)).to_vec())
}

/// The linkers that come with the toolchain that builds Rouse.
fn linkers() -> Result<PathBuf> {
    let sysroot = sh::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let folder = Path::new(sysroot.trim()).join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
    if !folder.join("wasm-component-ld").is_file() {
        bail!("{} has no wasm-component-ld: a toolchain of rustup's is needed", folder.display());
    }
    Ok(folder)
}
