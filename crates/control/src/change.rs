//! Changes of what is live: deploy, rollback, alias, delete. Each is one transaction of the store; then the
//! app's snapshot is written, and the other processes are told.
//!
//! ```text
//!   lock the app ─▶ read ─▶ plan ─▶ commit ─▶ snapshot ─▶ notify
//!                    ▲────── conflict ──┘   a crash here is put right by `snapshot::reconcile`
//! ```

use std::collections::{BTreeMap, BTreeSet};

use rouse_api::{AliasAnswer, DeleteAnswer, DeployRequest, RollbackAnswer};
use rouse_types::{
    Alias, AliasName, AppName, Code, Domain, FunctionName, LIVE, Refusal, TenantId, app::ALIAS_VERSIONS_MAX,
};

use crate::{
    check,
    control::Control,
    plan::{self, Plan, View},
    snapshot,
    state::{self, App, At, Claim, Committed, Deployment, Function},
};

/// Deployments of one app that are kept: what one can go back to.
pub(crate) const DEPLOYMENTS_KEPT: usize = 10;

/// Aliases of one function: bounds its record, and the versions that a snapshot holds.
const ALIASES_MAX: usize = 100;

fn no_app(app: &AppName) -> Refusal {
    Refusal::new(Code::AppNotFound, format!("there is no app '{app}'"))
        .hint("`rouse list` shows what is deployed")
}

pub(crate) fn no_function(function: &FunctionName) -> Refusal {
    Refusal::new(Code::FunctionNotFound, format!("there is no function '{function}'"))
        .hint("`rouse list` shows what is deployed")
}

/// What a change of an app looks at besides what the app has.
#[derive(Debug, Default)]
struct Wants {
    functions: BTreeSet<FunctionName>,
    domains: BTreeSet<Domain>,
}

impl Control {
    /// Makes a deployment of code that is in its place. Gives it with what should be known.
    pub(crate) async fn put_live(
        &self,
        tenant: &TenantId,
        app: &AppName,
        request: &DeployRequest,
    ) -> Result<(Deployment, Vec<String>), Refusal> {
        let names = || Wants {
            functions: request.functions.iter().map(|function| function.name.clone()).collect(),
            domains: request.functions.iter().flat_map(|function| function.domains.clone()).collect(),
        };
        let now = self.config.clock.now();
        let planned =
            self.apply(tenant, app, names, |view, slots| plan::deploy(view, request, now, slots)).await?;
        let deployment = planned.0.ok_or_else(|| no_app(app))?;
        self.prune(tenant, app, deployment.number).await;
        Ok((deployment, planned.1))
    }

    /// Goes back to an earlier deployment.
    pub(crate) async fn rollback(
        &self,
        tenant: &TenantId,
        app: &AppName,
        to: Option<u64>,
    ) -> Result<RollbackAnswer, Refusal> {
        let _lock = self.lock(tenant, app).await;
        for _ in 0..state::ATTEMPTS_MAX {
            // What another node has made live counts.
            self.records.catch_up().await.map_err(|error| state::refusal(&error))?;
            let record = self.app(tenant, app).await?;
            let to = self.before(tenant, app, record.value.live.unwrap_or_default(), to).await?;
            let names = || Wants {
                functions: to.functions.iter().map(|each| each.function.clone()).collect(),
                domains: to.functions.iter().flat_map(|each| each.domains.clone()).collect(),
            };
            let planned = self
                .apply(tenant, app, names, |view, slots| match view.record.as_ref().map(|at| at.revision) {
                    // Which one to go back to was found before: another node was faster.
                    found if found != Some(record.revision) => Ok(Plan::default()),
                    _ => plan::rollback(view, &to, slots),
                })
                .await?;
            if let (Some(deployment), warnings) = planned {
                let deployment = self.told(tenant, app, deployment, true);
                return Ok(RollbackAnswer { deployment, warnings });
            }
        }
        Err(state::contended())
    }

    /// The deployment of this number, or the one before the live one.
    async fn before(
        &self,
        tenant: &TenantId,
        app: &AppName,
        live: u64,
        to: Option<u64>,
    ) -> Result<Deployment, Refusal> {
        let deployments = self.deployments(tenant, app).await?;
        let found = match to {
            Some(number) => deployments.into_iter().find(|at| at.value.number == number).ok_or_else(|| {
                Refusal::new(Code::VersionNotFound, format!("deployment {number} of app '{app}' is not kept"))
                    .hint("GET …/apps/{app} lists those that are")
            }),
            None => deployments.into_iter().rev().find(|at| at.value.number < live).ok_or_else(|| {
                Refusal::new(
                    Code::NothingToRollBack,
                    format!("app '{app}' has no deployment before {live} that is kept"),
                )
            }),
        };
        Ok(found?.value)
    }

