//! Names and passwords of registries: as given, from the environment, or from Docker's configuration file.
//!
//! Source: docker-cli, "Configuration files" (`auths`, `credHelpers`, `credsStore`), and the protocol of
//! docker-credential-helpers: the registry on standard input, `{"Username":…,"Secret":…}` on standard output.

use std::{
    collections::BTreeMap,
    fmt,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rouse_types::Refusal;
use serde::Deserialize;

use crate::{reference::DOCKER_HUB, unavailable};

/// How Docker's configuration names its own registry.
const DOCKER_HUB_KEY: &str = "index.docker.io";

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The value of `Authorization` (RFC 7617).
    #[must_use]
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// What this machine knows of a registry: `ROUSE_REGISTRY_USER` and `ROUSE_REGISTRY_PASSWORD`, else Docker's
/// configuration, in `$DOCKER_CONFIG` or `~/.docker`. Runs a credential helper where the configuration names one.
///
/// # Errors
/// The configuration or its helper is broken.
pub fn find(registry: &str) -> Result<Option<Credentials>, Refusal> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let (Some(username), Some(password)) =
        (variable("ROUSE_REGISTRY_USER"), variable("ROUSE_REGISTRY_PASSWORD"))
    {
        return Ok(Some(Credentials { username, password }));
    }
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".docker")));
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => in_config(&text, registry),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// What a text in the form of Docker's configuration knows of a registry.
///
/// # Errors
/// The text is broken, or the helper that it names is.
pub fn in_config(text: &str, registry: &str) -> Result<Option<Credentials>, Refusal> {
    let config: Config = serde_json::from_str(text)
        .map_err(|error| unavailable(format!("docker's config.json cannot be read: {error}")))?;
    let wanted = if registry == DOCKER_HUB { DOCKER_HUB_KEY } else { registry };
    let is_it = |key: &str| {
        let host = key.split_once("://").map_or(key, |(_, rest)| rest);
        host.split('/').next().is_some_and(|host| host.eq_ignore_ascii_case(wanted))
    };
    if let Some((_, helper)) = config.cred_helpers.iter().find(|(key, _)| is_it(key)) {
        return ask(helper, registry);
    }
    let known = config.auths.iter().find(|(key, _)| is_it(key)).map(|(_, auth)| auth);
    if let Some(credentials) = known.map(Auth::credentials).transpose()?.flatten() {
        return Ok(Some(credentials));
    }
    config.creds_store.map_or(Ok(None), |helper| ask(&helper, registry))
}

impl Auth {
    fn credentials(&self) -> Result<Option<Credentials>, Refusal> {
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Credentials { username: username.clone(), password: password.clone() }));
        }
        let Some(encoded) = self.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (username, password) = pair
            .ok_or_else(|| unavailable("docker's config.json has an `auth` that is no name and password"))?;
        Ok(Some(Credentials { username: username.to_owned(), password: password.to_owned() }))
    }
}

/// Runs `docker-credential-<helper> get`.
fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Told {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let failed = |what: String| {
        unavailable(format!("{program}, which docker's config.json names for {registry}, {what}"))
            .hint("set ROUSE_REGISTRY_USER and ROUSE_REGISTRY_PASSWORD instead")
    };
    if helper.contains(['/', '\0']) {
        return Err(failed("is no name of a helper".to_owned()));
    }
    let key = if registry == DOCKER_HUB { "https://index.docker.io/v1/" } else { registry };
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be run: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it reads says so by its code.
        let _ = stdin.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(format!("cannot be run: {error}")))?;
    if !output.status.success() {
        // It knows nothing of this registry, says the protocol; the registry may need nothing.
        let text = String::from_utf8_lossy(&output.stdout);
        return if text.contains("credentials not found") {
            Ok(None)
        } else {
            Err(failed("failed".to_owned()))
        };
    }
    let told: Told = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(format!("said what cannot be read: {error}")))?;
    if told.username == "<token>" {
        return Err(failed("has an identity token, which is not supported".to_owned()));
    }
    Ok(Some(Credentials { username: told.username, password: told.secret }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_configuration_is_read_as_docker_reads_it() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "YW5uOnNlY3JldDp4"},
            "registry.example.com:5000": {"username": "bob", "password": "p"},
            "empty.example.com": {}
        }, "credHelpers": {"gcr.example.com": "no-such-helper"}}"#;
        let known = in_config(text, "docker.io").expect("read").expect("known");
        assert_eq!((known.username.as_str(), known.password.as_str()), ("ann", "secret:x"));
        assert_eq!(
            in_config(text, "registry.example.com:5000").expect("read").expect("known").username,
            "bob"
        );
        assert_eq!(in_config(text, "empty.example.com").expect("read"), None);
        assert_eq!(in_config(text, "other.example.com").expect("read"), None);
        let refusal = in_config(text, "gcr.example.com").expect_err("no such helper");
        assert!(refusal.message.contains("docker-credential-no-such-helper"), "{refusal}");
        assert!(in_config("{", "x").is_err());
        assert!(!format!("{known:?}").contains("secret"));
    }
}
