//! What is live of the app that is worked on, and how an edit gets there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};

use rouse_api::{Client, DeployRequest, Deployment};
use rouse_manifest::Function;
use rouse_types::{Contract, FunctionName, Runtime, TenantId};

use super::watch;
use crate::cli::{
    app::App,
    build, out, report,
    resolve::Resolver,
    runtimes::Support,
    ship::{self, Package},
    style::Style,
    units,
};

/// One app while it is worked on.
#[derive(Debug)]
pub(super) struct Session {
    folder: PathBuf,
    state: PathBuf,
    client: Client,
    tenant: TenantId,
    resolver: Resolver,
    /// What each function was when it last went live: what did not change is not built again.
    live: BTreeMap<FunctionName, (Function, Package)>,
    /// What was edited and is not live yet: an edit that failed is not forgotten by the next.
    pending: BTreeSet<PathBuf>,
}

impl Session {
    pub(super) fn new(
        folder: PathBuf,
        state: PathBuf,
        client: Client,
        tenant: TenantId,
        resolver: Resolver,
    ) -> Self {
        Self { folder, state, client, tenant, resolver, live: BTreeMap::new(), pending: BTreeSet::new() }
    }

    /// Puts everything live for the first time.
    pub(super) async fn begin(&mut self) {
        self.put_live().await;
    }

    /// Puts an edit live. What goes wrong is shown; what was live stays so.
    pub(super) async fn edited(&mut self, changed: BTreeSet<PathBuf>) {
        self.pending.extend(changed);
        self.put_live().await;
    }

    async fn put_live(&mut self) {
        let began = Instant::now();
        let first = self.live.is_empty();
        match self.try_put_live().await {
            Ok(Some(deployment)) => show(&deployment, began, first),
            Ok(None) => {}
            Err(error) => {
                let style = Style::stderr();
                if let Some(text) = report::render(&error, style) {
                    out::note(text.trim_end());
                }
                if !first {
                    out::note(&style.dim("what was live before answers on"));
                }
            }
        }
    }

    /// Brings what is on disk live; nothing when it is already.
    async fn try_put_live(&mut self) -> anyhow::Result<Option<Deployment>> {
        let app = App::load(&self.folder)?;
        self.install_runtimes(&app).await?;
        let mut functions = Vec::new();
        let mut next = BTreeMap::new();
        let mut differs = self.live.is_empty() || self.live.len() != app.manifest.functions.len();
        for (name, function) in &app.manifest.functions {
            let known = self.live.get(name).filter(|(before, _)| before == function);
            let package = match known {
                Some((_, package)) if !touches(&app, function, &self.pending) => package.clone(),
                _ => {
                    let package = ship::package(&app, name, function, &self.resolver).await?;
                    // Saved without a change, or a change of what is not packed: nothing to put live.
                    if known.is_none_or(|(_, before)| before.function != package.function) {
                        differs = true;
                        ship::upload(&self.client, &package).await?;
                    }
                    package
                }
            };
            functions.push(package.function.clone());
            next.insert(name.clone(), (function.clone(), package));
        }
        let mut deployment = None;
        if differs {
            let request = DeployRequest { functions, message: Some("rouse dev".to_owned()) };
            let app = &app.manifest.app.name;
            deployment = Some(ship::put_live(&self.client, &self.tenant, app, &request).await?);
        }
        self.live = next;
        self.pending.clear();
        Ok(deployment)
    }

    async fn install_runtimes(&self, app: &App) -> anyhow::Result<()> {
        for function in app.manifest.functions.values() {
            if let Some(support) = support(app, function) {
                support.install(&self.state).await?;
            }
        }
        Ok(())
    }
}

/// What a function needs installed, as far as it is known before its build.
fn support(app: &App, function: &Function) -> Option<Support> {
    let source = app.source(function).ok()?;
    let runtime = match &function.runtime {
        Some(runtime) => runtime.clone(),
        None => build::runtime_of(&source).ok()?,
    };
    if function.contract == Some(Contract::Http) {
        let brought = ["functions_framework", "node_modules/@google-cloud/functions-framework"];
        let needed = function.command.is_empty() && !brought.iter().any(|path| source.join(path).exists());
        let known = matches!(runtime, Runtime::Python { .. } | Runtime::Node { .. });
        return (needed && known).then_some(Support::Framework(runtime));
    }
    match runtime {
        Runtime::Python { minor } => Some(Support::Python(minor)),
        Runtime::Component | Runtime::Node { .. } | Runtime::Provided | Runtime::Image => None,
    }
}

/// Whether one of these paths is what a function is made from.
fn touches(app: &App, function: &Function, changed: &BTreeSet<PathBuf>) -> bool {
    // What is pulled does not change with our files; asking the registry again is a restart away.
    if let Some(image) = &function.image {
        let path = image.split_once(":./").map(|(_, path)| app.folder.join(path));
        return path.is_some_and(|path| changed.iter().any(|changed| changed.starts_with(&path)));
    }
    // A source that is gone cannot be told; building it tells why.
    let Ok(source) = app.source(function) else { return true };
    let Some(build) = &function.build else {
        return changed.iter().any(|path| path.starts_with(&source));
    };
    let folder = build::workdir(&source);
    // What the build writes would build again, without end.
    let output = build.output.as_ref().map(|output| folder.join(output));
    let ours = |path: &&PathBuf| output.as_ref().is_none_or(|output| !path.starts_with(output));
    let watched = |path: &PathBuf| match build.watch.as_slice() {
        [] => path.strip_prefix(&folder).is_ok_and(|path| !watch::is_build_output(path)),
        watch => watch.iter().any(|watched| path.starts_with(folder.join(watched))),
    };
    changed.iter().filter(ours).any(watched)
}