    /// Deletes an app.
    pub(crate) async fn delete_app(&self, tenant: &TenantId, app: &AppName) -> Result<DeleteAnswer, Refusal> {
        let _lock = self.lock(tenant, app).await;
        let record = self.app(tenant, app).await?;
        let deployments: Vec<u64> =
            self.deployments(tenant, app).await?.into_iter().map(|at| at.value.number).collect();
        let (_, warnings) = self
            .apply(tenant, app, Wants::default, |view, slots| plan::delete(view, &deployments, slots))
            .await?;
        for function in &record.value.functions {
            // Deleted it is whatever becomes of this; the next function of its name sets its own.
            if let Err(refusal) = self.put_share(tenant, function, None).await {
                tracing::warn!(%tenant, %function, %refusal, "what a deleted function reserved is still set aside");
            }
        }
        Ok(DeleteAnswer { functions: record.value.functions, warnings })
    }

    /// Sets an alias.
    pub(crate) async fn put_alias(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        name: AliasName,
        alias: Alias,
    ) -> Result<AliasAnswer, Refusal> {
        check_alias(&name, &alias)?;
        let put = |record: &mut Function| {
            for share in &alias.versions {
                if !record.versions.contains_key(&share.version) {
                    return Err(Refusal::new(
                        Code::VersionNotFound,
                        format!("function '{function}' has no version {} that is kept", share.version),
                    )
                    .hint(format!("`rouse versions {function}` shows which there are")));
                }
            }
            if record.aliases.len() >= ALIASES_MAX && !record.aliases.contains_key(&name) {
                return Err(Refusal::new(
                    Code::BadRequest,
                    format!("function '{function}' has {ALIASES_MAX} aliases already"),
                )
                .hint("delete one that is no longer needed"));
            }
            record.aliases.insert(name.clone(), alias.clone());
            Ok(())
        };
        let warnings = self.change_function(tenant, function, put).await?;
        Ok(AliasAnswer { name, alias, warnings })
    }

    /// Deletes an alias.
    pub(crate) async fn delete_alias(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        name: &AliasName,
    ) -> Result<DeleteAnswer, Refusal> {
        if name.as_str() == LIVE {
            return Err(Refusal::new(Code::BadRequest, "the alias 'live' cannot be deleted")
                .hint("`rouse delete` takes the whole app away"));
        }
        let remove = |record: &mut Function| {
            record.aliases.remove(name).map(drop).ok_or_else(|| no_alias(function, name))
        };
        let warnings = self.change_function(tenant, function, remove).await?;
        Ok(DeleteAnswer { functions: Vec::new(), warnings })
    }

    /// Changes one function's record, and what is live with it.
    async fn change_function(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        change: impl Fn(&mut Function) -> Result<(), Refusal>,
    ) -> Result<Vec<String>, Refusal> {
        for _ in 0..state::ATTEMPTS_MAX {
            let app =
                self.function(tenant, function).await?.value.app.ok_or_else(|| no_function(function))?;
            let _lock = self.lock(tenant, &app).await;
            let mut at = self.function(tenant, function).await?;
            let mut record = self.app(tenant, &app).await?;
            if at.value.app.as_ref() != Some(&app) {
                continue;
            }
            change(&mut at.value)?;
            record.value.revision += 1;
            let (expect_function, expect_app) =
                (state::unchanged(Some(&at)), state::unchanged(Some(&record)));
            let writes = vec![
                state::put(state::FUNCTIONS, at.key, &at.value, expect_function)?,
                state::put(state::APPS, record.key, &record.value, expect_app)?,
            ];
            match state::commit(&self.records, writes).await? {
                Committed::Done => return self.in_force(tenant, &app).await,
                Committed::Conflict => {}
            }
        }
        Err(state::contended())
    }

    /// Plans and commits until no one was faster, then puts it in force; a plan that writes nothing is the end of it. The
    /// caller holds the app's lock.
    async fn apply(
        &self,
        tenant: &TenantId,
        app: &AppName,
        wanted: impl Fn() -> Wants,
        plan: impl Fn(&View, &mut crate::slots::Slots) -> Result<Plan, Refusal>,
    ) -> Result<(Option<Deployment>, Vec<String>), Refusal> {
        for _ in 0..state::ATTEMPTS_MAX {
            let slots = self.agree_on_slots().await?;
            let view = self.view(tenant, app, wanted()).await?;
            let Plan { mut writes, taken, freed, deployment } = plan(&view, &mut self.slots())?;
            if writes.is_empty() {
                return Ok((None, Vec::new()));
            }
            writes.extend(slots);
            match state::commit(&self.records, writes).await {
                Ok(Committed::Done) => {
                    let warnings = self.in_force(tenant, app).await;
                    // Whatever became of the rest, the records no longer have these.
                    self.slots().give(freed);
                    return Ok((deployment, warnings?));
                }
                Ok(Committed::Conflict) => self.slots().give(taken),
                Err(refusal) => {
                    self.slots().give(taken);
                    return Err(refusal);
                }
            }
        }
        Err(state::contended())
    }

