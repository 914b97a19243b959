//! What a change makes of what is there: from records that were read to the writes of one transaction. Pure,
//! but for the slots, which it takes from whoever holds them.
//!
//! ```text
//!   deploy    new versions, a deployment, `live` of all functions at once; functions not named are let go
//!   rollback  `live` of all functions to what a deployment had
//!   delete    all functions are let go; records stay, for numbers are never reused
//! ```

pub(crate) mod domains;

use std::collections::{BTreeMap, BTreeSet};

use rouse_api::{DeployFunction, DeployRequest};
use rouse_store::records::Write;
use rouse_types::{
    Alias, AliasName, AppName, Code, Digest, Domain, FunctionName, FunctionVersion, LIVE, Refusal, TenantId,
    Timestamp,
};

use crate::{
    slots::Slots,
    state::{self, App, At, Claim, Deployed, Deployment, Function, Version, VersionHead},
};

/// All that a change of one app looks at.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) tenant: TenantId,
    pub(crate) app: AppName,
    pub(crate) record: Option<At<App>>,
    /// The functions that the app has, and those that it shall have; nothing for names that are new.
    pub(crate) functions: BTreeMap<FunctionName, Option<At<Function>>>,
    /// The domains that the app has, and those that it shall have; nothing for those that nobody has.
    pub(crate) domains: BTreeMap<Domain, Option<At<Claim>>>,
}

/// A change, thought through.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One transaction.
    pub(crate) writes: Vec<Write>,
    /// Slots that were taken for it; to be given back if it is not committed.
    pub(crate) taken: Vec<u32>,
    /// Slots that are free once it is in force.
    pub(crate) freed: Vec<u32>,
    /// The deployment that answers then.
    pub(crate) deployment: Option<Deployment>,
}

/// The alias that every function has.
pub(crate) fn live() -> AliasName {
    #[expect(clippy::expect_used, reason = "a constant, and a test uses it")]
    AliasName::new(LIVE).expect("'live' is a name")
}

/// What a function of an app shall be.
struct Wanted<'a> {
    function: &'a FunctionName,
    version: u64,
    domains: &'a [Domain],
    /// Aliases that move to the version.
    aliases: Vec<AliasName>,
    made: Option<(VersionHead, Version)>,
    /// Whether `$LATEST` is this version from now on: a deployment says so, a rollback does not.
    newest: bool,
}

/// Plans a deployment.
///
/// # Errors
/// [`Code::NameTaken`], [`Code::DomainTaken`], or no slot is left.
pub(crate) fn deploy(
    view: &View,
    request: &DeployRequest,
    now: Timestamp,
    slots: &mut Slots,
) -> Result<Plan, Refusal> {
    let app = view.record.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    let mut wanted = Vec::with_capacity(request.functions.len());
    for function in &request.functions {
        let known = view.functions.get(&function.name).and_then(Option::as_ref);
        let mut version = version_of(view, function);
        // What was deployed before, unchanged, is that version still: its instances stay warm.
        let same = known.and_then(|at| {
            let mut kept = at.value.versions.iter();
            kept.find_map(|(&number, head)| (head.digest == version.digest).then_some(number))
        });
        version.number = same.unwrap_or_else(|| known.map_or(1, |at| at.value.next.max(1)));
        let head = VersionHead {
            digest: version.digest,
            code: version.code,
            layers: version.layers(),
            created: now,
            runtime: version.runtime.clone(),
            isolation: version.isolation,
        };
        let mut aliases = function.aliases.clone();
        aliases.push(live());
        wanted.push(Wanted {
            function: &function.name,
            version: version.number,
            domains: &function.domains,
            aliases,
            made: same.is_none().then_some((head, Version { version, created: now })),
            newest: true,
        });
    }
    let changed: BTreeSet<_> =
        wanted.iter().filter(|each| each.made.is_some()).map(|each| each.function.clone()).collect();
    let deployment = Deployment {
        number: app.next.max(1),
        created: now,
        message: request.message.clone(),
        functions: wanted
            .iter()
            .map(|each| Deployed {
                function: each.function.clone(),
                version: each.version,
                changed: changed.contains(each.function),
                domains: each.domains.to_vec(),
            })
            .collect(),
    };
    let app = App { next: deployment.number + 1, deployed: now, ..app };
    let key = state::numbered(&state::app_key(&view.tenant, &view.app), deployment.number);
    let write = state::put(state::DEPLOYMENTS, key, &deployment, rouse_store::records::Expect::Absent)?;
    finish(view, app, Some(deployment), wanted, vec![write], slots)
}

/// Plans the return to a deployment.
///
/// # Errors
/// [`Code::NameTaken`] or [`Code::DomainTaken`] if another app has what is its by now; [`Code::VersionNotFound`].
pub(crate) fn rollback(view: &View, to: &Deployment, slots: &mut Slots) -> Result<Plan, Refusal> {
    let app = view.record.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    let mut wanted = Vec::with_capacity(to.functions.len());
    for Deployed { function, version, domains, .. } in &to.functions {
        let known = view.functions.get(function).and_then(Option::as_ref);
        if !known.is_some_and(|at| at.value.versions.contains_key(version)) {
            return Err(Refusal::new(
                Code::VersionNotFound,
                format!("version {version} of function '{function}' is no longer kept"),
            )
            .hint("deploy it again"));
        }
        let (version, aliases) = (*version, vec![live()]);
        wanted.push(Wanted { function, version, domains, aliases, made: None, newest: false });
    }
    finish(view, app, Some(to.clone()), wanted, Vec::new(), slots)
}

