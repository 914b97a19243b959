//! Where packages come from: what this machine's own pip and npm are set to, as what a sandbox needs of it. It is
//! read from them and handed over, never written into the app.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use rouse_types::egress::Destination;
use serde_json::{Map, Value};
use tokio::process::Command;

use super::{needs::Needs, requirements};
use crate::cli::report::hinted;

/// More destinations that builds may reach, as `host:port`, with commas.
const MORE: &str = "ROUSE_BUILD_EGRESS";
/// Indexes whose files lie elsewhere.
const FILES_OF: [(&str, &str); 2] =
    [("pypi.org", "files.pythonhosted.org:443"), ("test.pypi.org", "test-files.pythonhosted.org:443")];
/// Where the sandbox sees the files of [`Index::files`], and the folders of [`Index::folders`].
pub(super) const CONFIG: &str = "/build/config";
pub(super) const FOLDERS: &str = "/packages";
/// What of pip's settings matters to which packages it takes; the rest is for people and other commands.
const PIP_SETTINGS: [&str; 10] = [
    "index-url",
    "extra-index-url",
    "no-index",
    "trusted-host",
    "proxy",
    "timeout",
    "prefer-binary",
    "only-binary",
    "no-binary",
    "pre",
];

/// What resolving needs from this machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) env: Vec<(String, String)>,
    pub(super) egress: BTreeSet<Destination>,
    /// Folders of packages on this machine, that its owner named.
    pub(super) folders: Vec<PathBuf>,
    /// Files by name: certificates, and npm's settings.
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// The index itself, for messages.
    pub(super) host: String,
}

impl Index {
    /// Lets the sandbox reach a URL's host.
    fn reach(&mut self, url: &str) -> anyhow::Result<()> {
        if let Some(destination) = destination(url)? {
            self.egress.insert(destination);
        }
        Ok(())
    }

    fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.env.push((name.into(), value.into()));
    }

    /// Hands over a file of certificates that this machine names.
    fn certificates(&mut self, variable: &str, path: &str) -> anyhow::Result<()> {
        let bytes = std::fs::read(path).with_context(|| format!("read the certificates in {path}"))?;
        let name = format!("{}.pem", variable.to_ascii_lowercase());
        self.set(variable, format!("{CONFIG}/{name}"));
        self.files.push((name, bytes));
        Ok(())
    }

    /// What both tools have: what the files name, a proxy, and what the environment adds.
    fn shared(&mut self, needs: &Needs) -> anyhow::Result<()> {
        for url in &needs.urls {
            self.reach(&expanded(url))?;
        }
        for name in &needs.variables {
            if let Ok(value) = std::env::var(name) {
                self.set(name.clone(), value);
            }
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            if let Ok(value) = std::env::var(name)
                && !value.is_empty()
            {
                self.reach(&value)?;
                self.set(name, value);
            }
        }
        for name in ["NO_PROXY", "no_proxy"] {
            if let Ok(value) = std::env::var(name) {
                self.set(name, value);
            }
        }
        let more = std::env::var(MORE).unwrap_or_default();
        for text in more.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            self.egress.insert(text.parse().with_context(|| MORE.to_owned())?);
        }
        Ok(())
    }
}

