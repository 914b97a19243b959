//! The layer that runs a function: this machine's interpreter with the libraries that it loads, and nothing else; no
//! shell, no package manager. And the client with which it speaks the Lambda contract.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use rouse_contract::lambda::runtime::NODE_CLIENT;
use rouse_types::Runtime;

use super::{Layer, Run};
use crate::cli::{
    pack::{self, Entry, Kind},
    report::hinted,
};

/// Where the code lies inside, and what it needs to speak the contract: as on AWS.
pub(crate) const TASK: &str = "/var/task";
const RUNTIME: &str = "/var/runtime";
const CLIENT_FILE: &str = "node_client.mjs";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Parts of Python's library that no function imports: its own tests, and what needs a screen or installs it.
const LEFT_OUT: [&str; 7] = ["__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip"];
/// Libraries that wheels and add-ons of Linux may expect to be there (PEP 600, "manylinux"), beside the interpreter's own.
const EXPECTED: [&str; 10] = [
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libutil.so.1",
    "libresolv.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libz.so.1",
];

/// The layer of a runtime. `support` is the folder that `rouse runtime install` made, for Python.
pub(crate) fn layer(runtime: &Runtime, support: Option<&Path>, scratch: &Path) -> anyhow::Result<Layer> {
    let mut entries = BTreeMap::new();
    let program = program(runtime)?;
    let mut binaries = vec![program.clone()];
    file(&mut entries, &program, &program)?;
    match (runtime, support) {
        (Runtime::Python { .. }, Some(support)) => {
            library(&mut entries, &program, &mut binaries)?;
            for entry in pack::dependency_entries(support)?.into_values() {
                entries.insert(format!("{}/{}", &RUNTIME[1..], entry.name), entry);
            }
        }
        _ => {
            let client = scratch.join(CLIENT_FILE);
            fs::write(&client, NODE_CLIENT).context("write the client")?;
            file(&mut entries, &client, &Path::new(RUNTIME).join(CLIENT_FILE))?;
        }
    }
    for library in libraries(&binaries)? {
        file(&mut entries, &library, &library)?;
    }
    if Path::new(CERTIFICATES).is_file() {
        file(&mut entries, Path::new(CERTIFICATES), Path::new(CERTIFICATES))?;
    }
    entries.insert("tmp".into(), Entry { name: "tmp".into(), kind: Kind::Folder, path: PathBuf::new() });
    Ok(Layer { about: "interpreter", entries })
}

/// How a handler, or a server of one's own, is run over that layer.
pub(crate) fn run(runtime: &Runtime, handler: Option<&str>, command: &[String]) -> anyhow::Result<Run> {
    let mut env: Vec<(String, String)> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("SSL_CERT_FILE", CERTIFICATES),
        ("LAMBDA_TASK_ROOT", TASK),
        ("LAMBDA_RUNTIME_DIR", RUNTIME),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let program = program(runtime)?.to_string_lossy().into_owned();
    let entrypoint = match runtime {
        Runtime::Python { .. } => {
            env.push(("PYTHONPATH".into(), format!("{TASK}:{RUNTIME}")));
            env.push(("PYTHONDONTWRITEBYTECODE".into(), "1".into()));
            vec![program, "-m".into(), "awslambdaric".into()]
        }
        _ => {
            env.push(("NODE_PATH".into(), format!("{TASK}/node_modules")));
            vec![program, format!("{RUNTIME}/{CLIENT_FILE}")]
        }
    };
    if !command.is_empty() {
        return Ok(Run { entrypoint: command.to_vec(), cmd: Vec::new(), env, workdir: TASK });
    }
    let handler = handler.context("the handler is unknown")?;
    Ok(Run { entrypoint, cmd: vec![handler.to_owned()], env, workdir: TASK })
}

/// The interpreter, where the platform looks for it.
fn program(runtime: &Runtime) -> anyhow::Result<PathBuf> {
    let name = match runtime {
        Runtime::Python { minor } => format!("python3.{minor}"),
        Runtime::Node { .. } => "node".to_owned(),
        other => bail!(hinted(
            format!("runtime {other} has no form as an image"),
            "leave --image out, or write a Dockerfile and deploy what it makes: docs/guides/images.md",
        )),
    };
    let found = ["/usr/bin", "/usr/local/bin"].map(|folder| Path::new(folder).join(&name));
    let found = found.into_iter().find(|path| path.is_file());
    let found = found.ok_or_else(|| {
        hinted(format!("{name} is not in /usr/bin or /usr/local/bin"), format!("apt-get install {name}"))
    })?;
    if let Runtime::Node { major } = runtime {
        let told = output(Command::new(&found).arg("--version"))?;
        if !told.starts_with(&format!("v{major}.")) {
            bail!(hinted(
                format!("{} is Node.js {}, not {major}", found.display(), told.trim()),
                format!("install Node.js {major}, or set `runtime` to the one that is there"),
            ));
        }
    }
    Ok(found)
}

/// Python's own library, and its parts in machine code.
fn library(
    entries: &mut BTreeMap<String, Entry>,
    program: &Path,
    binaries: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let ask = "import sysconfig; print(sysconfig.get_path('stdlib'))";
    let root = PathBuf::from(output(Command::new(program).args(["-I", "-c", ask]))?.trim());
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let item = item.with_context(|| format!("list {}", folder.display()))?;
            let (path, name) = (item.path(), item.file_name().to_string_lossy().into_owned());
            if LEFT_OUT.contains(&name.as_str()) || name.starts_with("config-3") {
                continue;
            }
            // What a link leads to, at the link's place; none leads back up.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() && !item.file_type().is_ok_and(|kind| kind.is_symlink()) {
                folders.push(path);
            } else if metadata.is_file() {
                if path.extension().is_some_and(|extension| extension == "so") {
                    binaries.push(path.clone());
                }
                file(entries, &path, &path)?;
            }
        }
    }
    Ok(())
}

/// The shared libraries that these load, and those that packages expect.
fn libraries(binaries: &[PathBuf]) -> anyhow::Result<BTreeSet<PathBuf>> {
    let ldd = |paths: &[PathBuf]| -> anyhow::Result<BTreeSet<PathBuf>> {
        // One that is linked statically makes ldd fail; what it says of the others counts.
        let told = Command::new("ldd").args(paths).output().context("run ldd")?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let path = |line: &str| {
            let line = line.split_once("=>").map_or(line, |(_, path)| path).trim();
            let path = line.split_once(" (0x").map(|(path, _)| PathBuf::from(path.trim()))?;
            path.is_absolute().then_some(path)
        };
        Ok(told.lines().filter_map(path).collect())
    };
    let mut found = ldd(binaries)?;
    let folders: BTreeSet<PathBuf> =
        found.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
    let expected = folders.iter().flat_map(|folder| EXPECTED.map(|name| folder.join(name)));
    let expected: Vec<PathBuf> = expected.filter(|path| path.is_file()).collect();
    found.extend(ldd(&expected)?);
    found.extend(expected);
    Ok(found)
}

fn file(entries: &mut BTreeMap<String, Entry>, from: &Path, at: &Path) -> anyhow::Result<()> {
    let real = from.canonicalize().with_context(|| format!("read {}", from.display()))?;
    let metadata = fs::metadata(&real).with_context(|| format!("read {}", real.display()))?;
    let name = at.to_str().context("a path that is not UTF-8")?.trim_start_matches('/').to_owned();
    entries.insert(name.clone(), Entry { name, kind: pack::kind_of(&metadata), path: real });
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let told =
        command.output().with_context(|| format!("run {}", command.get_program().to_string_lossy()))?;
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}
