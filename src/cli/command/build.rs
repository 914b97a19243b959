//! `rouse build`: makes what a deployment would upload of each function, into files.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rouse_manifest::Function;
use rouse_types::{Contract, Digest, FunctionName, Runtime};
use serde::Serialize;

use crate::cli::{
    app::App,
    args::{BuildArgs, Global},
    build, oci, out, pack,
    progress::Progress,
    report::hinted,
    resolve::{Installed, Package, Resolver},
    runtimes::Support,
    ship::{self, Payload},
    state,
    style::Style,
    table::Table,
    units,
};

/// Where results go, below the app's folder.
const FOLDER: &str = ".rouse/build";

/// One function's result.
#[derive(Debug, Serialize)]
struct Made {
    function: FunctionName,
    runtime: Runtime,
    file: PathBuf,
    digest: Digest,
    bytes: u64,
    dependencies: Vec<Package>,
    /// The dependencies had been resolved before.
    cached: bool,
}

pub(crate) async fn run(global: &Global, args: &BuildArgs) -> anyhow::Result<()> {
    let app = App::load(&args.dir)?;
    let chosen = chosen(&app, &args.functions)?;
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => app.folder.join(FOLDER),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    if args.out.is_none() {
        // What is made here can be made again: it does not belong to a history.
        let ignore = app.folder.join(".rouse/.gitignore");
        std::fs::write(&ignore, "*\n").with_context(|| format!("write {}", ignore.display()))?;
    }
    let resolver = Resolver::new(global, &args.resolve);
    let mut all = Vec::new();
    for (name, function) in chosen {
        let mut function = function.clone();
        if let (Some(minor), None | Some(Runtime::Python { .. })) = (args.python, &function.runtime) {
            function.runtime = Some(Runtime::Python { minor });
        }
        all.push(match args.image {
            true => image(global, &app, name, &function, &resolver, &folder).await?,
            false => one(&app, name, &function, &resolver, &folder).await?,
        });
    }
    if global.json {
        return out::json(&all);
    }
    show(&all)
}

/// The functions that were named, or all that have code of their own.
fn chosen<'a>(app: &'a App, names: &[FunctionName]) -> anyhow::Result<Vec<(&'a FunctionName, &'a Function)>> {
    let functions = &app.manifest.functions;
    if let Some(unknown) = names.iter().find(|name| !functions.contains_key(*name)) {
        let known: Vec<_> = functions.keys().map(FunctionName::to_string).collect();
        bail!(hinted(format!("there is no function '{unknown}'"), format!("there is: {}", known.join(", "))));
    }
    let wanted = |name: &FunctionName| names.is_empty() || names.contains(name);
    let chosen: Vec<_> = functions.iter().filter(|(name, _)| wanted(name)).collect();
    if let Some((name, _)) =
        chosen.iter().find(|(name, function)| function.image.is_some() && names.contains(name))
    {
        bail!(hinted(format!("function '{name}' is an image already"), "it is deployed as it is"));
    }
    Ok(chosen.into_iter().filter(|(_, function)| function.image.is_none()).collect())
}