/// As pip is set on this machine. `interpreter` is one that has it.
pub(super) async fn pip(interpreter: &str, needs: &Needs) -> anyhow::Result<Index> {
    let mut command = Command::new(interpreter);
    let output = command.args(["-m", "pip", "config", "list"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = output.output().await.context("ask pip for its settings")?;
    let settings = pip_settings(&String::from_utf8_lossy(&output.stdout));
    let mut index = Index::default();
    for name in PIP_SETTINGS {
        if let Some(value) = settings.get(name) {
            index.set(
                format!("PIP_{}", name.to_ascii_uppercase().replace('-', "_")),
                value.replace('\n', " "),
            );
        }
    }
    let url = settings.get("index-url").map_or("https://pypi.org/simple", String::as_str);
    index.host = destination(url)?.map_or_else(|| url.to_owned(), |index| index.to_string());
    let more = ["extra-index-url", "proxy"].iter().filter_map(|name| settings.get(*name));
    for url in std::iter::once(url).chain(more.flat_map(|urls| urls.split_whitespace())) {
        index.reach(url)?;
    }
    let mut found = Vec::new();
    for place in settings.get("find-links").into_iter().flat_map(|places| places.split_whitespace()) {
        let path = Path::new(place.trim_start_matches("file://"));
        if place.contains("://") && !place.starts_with("file://") {
            index.reach(place)?;
            found.push(place.to_owned());
        } else if path.is_absolute() && path.is_dir() {
            found.push(format!("{FOLDERS}/{}", index.folders.len()));
            index.folders.push(path.canonicalize().with_context(|| format!("read {place}"))?);
        }
    }
    if !found.is_empty() {
        index.set("PIP_FIND_LINKS", found.join(" "));
    }
    if let Some(path) = settings.get("cert") {
        index.certificates("PIP_CERT", path)?;
    }
    index.shared(needs)?;
    for (host, files) in FILES_OF {
        if index.egress.iter().any(|one| one.allows(host, 443)) {
            index.egress.insert(files.parse().context("a host of files")?);
        }
    }
    Ok(index)
}

/// What `pip config list` says, by name; the environment wins over a command's own section, and that over the
/// section of all.
fn pip_settings(text: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for section in ["global.", "install.", ":env:."] {
        for line in text.lines() {
            let Some((name, value)) = line.strip_prefix(section).and_then(|line| line.split_once('=')) else {
                continue;
            };
            let quotes = |c: char| c == '\'' || c == '"';
            let value = value.trim_matches(quotes).replace("\\n", "\n").replace("\\\\", "\\");
            let name = if name == "default-timeout" { "timeout" } else { name };
            settings.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    settings
}

/// As npm is set on this machine, for this folder.
pub(super) async fn npm(npm: &str, source: &Path, needs: &Needs) -> anyhow::Result<Index> {
    let mut command = Command::new(npm);
    command.args(["config", "list", "--json", "--loglevel=silent"]).current_dir(source);
    let output =
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("ask npm for its settings")?;
    let settings: Map<String, Value> = serde_json::from_slice(&output.stdout).map_err(|_| {
        let told = String::from_utf8_lossy(&output.stderr);
        let first = told.lines().next().unwrap_or_default().to_owned();
        hinted(
            format!("npm does not tell its settings: {first}"),
            "try `npm config list` in the function's folder",
        )
    })?;
    let mut files = Vec::new();
    for key in ["globalconfig", "userconfig"] {
        // Where there is none, there is nothing to take.
        let text =
            settings.get(key).and_then(Value::as_str).and_then(|path| std::fs::read_to_string(path).ok());
        files.extend(text);
    }
    let mut index = Index::default();
    let mut rc = npmrc(&settings, &files);
    let text = |key: &str| settings.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
    let registry = text("registry").unwrap_or("https://registry.npmjs.org/");
    index.host = destination(registry)?.map_or_else(|| registry.to_owned(), |index| index.to_string());
    let scoped = settings.iter().filter(|(key, _)| key.ends_with(":registry"));
    let scoped = scoped.filter_map(|(_, value)| value.as_str());
    for url in std::iter::once(registry).chain(scoped).chain(text("proxy")).chain(text("https-proxy")) {
        index.reach(url)?;
    }
    if let Some(path) = text("cafile") {
        index.certificates("npm_config_cafile", path)?;
    } else if let Some(ca) = settings.get("ca").filter(|ca| !ca.is_null()) {
        let all = ca.as_array().cloned().unwrap_or_else(|| vec![ca.clone()]);
        let all = all
            .iter()
            .filter_map(Value::as_str)
            .map(|one| format!("ca[]=\"{}\"\n", one.replace('\n', "\\n")));
        rc.extend(all);
    }
    if let Ok(path) = std::env::var("NODE_EXTRA_CA_CERTS") {
        index.certificates("NODE_EXTRA_CA_CERTS", &path)?;
    }
    index.files.push(("npmrc".to_owned(), rc.into_bytes()));
    index.set("npm_config_userconfig", format!("{CONFIG}/npmrc"));
    index.shared(needs)?;
    Ok(index)
}

/// npm's settings for the sandbox: those that say where packages are, and the logins that stand in this machine's
/// files, which npm does not list.
fn npmrc(settings: &Map<String, Value>, files: &[String]) -> String {
    let mut text = String::new();
    for (key, value) in settings {
        let wanted = ["registry", "proxy", "https-proxy", "noproxy", "strict-ssl"].contains(&key.as_str());
        if !wanted && !key.ends_with(":registry") {
            continue;
        }
        let value = match value {
            Value::String(value) if !value.is_empty() => value.clone(),
            Value::Bool(value) => value.to_string(),
            Value::Array(all) => {
                let all: Vec<&str> =
                    all.iter().filter_map(Value::as_str).filter(|one| !one.is_empty()).collect();
                if all.is_empty() {
                    continue;
                }
                all.join(",")
            }
            _ => continue,
        };
        text += &format!("{key}={value}\n");
    }
    for line in files.iter().flat_map(|file| file.lines()).filter(|line| line.trim_start().starts_with("//"))
    {
        text += &(expanded(line.trim()) + "\n");
    }
    text
}

/// A text with the environment's values for `${NAME}`, as npm and pip read it.
fn expanded(text: &str) -> String {
    let mut text = text.to_owned();
    for name in requirements::variables(&text) {
        if let Ok(value) = std::env::var(&name) {
            text = text.replace(&format!("${{{name}}}"), &value);
        }
    }
    text
}

/// The host and port of a URL; none of one that is not reached by HTTP.
fn destination(url: &str) -> anyhow::Result<Option<Destination>> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(None) };
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        "ssh" => 22,
        _ => return Ok(None),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = if has_port { place.to_owned() } else { format!("{place}:{port}") };
    match place.parse() {
        Ok(destination) => Ok(Some(destination)),
        // Without what stands before the host: it may be a password.
        Err(error) => bail!("packages come from {scheme}://{place}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_pips_files() {
        let settings = pip_settings(
            "global.index-url='https://a.example.com/simple'\ninstall.index-url='https://b.example.com/simple'\n\
             :env:.default-timeout='180'\n:env:.extra-index-url='https://c.example.com/\\nhttps://d.example.com/'\n",
        );
        assert_eq!(settings["index-url"], "https://b.example.com/simple");
        assert_eq!(settings["timeout"], "180");
        assert_eq!(settings["extra-index-url"], "https://c.example.com/\nhttps://d.example.com/");
    }

    #[test]
    fn a_url_tells_its_destination_and_nothing_of_its_login() {
        let one = |url| destination(url).expect("a destination").map(|one| one.to_string());
        assert_eq!(one("https://pypi.org/simple").as_deref(), Some("pypi.org:443"));
        assert_eq!(one("http://me:pass@mirror.lan:8080/x?y").as_deref(), Some("mirror.lan:8080"));
        assert_eq!(one("ssh://git@git.example.com/x.git").as_deref(), Some("git.example.com:22"));
        assert_eq!(one("file:///x"), None);
        let error = destination("https://me:secret@bad host/").expect_err("wrong").to_string();
        assert!(error.contains("bad host") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn of_npms_settings_the_registries_and_logins_are_taken_and_nothing_else() {
        let settings = serde_json::json!({
            "registry": "https://r.example.com/", "@mine:registry": "https://m.example.com/", "editor": "vi",
            "strict-ssl": true, "proxy": null, "noproxy": [""],
        });
        let files = ["editor=vi\n//m.example.com/:_authToken=secret\n".to_owned()];
        let text = npmrc(settings.as_object().expect("an object"), &files);
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "//m.example.com/:_authToken=secret",
                "@mine:registry=https://m.example.com/",
                "registry=https://r.example.com/",
                "strict-ssl=true",
            ]
        );
    }
}
