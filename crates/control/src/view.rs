//! What there is, as the API shows it.

use rouse_api::{AliasAnswer, AppDetail, AppSummary, FunctionSummary, Info, RuntimeInfo, VersionInfo};
use rouse_types::{AliasName, AppName, Code, FunctionName, Refusal, Runtime, TenantId};

use crate::{
    change::no_alias,
    control::Control,
    state::{self, App, At, Function, Version},
};

impl Control {
    /// What this platform is and offers. May block for a moment, since runtimes are looked for.
    pub(crate) async fn info(self: &std::sync::Arc<Self>) -> Result<Info, Refusal> {
        let control = std::sync::Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || control.runtimes()).await;
        let failed = |error| state::io_refusal("look for runtimes", &std::io::Error::other(error));
        Ok(Info {
            version: self.config.version.clone(),
            gateway: self.config.public_url.clone(),
            domain: self.config.domain.clone(),
            runtimes: looked.map_err(failed)?,
            isolations: self.config.isolations.clone(),
        })
    }

    fn runtimes(&self) -> Vec<RuntimeInfo> {
        let look = |runtime: &Runtime| match runtime {
            // It is part of the gateway.
            Runtime::Component => RuntimeInfo { runtime: Runtime::Component, available: true, detail: None },
            other => {
                let refusal = (self.config.runtime_check)(other, &self.config.state).err();
                let detail = refusal.as_ref().map(|refusal| match &refusal.hint {
                    Some(hint) => format!("{}: {hint}", refusal.message),
                    None => refusal.message.clone(),
                });
                RuntimeInfo { runtime: other.clone(), available: refusal.is_none(), detail }
            }
        };
        self.config.runtimes.iter().map(look).collect()
    }

    pub(crate) async fn list_apps(&self, tenant: &TenantId) -> Result<Vec<AppSummary>, Refusal> {
        let apps = state::scan::<App>(&self.records, state::APPS, &format!("{tenant}/")).await?;
        let show = |At { key, value, .. }: At<App>| {
            let (_, app) = crate::snapshot::split(&key)?;
            Some(AppSummary { app, live: value.live?, deployed: value.deployed, functions: value.functions })
        };
        Ok(apps.into_iter().filter_map(show).collect())
    }

    pub(crate) async fn get_app(&self, tenant: &TenantId, name: &AppName) -> Result<AppDetail, Refusal> {
        let App { revision, live, functions: names, .. } = self.app(tenant, name).await?.value;
        let mut functions = Vec::with_capacity(names.len());
        for function in names {
            let record = self.function(tenant, &function).await?.value;
            functions.extend(self.summary(tenant, function, record));
        }
        let deployments = self.deployments(tenant, name).await?.into_iter().rev().map(|at| {
            let is_live = live == Some(at.value.number);
            self.told(tenant, name, at.value, is_live)
        });
        let deployments = deployments.collect();
        Ok(AppDetail { app: name.clone(), revision, live: live.unwrap_or_default(), functions, deployments })
    }

    pub(crate) async fn list_functions(&self, tenant: &TenantId) -> Result<Vec<FunctionSummary>, Refusal> {
        let functions =
            state::scan::<Function>(&self.records, state::FUNCTIONS, &format!("{tenant}/")).await?;
        let show = |At { key, value, .. }: At<Function>| {
            let name = key.split_once('/')?.1.parse().ok()?;
            self.summary(tenant, name, value)
        };
        Ok(functions.into_iter().filter_map(show).collect())
    }

    /// Nothing, if no app has the function.
    fn summary(
        &self,
        tenant: &TenantId,
        function: FunctionName,
        record: Function,
    ) -> Option<FunctionSummary> {
        let head = record.versions.get(&record.latest)?;
        Some(FunctionSummary {
            app: record.app?,
            url: self.url(tenant, &function),
            function,
            runtime: head.runtime.clone(),
            isolation: head.isolation,
            latest: record.latest,
            created: head.created,
            aliases: record.aliases,
        })
    }

    pub(crate) async fn list_versions(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
    ) -> Result<Vec<VersionInfo>, Refusal> {
        let record = self.function(tenant, function).await?.value;
        let prefix = format!("{}/", state::function_key(tenant, function));
        let versions = state::scan::<Version>(&self.records, state::VERSIONS, &prefix).await?;
        let show = |At { value: Version { version, created }, .. }: At<Version>| {
            let names = |name: &&AliasName| {
                record.aliases[*name].versions.iter().any(|share| share.version == version.number)
            };
            let aliases = record.aliases.keys().filter(names).cloned().collect();
            VersionInfo { version, created, aliases }
        };
        Ok(versions.into_iter().rev().map(show).collect())
    }

    pub(crate) async fn get_alias(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        name: AliasName,
    ) -> Result<AliasAnswer, Refusal> {
        let mut record = self.function(tenant, function).await?.value;
        let alias = record.aliases.remove(&name).ok_or_else(|| no_alias(function, &name))?;
        Ok(AliasAnswer { name, alias, warnings: Vec::new() })
    }

    /// Whether deployments and calls can be taken.
    pub(crate) async fn ready(&self) -> Result<(), Refusal> {
        self.records.revision().await.map_err(|error| state::refusal(&error))?;
        if let Some(shared) = &self.shared {
            if self.config.closing.is_cancelled() {
                shared.begin_to_stop();
            }
            shared.away().map_or(Ok(()), Err)?;
        }
        if self.peers.ready().await {
            return Ok(());
        }
        Err(no_gateway())
    }
}

pub(crate) fn no_gateway() -> Refusal {
    Refusal::new(Code::CapacityExhausted, "no gateway of this platform is there at the moment")
        .hint("it is being started; try again")
        .retry_after(std::time::Duration::from_secs(1))
}