    async fn view(
        &self,
        tenant: &TenantId,
        app: &AppName,
        Wants { functions: mut names, domains: mut wanted }: Wants,
    ) -> Result<View, Refusal> {
        let record = state::get::<App>(&self.records, state::APPS, &state::app_key(tenant, app)).await?;
        names.extend(record.iter().flat_map(|at| at.value.functions.iter().cloned()));
        let mut functions = BTreeMap::new();
        for name in names {
            let key = state::function_key(tenant, &name);
            functions.insert(name, state::get::<Function>(&self.records, state::FUNCTIONS, &key).await?);
        }
        wanted.extend(record.iter().flat_map(|at| at.value.domains.keys().cloned()));
        let mut domains = BTreeMap::new();
        for domain in wanted {
            let claim = state::get::<Claim>(&self.records, state::DOMAINS, domain.as_str()).await?;
            domains.insert(domain, claim);
        }
        Ok(View { tenant: tenant.clone(), app: app.clone(), record, functions, domains })
    }

    /// What was committed becomes what answers. The commit stands even if this fails: the next start, or the
    /// next change, puts it right.
    async fn in_force(&self, tenant: &TenantId, app: &AppName) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        let placed = async {
            self.obtain(tenant, app).await?;
            snapshot::write(&self.records, &self.locks, &self.config.state, tenant, app).await
        };
        if let Err(refusal) = placed.await {
            tracing::error!(%tenant, %app, %refusal, "a change is committed but not in force");
            warnings.push(format!("the change is kept, but not in force yet: {refusal}"));
            self.reconcile.notify_one();
        }
        warnings.extend(self.peers.notify(tenant, app).await);
        self.domains.notify_one();
        Ok(warnings)
    }

    /// Forgets the oldest deployments. What only they needed is collected later.
    async fn prune(&self, tenant: &TenantId, app: &AppName, live: u64) {
        let Ok(deployments) = self.deployments(tenant, app).await else { return };
        let surplus = deployments.len().saturating_sub(DEPLOYMENTS_KEPT);
        let old = deployments.into_iter().take(surplus).filter(|at| at.value.number != live);
        let writes: Vec<_> = old
            .map(|at| {
                let expect = state::unchanged(Some(&at));
                state::delete(state::DEPLOYMENTS, at.key, expect)
            })
            .collect();
        if !writes.is_empty()
            && let Err(refusal) = state::commit(&self.records, writes).await
        {
            tracing::warn!(%tenant, %app, %refusal, "old deployments are still kept");
        }
    }

    /// One app at a time.
    pub(crate) async fn lock(&self, tenant: &TenantId, app: &AppName) -> tokio::sync::OwnedMutexGuard<()> {
        self.locks.hold(format!("app {tenant}/{app}")).await
    }

    /// An app that was not deleted.
    pub(crate) async fn app(&self, tenant: &TenantId, app: &AppName) -> Result<At<App>, Refusal> {
        let record = state::get::<App>(&self.records, state::APPS, &state::app_key(tenant, app)).await?;
        record.filter(|at| at.value.live.is_some()).ok_or_else(|| no_app(app))
    }

    /// A function that an app has.
    pub(crate) async fn function(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
    ) -> Result<At<Function>, Refusal> {
        let key = state::function_key(tenant, function);
        let record = state::get::<Function>(&self.records, state::FUNCTIONS, &key).await?;
        record.filter(|at| at.value.app.is_some()).ok_or_else(|| no_function(function))
    }

    /// The deployments of an app that are kept, oldest first.
    pub(crate) async fn deployments(
        &self,
        tenant: &TenantId,
        app: &AppName,
    ) -> Result<Vec<At<Deployment>>, Refusal> {
        let prefix = format!("{}/", state::app_key(tenant, app));
        state::scan(&self.records, state::DEPLOYMENTS, &prefix).await
    }
}

pub(crate) fn no_alias(function: &FunctionName, alias: &AliasName) -> Refusal {
    Refusal::new(Code::AliasNotFound, format!("function '{function}' has no alias '{alias}'"))
        .hint("`rouse alias list` shows which there are")
}

fn check_alias(name: &AliasName, alias: &Alias) -> Result<(), Refusal> {
    let refuse = |what: String| Refusal::new(Code::BadRequest, what);
    if !check::alias_allowed(name.as_str()) {
        return Err(refuse(format!("'{name}' is a version's number, not an alias"))
            .hint("begin the alias with a letter"));
    }
    let count = alias.versions.len();
    if count == 0 || count > ALIAS_VERSIONS_MAX {
        return Err(refuse(format!(
            "the alias '{name}' names {count} versions; 1 to {ALIAS_VERSIONS_MAX} are allowed"
        )));
    }
    let distinct: BTreeSet<_> = alias.versions.iter().map(|share| share.version).collect();
    if distinct.len() != count {
        return Err(refuse(format!("the alias '{name}' names a version twice")));
    }
    if alias.versions.iter().all(|share| share.weight == 0) {
        return Err(refuse(format!("the alias '{name}' has no weight above 0, so no version would answer")));
    }
    Ok(())
}
