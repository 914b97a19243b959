//! How each runtime is launched, and whether this host can.
//!
//! A sandbox sees the host's `/usr`, read-only, so the interpreter must lie there; one in a home folder or under
//! `/opt` cannot be used. What an interpreter needs to speak the contract lies in `<state>/runtimes/`.

use std::path::{Path, PathBuf};

use rouse_sandbox::{Becomes, Interpreter, Limits, Mount, Network, Root, Spec};
use rouse_types::{Code, FunctionVersion, Refusal, Runtime};

use super::{
    environment::{self, RUNTIME_API, RUNTIME_DIR, TASK_ROOT},
    launch,
};
use crate::{image, interpreter};

/// Where a function's layers are seen.
const LAYERS: &str = "/opt";
/// The program of code that brings its own runtime.
const BOOTSTRAP: &str = "bootstrap";
/// Names a program that starts the interpreter (AWS Lambda Developer Guide, "Modifying the runtime environment").
const WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";
/// What Python is forked from; see its own head.
pub const ZYGOTE: &str = include_str!("zygote.py");
const ZYGOTE_FILE: &str = "zygote.py";
/// Its folder below the state.
const ZYGOTE_FOLDER: &str = "runtimes/zygote";
/// Where it is seen inside a zygote's sandbox.
const ZYGOTE_DIR: &str = "/opt/rouse/zygote";
/// What every handler imports through the runtime interface client, and what most import besides: loaded before the
/// fork, so that no instance does. A fork of a process with more costs more, so this is not all there is.
const PRELOADED: [&str; 12] = [
    "awslambdaric.bootstrap",
    "base64",
    "datetime",
    "decimal",
    "hashlib",
    "json",
    "logging",
    "random",
    "re",
    "ssl",
    "urllib.request",
    "uuid",
];
/// Beginnings of variables that an interpreter, or its loader, reads when it starts: one that has started cannot obey
/// them any more.
const READ_AT_START: [&str; 12] = [
    "PYTHON",
    "NODE_",
    "UV_",
    "HOME",
    "OPENSSL_",
    "SSL_CERT_",
    "ICU_",
    "LD_",
    "LC_",
    "LANG",
    "MALLOC_",
    "GLIBC_",
];
/// One that begins so, is set by many functions, and is read by libraries alone.
const READ_LATER: &str = "NODE_ENV";
/// Says to our client for Node.js that it starts before it is known what it runs.
const AHEAD: (&str, &str) = ("ROUSE_STARTS_AHEAD", "1");
/// What an interpreter may use as long as it waits. What forks have in common with theirs is counted as its own.
const WAITING: Limits = Limits {
    memory_bytes: 256 << 20,
    cpu_millis: 1_000,
    // Itself, and those on their way into a fork's sandbox.
    processes: 64,
    tmp_bytes: 1 << 20,
    // Forks cannot have more: far above what specs ask for.
    open_files: 65_536,
};

/// Our client for Node.js; see its own head.
pub const NODE_CLIENT: &str = include_str!("node_client.mjs");
/// Its name in its folder.
const NODE_CLIENT_FILE: &str = "node_client.mjs";
/// AWS gives one core at this much memory, and less or more in proportion.
const MIB_PER_CORE: u64 = 1_769;
/// The least share of a core: an interpreter that starts on a fourteenth of a core, which 128 MiB would be,
/// takes seconds.
const CPU_MILLIS_MIN: u32 = 500;
/// Open files of each process: AWS Lambda's number.
const OPEN_FILES: u32 = 1_024;

/// How a runtime is launched on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The interpreter and its arguments; the handler's name is in the environment or appended.
    argv: Vec<String>,
    appends_handler: bool,
    env: Vec<(String, String)>,
    support: Option<PathBuf>,
    /// How it can start before it is known what it runs.
    ahead: Option<Ahead>,
    /// Of an image: where it runs, and its files. Its code is in them.
    image: Option<(PathBuf, Root)>,
}

