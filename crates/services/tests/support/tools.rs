//! The clients and servers that `cargo xtask setup` installs.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A variable of the tools, as the environment or an earlier setup says.
fn variable(name: &str) -> Option<PathBuf> {
    if let Some(value) = std::env::var_os(name) {
        return Some(value.into());
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let tools =
        std::env::var_os("ROUSE_TOOLS").map_or_else(|| home().join(".cache/rouse/tools"), PathBuf::from);
    let text = std::fs::read_to_string(tools.join("env")).ok()?;
    let value =
        |line: &str| line.split_once('=').filter(|(found, _)| *found == name).map(|(_, value)| value.into());
    text.lines().find_map(value)
}

/// The file if it is there; else says that the test is skipped.
fn found(test: &str, what: &str, path: Option<PathBuf>) -> Option<PathBuf> {
    let path = path.filter(|path| path.exists());
    if path.is_none() {
        eprintln!("SKIPPED {test}: {what} is not installed: run `cargo xtask setup`");
    }
    path
}

/// A Python with boto3.
pub(crate) fn python(test: &str) -> Option<PathBuf> {
    let folder = variable("ROUSE_AWS_CLIENTS_PYTHON");
    found(test, "boto3", folder.map(|folder| folder.join("bin/python")))
}

/// The aws cli: a program for Python, whose own first line names a folder that it is no longer in.
pub(crate) fn aws(test: &str) -> Option<[PathBuf; 2]> {
    let folder = variable("ROUSE_AWS_CLIENTS_PYTHON");
    let program = found(test, "the aws cli", folder.map(|folder| folder.join("bin/aws")))?;
    Some([program.with_file_name("python"), program])
}

pub(crate) fn rclone(test: &str) -> Option<PathBuf> {
    found(test, "rclone", Some(Path::new("/usr/bin/rclone").to_owned()))
}

/// SeaweedFS, a store that speaks S3.
pub(crate) fn weed(test: &str) -> Option<PathBuf> {
    found(test, "SeaweedFS", variable("ROUSE_WEED"))
}

/// Keeps a client from what this machine's user has set up for it.
pub(crate) fn alone(command: &mut Command) -> &mut Command {
    let aws = ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_DEFAULT_REGION"];
    for variable in aws.into_iter().chain(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]) {
        command.env_remove(variable);
    }
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("LC_ALL", "C.UTF-8")
}