async fn one(
    app: &App,
    name: &FunctionName,
    function: &Function,
    resolver: &Resolver,
    folder: &Path,
) -> anyhow::Result<Made> {
    let (package, dependencies) = ship::code(app, name, function, resolver, Installed::Anew).await?;
    let runtime = package.function.runtime.clone();
    let (Payload::Bytes(bytes), Some(digest)) = (package.code, package.function.code) else {
        bail!("function '{name}' has no code");
    };
    let extension = if runtime == Runtime::Component { "wasm" } else { "zip" };
    let file = folder.join(format!("{name}.{extension}"));
    // Whole or not at all: somebody may upload it this moment.
    let write = || -> anyhow::Result<()> {
        let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
        fresh.write_all(&bytes)?;
        fresh.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        fresh.persist(&file)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", file.display()))?;
    let cached = dependencies.as_ref().is_some_and(|dependencies| dependencies.cached);
    let dependencies = dependencies.map(|dependencies| dependencies.packages).unwrap_or_default();
    let bytes = bytes.len() as u64;
    Ok(Made { function: name.clone(), runtime, file, digest, bytes, dependencies, cached })
}

/// As an image's layout, in a folder of the function's name.
async fn image(
    global: &Global,
    app: &App,
    name: &FunctionName,
    function: &Function,
    resolver: &Resolver,
    folder: &Path,
) -> anyhow::Result<Made> {
    let context = || format!("function '{name}'");
    let built = build::build(app, name, function).await?;
    let runtime = built.runtime.clone();
    if function.contract == Some(Contract::Http) && function.command.is_empty() {
        bail!(hinted(
            format!("function '{name}' is run by the platform's Functions Framework, which is in no image"),
            "say how its server is started: command = [\"/usr/bin/python3.11\", \"main.py\"]",
        ));
    }
    let run = oci::base::run(&runtime, built.handler.as_deref(), &function.command).with_context(context)?;
    if !built.artifact.is_dir() {
        bail!(hinted(
            format!("the code of function '{name}' is no folder"),
            "leave --image out: it is packed already"
        ));
    }
    let dependencies = match function.build {
        None => resolver.dependencies(name, &built.artifact, &runtime, Installed::Anew).await?,
        Some(_) => None,
    };
    let support = match runtime {
        Runtime::Python { minor } => Some(Support::Python(minor).install(&state::folder(global)).await?),
        _ => None,
    };
    let _progress = Progress::spinner(format!("writing the image of {name}"));
    let place = folder.join(name.as_str());
    let files = dependencies.as_ref().map(|dependencies| dependencies.folder.clone());
    let (wanted, to) = (runtime.clone(), folder.to_owned());
    let write = move || -> anyhow::Result<(Digest, u64)> {
        // Whole or not at all.
        let fresh = tempfile::Builder::new().prefix(".new-").tempdir_in(&to)?;
        let (layout, scratch) = (fresh.path().join("layout"), fresh.path().join("scratch"));
        std::fs::create_dir(&layout)?;
        std::fs::create_dir(&scratch)?;
        let mut layers = vec![oci::base::layer(&wanted, support.as_deref(), &scratch)?];
        let task = oci::base::TASK.trim_start_matches('/');
        let code = match files {
            Some(files) => {
                let entries = pack::dependency_entries(&files)?.into_values();
                layers.push(oci::Layer::below("dependencies", task, entries));
                pack::code_entries(&built.artifact)?
            }
            None => pack::entries(&built.artifact, &[])?,
        };
        layers.push(oci::Layer::below("code", task, code));
        let made = oci::write(&layout, &layers, &run)?;
        if place.exists() {
            std::fs::remove_dir_all(&place).with_context(|| format!("replace {}", place.display()))?;
        }
        std::fs::rename(&layout, &place)?;
        Ok(made)
    };
    let made = tokio::task::spawn_blocking(write).await.context("write an image")?;
    let (digest, bytes) = made.with_context(|| format!("write the image of function '{name}'"))?;
    let cached = dependencies.as_ref().is_some_and(|dependencies| dependencies.cached);
    let dependencies = dependencies.map(|dependencies| dependencies.packages).unwrap_or_default();
    let file = folder.join(name.as_str());
    Ok(Made { function: name.clone(), runtime, file, digest, bytes, dependencies, cached })
}

fn show(all: &[Made]) -> anyhow::Result<()> {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    let mut table = Table::new(&["FUNCTION", "RUNTIME", ">SIZE", "DIGEST", "FILE"]);
    for made in all {
        let file = made.file.strip_prefix(&here).unwrap_or(&made.file);
        table.row([
            made.function.to_string(),
            made.runtime.to_string(),
            units::bytes(made.bytes),
            made.digest.to_string(),
            file.display().to_string(),
        ]);
    }
    let style = Style::stdout();
    out::text(&table.render(style))?;
    for made in all.iter().filter(|made| !made.dependencies.is_empty()) {
        let names: Vec<_> = made.dependencies.iter().map(Package::to_string).collect();
        let cached = if made.cached { style.dim(" (resolved before)") } else { String::new() };
        out::text(&format!("{}: {}{cached}\n", made.function, style.foreign(&names.join(", "))))?;
    }
    Ok(())
}