/// How an interpreter starts before it is known what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ahead {
    /// As a zygote, whose script lies in this folder.
    Forked(PathBuf),
    /// By its ordinary client.
    Itself,
}

impl Launch {
    /// How to launch an image's code, which was unpacked below `code`.
    ///
    /// # Errors
    /// The image is not there, or names no program.
    pub fn of_image(version: &FunctionVersion, code: &Path, state: &Path) -> Result<Self, Refusal> {
        let image::Parts { argv, env, cwd, root } = image::read(version, code, state)?;
        Ok(Self { argv, appends_handler: false, env, support: None, ahead: None, image: Some((cwd, root)) })
    }

    /// The spec of an instance of this version. `code` is the folder that its archive was unpacked to.
    #[must_use]
    pub fn spec(&self, version: &FunctionVersion, code: &Path, id: &str) -> Spec {
        let mut argv = self.argv.clone();
        if self.appends_handler {
            argv.push(version.handler.clone().unwrap_or_default());
        }
        let (cwd, root) = self.image.clone().unwrap_or_else(|| (TASK_ROOT.into(), Root::Host));
        let mut mounts = Vec::new();
        if self.image.is_none() {
            mounts.push(Mount { source: code.to_owned(), target: TASK_ROOT.into() });
        }
        // Beneath what the platform has there.
        let layers = version.layers().map(|layers| code.with_file_name(layers.hex()));
        mounts.extend(layers.iter().map(|dir| Mount { source: dir.clone(), target: LAYERS.into() }));
        mounts
            .extend(self.support.iter().map(|dir| Mount { source: dir.clone(), target: RUNTIME_DIR.into() }));
        if let (Runtime::Provided, Some(layers)) = (&version.runtime, &layers)
            && !code.join(BOOTSTRAP).exists()
            && layers.join(BOOTSTRAP).exists()
        {
            argv = vec![format!("{LAYERS}/{BOOTSTRAP}")];
        }
        // It gets the interpreter's own words, and becomes it.
        if let Some(wrapper) = version.env.get(WRAPPER).filter(|_| self.support.is_some()) {
            argv.insert(0, wrapper.clone());
        }
        let mut spec = Spec {
            id: id.to_owned(),
            argv,
            env: environment::of(version, id, &self.env),
            cwd,
            mounts,
            limits: limits(&version.limits),
            listeners: RUNTIME_API.parse().into_iter().collect(),
            resolver: None,
            hosts: Vec::new(),
            network: Network::Sockets,
            root,
            interpreter: self.interpreter(version, code),
        };
        launch::with_extensions(&mut spec, code, layers.as_deref());
        if spec.argv.first() != self.argv.first() {
            // What comes before the interpreter is none.
            spec.interpreter = None;
        }
        spec
    }

    /// What has started before this version's instances do: for all functions of a tenant, and of no other, since forks
    /// share the layout of its memory.
    fn interpreter(&self, version: &FunctionVersion, code: &Path) -> Option<Interpreter> {
        let ahead = self.ahead.as_ref()?;
        // Layers would cover what one that has started already sees of `/opt`; a fork sees what its own spec says.
        if version.layers().is_some() && *ahead == Ahead::Itself {
            return None;
        }
        if let Ahead::Forked(script) = ahead
            && version.scaling.preload
        {
            return self.preloaded(version, code, script);
        }
        let at_start = |name: &str| READ_AT_START.iter().any(|read| name.starts_with(read));
        if version.env.keys().any(|name| name != READ_LATER && at_start(name)) {
            return None;
        }
        let mut env = environment::of_interpreter(&self.env);
        let support = |dir: &PathBuf| Mount { source: dir.clone(), target: RUNTIME_DIR.into() };
        let mut mounts: Vec<_> = self.support.iter().map(support).collect();
        let (becomes, argv, limits) = match ahead {
            // An instance of several processes makes them itself.
            Ahead::Forked(_) if version.scaling.concurrency_per_instance > 1 => return None,
            Ahead::Forked(script) => {
                mounts.push(Mount { source: script.clone(), target: ZYGOTE_DIR.into() });
                let mut argv = vec![self.argv.first()?.clone(), format!("{ZYGOTE_DIR}/{ZYGOTE_FILE}")];
                argv.extend(PRELOADED.map(str::to_owned));
                // What a fork would have to look up again and again is looked up once. No code sees this variable.
                env.push(("LD_BIND_NOW".into(), "1".into()));
                (Becomes::Forked, argv, WAITING)
            }
            Ahead::Itself => {
                env.push((AHEAD.0.into(), AHEAD.1.into()));
                let processes = version.limits.processes;
                (Becomes::Itself, self.argv.clone(), Limits { processes, open_files: OPEN_FILES, ..WAITING })
            }
        };
        Some(Interpreter { family: version.tenant.to_string(), becomes, argv, env, mounts, limits })
    }

