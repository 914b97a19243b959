//! Amazon's own clients against a platform.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Platform, program, python, skipped};

/// What comes before each script: a client of S3 that is set up by its environment alone.
const BEGIN: &str = "import sys, json, boto3\nfrom botocore.config import Config\n\
                     s3 = boto3.client('s3', config=Config(signature_version='s3v4'))\n";

/// An access key of the tenant `default`, as the environment of a client, with the address to speak to.
///
/// # Panics
/// When no key can be made.
pub async fn environment(platform: &Platform) -> Vec<(String, String)> {
    environment_of(platform, "default").await
}

/// The same of any tenant.
///
/// # Panics
/// When no key can be made.
pub async fn environment_of(platform: &Platform, tenant: &str) -> Vec<(String, String)> {
    let key = platform.json(&["access-key", "create", "--tenant", tenant]).await;
    let text = |name: &str| key[name].as_str().expect("a text").to_owned();
    let pairs = [
        ("AWS_ACCESS_KEY_ID", text("id")),
        ("AWS_SECRET_ACCESS_KEY", text("secret")),
        ("AWS_ENDPOINT_URL", platform.aws()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_PAGER", String::new()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_MAX_ATTEMPTS", "1".to_owned()),
        ("RUNTIME", python().expect("python3")),
        ("GATEWAY", format!("http://{}", platform.gateway)),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What `cargo xtask setup` installed under this variable; none when it was not run.
#[must_use]
pub fn tool(variable: &str) -> Option<PathBuf> {
    let command = program();
    let found = command.get_envs().find(|(name, _)| *name == variable);
    found.and_then(|(_, value)| value).map(PathBuf::from)
}

/// Runs a program, which must succeed, and gives what it printed.
///
/// # Panics
/// When it fails.
pub async fn run(mut command: Command, environment: Vec<(String, String)>) -> String {
    command.env_remove("AWS_PROFILE").env("HOME", "/nonexistent").envs(environment);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task");
    let output = output.expect("run the client");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the client failed:\n{out}{err}");
    out.into_owned()
}

/// boto3 with an access key of a platform: runs scripts in which `s3` is a client.
#[derive(Debug)]
pub struct Boto3 {
    python: PathBuf,
    environment: Vec<(String, String)>,
}

impl Boto3 {
    /// Nothing, saying so, where boto3 is not there.
    pub async fn of(platform: &Platform, test: &str) -> Option<Self> {
        Self::of_tenant(platform, "default", test).await
    }

    /// The same with a key of any tenant.
    pub async fn of_tenant(platform: &Platform, tenant: &str, test: &str) -> Option<Self> {
        let Some(python) = tool("ROUSE_AWS_CLIENTS_PYTHON") else {
            skipped(test, "boto3 is not there: run `cargo xtask setup`");
            return None;
        };
        Some(Self { python: python.join("bin/python"), environment: environment_of(platform, tenant).await })
    }

    /// The same with further variables in its environment.
    #[must_use]
    pub fn with(mut self, pairs: &[(&str, &str)]) -> Self {
        self.environment.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// Runs a script and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run(&self, script: &str, args: &[&str]) -> String {
        let mut command = Command::new(&self.python);
        command.arg("-c").arg(format!("{BEGIN}{script}")).args(args);
        run(command, self.environment.clone()).await
    }
}

/// Writes a file with an access key of a platform, as AWS' clients have it.
///
/// # Panics
/// When there is no key to be had.
pub async fn credentials_file(of: &Platform, file: &Path) {
    let key = of.json(&["access-key", "create"]).await;
    let text = |name: &str| key[name].as_str().expect("a text").to_owned();
    let lines = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        text("id"),
        text("secret")
    );
    fs::write(file, lines).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
}
