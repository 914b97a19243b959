//! What the tests with other people's clients share: a platform with an access key, and a client's program run
//! against it.

use std::{path::PathBuf, process::Command};

use rouse_e2e::Platform;

/// An access key of the platform, as the environment of a client, with the address to speak to.
///
/// # Panics
/// When no key can be made.
pub async fn environment(platform: &Platform) -> Vec<(String, String)> {
    let key = platform.json(&["keys", "create"]).await;
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
        ("RUNTIME", rouse_e2e::python().expect("python3")),
        ("GATEWAY", format!("http://{}", platform.gateway)),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What `cargo xtask setup` installed under this variable; none when it was not run.
#[must_use]
pub fn tool(variable: &str) -> Option<PathBuf> {
    let command = rouse_e2e::program();
    let found = command.get_envs().find(|(name, _)| *name == variable);
    found.and_then(|(_, value)| value).map(PathBuf::from)
}

/// A script of this package.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
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