    /// The interpreter that has imported this version's module: its own environment holds from the start on, and so do its
    /// limits.
    fn preloaded(&self, version: &FunctionVersion, code: &Path, script: &Path) -> Option<Interpreter> {
        let handler = version.handler.as_deref().unwrap_or_default();
        let mut argv = vec![self.argv.first()?.clone(), format!("{ZYGOTE_DIR}/{ZYGOTE_FILE}")];
        argv.extend(PRELOADED.map(str::to_owned));
        let client = format!("{RUNTIME_DIR}/awslambdaric/__main__.py");
        argv.extend(["--code".into(), TASK_ROOT.into(), module(handler)?, client, handler.into()]);
        let mut mounts = vec![
            Mount { source: code.to_owned(), target: TASK_ROOT.into() },
            Mount { source: script.to_owned(), target: ZYGOTE_DIR.into() },
        ];
        mounts
            .extend(self.support.iter().map(|dir| Mount { source: dir.clone(), target: RUNTIME_DIR.into() }));
        let own = limits(&version.limits);
        Some(Interpreter {
            family: format!("{} {}", version.tenant, version.key()),
            becomes: Becomes::Forked,
            argv,
            env: environment::of(version, "preload", &self.env),
            mounts,
            // Those on their way into a fork's sandbox are not the function's.
            limits: Limits { processes: own.processes.saturating_add(WAITING.processes), ..own },
        })
    }
}

/// The module of a handler, as AWS' client finds it.
fn module(handler: &str) -> Option<String> {
    handler.rsplit_once('.').map(|(module, _)| module.replace('/', "."))
}

/// The sandbox' limits that follow from a function's.
#[must_use]
pub fn limits(limits: &rouse_types::Limits) -> Limits {
    let share = u64::from(limits.memory_mib) * 1_000 / MIB_PER_CORE;
    Limits {
        memory_bytes: u64::from(limits.memory_mib) << 20,
        cpu_millis: u32::try_from(share).unwrap_or(u32::MAX).max(CPU_MILLIS_MIN),
        processes: limits.processes,
        tmp_bytes: u64::from(limits.tmp_mib) << 20,
        open_files: OPEN_FILES,
    }
}

/// How to launch this runtime here. Looks at files and, once for each `node`, runs `node --version`: it may block
/// for some 50 ms.
///
/// # Errors
/// [`Code::RuntimeMissing`]: which interpreters are there, and the next step.
pub fn available(runtime: &Runtime, state: &Path) -> Result<Launch, Refusal> {
    match runtime {
        Runtime::Component => Err(Refusal::new(
            Code::RuntimeMissing,
            "a component runs in the gateway, not in a sandbox of its own",
        )),
        Runtime::Image => Err(Refusal::new(
            Code::RuntimeMissing,
            "an image brings its own runtime, which none of this host replaces",
        )),
        Runtime::Provided => Ok(Launch {
            argv: vec![format!("{TASK_ROOT}/{BOOTSTRAP}")],
            appends_handler: false,
            env: Vec::new(),
            support: None,
            ahead: None,
            image: None,
        }),
        Runtime::Python { minor } => python(*minor, state),
        Runtime::Node { major } => node(*major, state),
    }
}