fn show(deployment: &Deployment, began: Instant, first: bool) {
    let style = Style::stderr();
    let took = units::micros(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    for function in deployment.functions.iter().filter(|function| first || function.changed) {
        out::note(&format!(
            "{} {} {} {}",
            style.green("live"),
            style.bold(&format!("{}@{}", function.function, function.version)),
            function.url,
            style.dim(&took),
        ));
    }
}

#[cfg(test)]
#[path = "../../../tests/cli/fake.rs"]
mod fake;

#[cfg(test)]
mod tests {
    use super::{
        fake::{Fake, TOKEN},
        *,
    };

    const DEPLOY: &str = "POST /v1/tenants/default/apps/shop/deployments";
    const APP: &str =
        "[app]\nname = \"shop\"\n[functions.hello]\nsource = \"hello\"\nruntime = \"nodejs20\"\n";

    struct Dev {
        folder: tempfile::TempDir,
        fake: Fake,
        session: Session,
    }

    impl Dev {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let fake = Fake::start();
            let client = Client::new(&fake.url, Some(TOKEN.to_owned())).expect("a client");
            let root = folder.path().canonicalize().expect("a path");
            let state = root.join("state");
            let resolver = Resolver::in_folder(root.join("cache"), &state);
            let session =
                Session::new(root, state, client, TenantId::new("default").expect("a name"), resolver);
            let dev = Self { folder, fake, session };
            dev.write("rouse.toml", APP);
            dev.write("hello/index.mjs", "1");
            dev
        }

        fn write(&self, name: &str, text: &str) -> BTreeSet<PathBuf> {
            let path = self.session.folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            std::fs::write(&path, text).expect("write");
            BTreeSet::from([path])
        }

        /// What went live so far: the code's digest of each deployment.
        fn deployed(&self) -> usize {
            self.fake.times_asked(DEPLOY)
        }
    }

    #[tokio::test]
    async fn an_edit_goes_live_and_a_save_without_a_change_does_not() {
        let mut dev = Dev::new();
        dev.session.begin().await;
        assert_eq!(dev.deployed(), 1);
        let saved = dev.write("hello/index.mjs", "1");
        dev.session.edited(saved).await;
        let elsewhere = dev.write("notes.txt", "x");
        dev.session.edited(elsewhere).await;
        assert_eq!(dev.deployed(), 1);
        let before = dev.fake.body_of(DEPLOY);
        let edited = dev.write("hello/index.mjs", "2");
        dev.session.edited(edited).await;
        assert_eq!(dev.deployed(), 2);
        assert_ne!(dev.fake.body_of(DEPLOY), before);
    }

    #[tokio::test]
    async fn a_broken_manifest_stops_nothing_and_the_edit_before_its_mending_is_not_lost() {
        let mut dev = Dev::new();
        dev.session.begin().await;
        let broken = dev.write("rouse.toml", "[app");
        dev.session.edited(broken).await;
        let edited = dev.write("hello/index.mjs", "2");
        dev.session.edited(edited).await;
        assert_eq!(dev.deployed(), 1);
        let mended = dev.write("rouse.toml", APP);
        dev.session.edited(mended).await;
        assert_eq!(dev.deployed(), 2);
    }

    #[tokio::test]
    async fn a_setting_that_changes_and_a_function_that_goes_are_put_live() {
        let mut dev = Dev::new();
        let two = format!("{APP}[functions.other]\nsource = \"hello\"\nruntime = \"nodejs20\"\n");
        dev.write("rouse.toml", &two);
        dev.session.begin().await;
        let settings =
            dev.write("rouse.toml", &two.replacen("nodejs20\"", "nodejs20\"\ntimeout = \"3s\"", 1));
        dev.session.edited(settings).await;
        assert_eq!(dev.deployed(), 2);
        let fewer = dev.write("rouse.toml", APP);
        dev.session.edited(fewer).await;
        assert_eq!(dev.deployed(), 3);
    }

    #[tokio::test]
    async fn what_a_build_writes_does_not_build_again() {
        let mut dev = Dev::new();
        let build = "[functions.hello.build]\ncommand = \"echo built >> ../log; cp index.mjs out.mjs\"\noutput = \"out.mjs\"\n";
        dev.write("rouse.toml", &format!("{APP}handler = \"out.handler\"\n{build}"));
        dev.session.begin().await;
        let output = BTreeSet::from([dev.session.folder.join("hello/out.mjs")]);
        dev.session.edited(output).await;
        let edited = dev.write("hello/index.mjs", "2");
        dev.session.edited(edited).await;
        let log = std::fs::read_to_string(dev.folder.path().join("log")).expect("a log");
        assert_eq!(log, "built\nbuilt\n");
        assert_eq!(dev.deployed(), 2);
    }
}