/// Plans the end of an app.
///
/// # Errors
/// A record cannot be written.
pub(crate) fn delete(view: &View, deployments: &[u64], slots: &mut Slots) -> Result<Plan, Refusal> {
    let app = view.record.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    let key = state::app_key(&view.tenant, &view.app);
    let gone = deployments.iter().map(|&number| {
        let expect = rouse_store::records::Expect::Any;
        state::delete(state::DEPLOYMENTS, state::numbered(&key, number), expect)
    });
    finish(view, app, None, Vec::new(), gone.collect(), slots)
}

fn finish(
    view: &View,
    app: App,
    deployment: Option<Deployment>,
    wanted: Vec<Wanted<'_>>,
    mut writes: Vec<Write>,
    slots: &mut Slots,
) -> Result<Plan, Refusal> {
    let mut taken = Vec::new();
    let result = (|| {
        let names: BTreeSet<_> = wanted.iter().map(|each| each.function).collect();
        let mut freed = Vec::new();
        for (name, known) in &view.functions {
            let Some(at) = known else { continue };
            if names.contains(name) || at.value.app.as_ref() != Some(&view.app) {
                continue;
            }
            freed.extend(at.value.slot);
            let let_go = Function { app: None, slot: None, aliases: BTreeMap::new(), ..at.value.clone() };
            let key = state::function_key(&view.tenant, name);
            writes.push(state::put(state::FUNCTIONS, key, &let_go, state::unchanged(Some(at)))?);
        }
        for each in &wanted {
            let known = view.functions.get(each.function).and_then(Option::as_ref);
            let function = take_up(view, each, known, || {
                let slot = slots.take()?;
                taken.push(slot);
                Some(slot)
            })?;
            let key = state::function_key(&view.tenant, each.function);
            if let Some((_, version)) = &each.made {
                let key = state::numbered(&key, each.version);
                let expect = rouse_store::records::Expect::Absent;
                writes.push(state::put(state::VERSIONS, key, version, expect)?);
            }
            writes.push(state::put(state::FUNCTIONS, key, &function, state::unchanged(known))?);
        }
        let held = wanted.iter().map(|each| (each.function, each.domains));
        let domains = domains::claim(view, &app, held, &mut writes)?;
        let app = App {
            revision: app.revision + 1,
            domains,
            live: deployment.as_ref().map(|deployment| deployment.number),
            functions: wanted.iter().map(|each| each.function.clone()).collect(),
            ..app
        };
        let key = state::app_key(&view.tenant, &view.app);
        writes.push(state::put(state::APPS, key, &app, state::unchanged(view.record.as_ref()))?);
        Ok(freed)
    })();
    match result {
        Ok(freed) => Ok(Plan { writes, taken, freed, deployment }),
        Err(refusal) => {
            slots.give(taken);
            Err(refusal)
        }
    }
}

/// What is said of a name that another app has.
pub(crate) fn taken(tenant: &TenantId, name: &FunctionName, other: &AppName) -> Refusal {
    Refusal::new(Code::NameTaken, format!("function '{name}' of tenant '{tenant}' belongs to app '{other}'"))
        .hint(format!("give it another name, or take it out of '{other}' first"))
}

/// A function's record once the app has it at the wanted version.
fn take_up(
    view: &View,
    wanted: &Wanted<'_>,
    known: Option<&At<Function>>,
    slot: impl FnOnce() -> Option<u32>,
) -> Result<Function, Refusal> {
    let mut function = known.map(|at| at.value.clone()).unwrap_or_default();
    match &function.app {
        Some(other) if *other != view.app => {
            return Err(taken(&view.tenant, wanted.function, other));
        }
        _ => function.app = Some(view.app.clone()),
    }
    if function.slot.is_none() {
        function.slot = Some(slot().ok_or_else(|| {
            Refusal::new(Code::CapacityExhausted, "this platform has as many functions as it can hold")
                .hint("delete apps that are no longer needed")
        })?);
    }
    if let Some((head, _)) = &wanted.made {
        function.versions.insert(wanted.version, head.clone());
        function.next = wanted.version + 1;
    }
    if wanted.newest || !function.versions.contains_key(&function.latest) {
        function.latest = wanted.version;
    }
    for alias in &wanted.aliases {
        function.aliases.insert(alias.clone(), Alias::of(wanted.version));
    }
    Ok(function)
}

/// The version that a request describes, yet without its number.
fn version_of(view: &View, function: &DeployFunction) -> FunctionVersion {
    let mut version = FunctionVersion {
        tenant: view.tenant.clone(),
        app: view.app.clone(),
        function: function.name.clone(),
        number: 0,
        digest: Digest::of(b""),
        // What was prepared has a digest.
        code: function.code.unwrap_or_else(|| Digest::of(b"")),
        image: function.image.as_ref().map(|image| image.reference.clone()),
        runtime: function.runtime.clone(),
        contract: function.contract.unwrap_or_else(|| function.runtime.default_contract()),
        http: function.http.clone(),
        handler: function.handler.clone(),
        isolation: function.isolation,
        env: function.env.clone(),
        secrets: function.secrets.clone(),
        limits: function.limits.clone(),
        scaling: function.scaling.clone(),
        egress: function.egress.clone(),
        invoke: function.invoke,
        triggers: function.triggers.clone(),
        events: function.events.clone(),
        lambda: function.lambda.clone(),
    };
    // All fields in their order, maps sorted: equal versions have equal texts.
    let text = serde_json::to_vec(&version).unwrap_or_default();
    version.digest = Digest::of(&text);
    version
}

#[cfg(test)]
mod tests;