/// Puts our client for Node.js and our script for Python in their places below `<state>/runtimes/`. The node does it
/// once, at its start.
///
/// # Errors
/// What the file system says.
pub fn install_clients(state: &Path) -> std::io::Result<()> {
    install(&state.join("runtimes/nodejs"), NODE_CLIENT_FILE, NODE_CLIENT)?;
    install(&state.join(ZYGOTE_FOLDER), ZYGOTE_FILE, ZYGOTE)
}

fn install(dir: &Path, name: &str, content: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(name);
    if std::fs::read(&path).is_ok_and(|found| found == content.as_bytes()) {
        return Ok(());
    }
    // Renamed into place: a sandbox that starts now sees the old one or the new one.
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, content)?;
    std::fs::rename(new, path)
}

fn python(minor: u8, state: &Path) -> Result<Launch, Refusal> {
    let (name, interpreter) = (format!("python3.{minor}"), interpreter::python(minor)?);
    let support = state.join("runtimes").join(&name);
    if !support.join("awslambdaric/__main__.py").is_file() {
        return Err(Refusal::new(
            Code::RuntimeMissing,
            format!("{name} is on this host, but not the Lambda runtime interface client for it"),
        )
        .hint(format!("run `rouse runtime install {name}`")));
    }
    Ok(Launch {
        argv: vec![interpreter, "-m".into(), "awslambdaric".into()],
        appends_handler: true,
        env: vec![
            // The function's own modules come first, as on AWS.
            (
                "PYTHONPATH".into(),
                format!("{TASK_ROOT}:{LAYERS}/python/lib/{name}/site-packages:{LAYERS}/python:{RUNTIME_DIR}"),
            ),
            // The code's folder is read-only: writing bytecode would fail, file by file.
            ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
        ],
        support: Some(support),
        // Where it was not put, interpreters are started each time.
        ahead: Some(state.join(ZYGOTE_FOLDER))
            .filter(|folder| folder.join(ZYGOTE_FILE).is_file())
            .map(Ahead::Forked),
        image: None,
    })
}

fn node(major: u8, state: &Path) -> Result<Launch, Refusal> {
    let interpreter = interpreter::node(major)?;
    Ok(Launch {
        argv: vec![interpreter, format!("{RUNTIME_DIR}/{NODE_CLIENT_FILE}")],
        appends_handler: false,
        env: vec![(
            "NODE_PATH".into(),
            format!(
                "{LAYERS}/nodejs/node{major}/node_modules:{LAYERS}/nodejs/node_modules:{TASK_ROOT}/node_modules"
            ),
        )],
        support: Some(state.join("runtimes/nodejs")),
        ahead: Some(Ahead::Itself),
        image: None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use rouse_types::{Digest, Isolation, Scaling};

    use super::*;

    pub(crate) fn version(runtime: &str) -> FunctionVersion {
        FunctionVersion {
            tenant: "acme".parse().expect("a tenant"),
            app: "shop".parse().expect("an app"),
            function: "thumbnail".parse().expect("a function"),
            number: 3,
            digest: Digest::of(b"version"),
            code: Digest::of(b"code"),
            image: None,
            runtime: runtime.parse().expect("a runtime"),
            contract: rouse_types::Contract::Lambda,
            http: rouse_types::HttpSettings::default(),
            handler: Some("app.handler".into()),
            isolation: Isolation::Container,
            env: std::collections::BTreeMap::new(),
            secrets: Default::default(),
            limits: rouse_types::Limits::default(),
            scaling: Scaling::default(),
            egress: rouse_types::Egress::default(),
            invoke: rouse_types::InvokePolicy::default(),
            triggers: Vec::new(),
            events: rouse_types::EventSettings::default(),
            lambda: None,
        }
    }

    #[test]
    fn cpu_is_in_proportion_to_memory_with_a_floor() {
        let of = |memory_mib| limits(&rouse_types::Limits { memory_mib, ..Default::default() }).cpu_millis;
        assert_eq!(of(128), 500);
        assert_eq!(of(1_769), 1_000);
        assert_eq!(of(3_538), 2_000);
    }

    #[test]
    fn a_bootstrap_is_launched_from_the_code() {
        let launch = available(&Runtime::Provided, Path::new("/state")).expect("always there");
        let spec = launch.spec(&version("provided"), Path::new("/state/code/ab"), "i1");
        assert_eq!(spec.argv, ["/var/task/bootstrap"]);
        assert_eq!(spec.mounts.len(), 1);
        assert_eq!(spec.listeners, [RUNTIME_API.parse().expect("an address")]);
    }

    #[test]
    fn a_version_that_is_not_there_is_refused_with_the_next_step() {
        let refusal = available(&Runtime::Python { minor: 99 }, Path::new("/state")).expect_err("no such");
        assert_eq!(refusal.code, Code::RuntimeMissing);
        assert!(refusal.message.starts_with("python3.99 is not on this host"), "{refusal:?}");
        let refusal = available(&Runtime::Node { major: 99 }, Path::new("/state")).expect_err("no such");
        assert!(refusal.hint.is_some());
    }

    #[test]
    fn an_interpreter_without_its_client_says_how_to_install_it() {
        let Some(minor) = (0..30).find(|minor| interpreter::find(&format!("python3.{minor}")).is_some())
        else {
            eprintln_skipped(
                "an_interpreter_without_its_client_says_how_to_install_it",
                "no python3 in /usr",
            );
            return;
        };
        let state = tempfile::tempdir().expect("a folder");
        let refusal = available(&Runtime::Python { minor }, state.path()).expect_err("not installed");
        assert_eq!(refusal.hint, Some(format!("run `rouse runtime install python3.{minor}`")));
        let client = state.path().join(format!("runtimes/python3.{minor}/awslambdaric"));
        std::fs::create_dir_all(&client).expect("a folder");
        std::fs::write(client.join("__main__.py"), "").expect("a file");
        let launch = available(&Runtime::Python { minor }, state.path()).expect("installed");
        let spec = launch.spec(&version("python3.11"), Path::new("/code"), "i1");
        assert_eq!(spec.argv[1..], ["-m", "awslambdaric", "app.handler"]);
        assert_eq!(spec.interpreter, None, "its script is not installed");
        install_clients(state.path()).expect("installed");
        let launch = available(&Runtime::Python { minor }, state.path()).expect("installed");
        let zygote = |version: &FunctionVersion| launch.spec(version, Path::new("/code"), "i1").interpreter;
        let mut version = version("python3.11");
        let of_acme = zygote(&version).expect("a zygote");
        version.function = "another".parse().expect("a function");
        assert_eq!(zygote(&version), Some(of_acme.clone()), "one for all functions of a tenant");
        version.tenant = "other".parse().expect("a tenant");
        assert_ne!(zygote(&version), Some(of_acme), "and none for two tenants");
        version.env.insert("PYTHONHASHSEED".into(), "0".into());
        assert_eq!(zygote(&version), None, "what is read at the start cannot be changed in a fork");
        version.handler = Some("src/api/app.handler".into());
        version.scaling.preload = true;
        let of_version = zygote(&version).expect("its own has it from the start on");
        assert!(of_version.env.contains(&("PYTHONHASHSEED".into(), "0".into())));
        assert!(of_version.argv.ends_with(&[
            "src.api.app".into(),
            "/opt/rouse/runtime/awslambdaric/__main__.py".into(),
            "src/api/app.handler".into()
        ]));
        assert_eq!(of_version.limits.memory_bytes, u64::from(version.limits.memory_mib) << 20);
        version.number += 1;
        assert_ne!(zygote(&version), Some(of_version), "one for each version");
    }

    #[expect(clippy::print_stderr, reason = "a skipped test is reported")]
    fn eprintln_skipped(test: &str, reason: &str) {
        eprintln!("SKIPPED {test}: {reason}");
    }
}
