//! What tenants may use: records of the store, rows of the table that all processes share, and the file that says both to
//! gateways and the node.
//!
//! | namespace | key | what |
//! |---|---|---|
//! | `quotas` | `<tenant>` | [`Kept`] |

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rouse_api::DeployRequest;
use rouse_quota::Table;
use rouse_store::{Records, records::Expect};
use rouse_types::{Budget, Code, Digest, FunctionName, Quota, Refusal, TenantId, TenantLimits};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use crate::{
    Error,
    control::Control,
    slots::Slots,
    state::{self, At, Committed, Function},
};

const QUOTAS: &str = "quotas";

/// Calls at once of a tenant whose functions reserve some of them: as many as AWS grants an account at first.
const LAMBDA_CONCURRENCY: u32 = 1_000;

/// What is kept of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Its row in the shared table.
    pub(crate) row: u32,
    /// The rows of functions with limits of their own.
    pub(crate) functions: BTreeMap<FunctionName, u32>,
    pub(crate) limits: TenantLimits,
    pub(crate) budget: Option<Budget>,
    /// What functions of the Lambda API reserve of the tenant's concurrency.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) shares: BTreeMap<FunctionName, u32>,
}

impl Kept {
    fn in_force(self) -> Quota {
        let capped = self.budget.is_some_and(|budget| budget.hard);
        let limits = with_shares(self.limits, &self.shares);
        Quota { row: self.row, limits, functions: self.functions, capped }
    }
}

/// What the operator grants, with the shares of functions of the Lambda API in it: those that the operator has not set,
/// as far as they fit. Where no concurrency is set, it is AWS' as long as there are shares of it. Pure.
fn with_shares(mut limits: TenantLimits, shares: &BTreeMap<FunctionName, u32>) -> TenantLimits {
    if shares.is_empty() {
        return limits;
    }
    let all = *limits.concurrency.get_or_insert(LAMBDA_CONCURRENCY);
    let granted = limits.functions.values().filter_map(|own| own.concurrency_reserved);
    let mut left = all.saturating_sub(granted.fold(0, u32::saturating_add));
    for (function, share) in shares {
        let own = limits.functions.entry(function.clone()).or_default();
        if own.concurrency_reserved.is_none() {
            let share = (*share).min(left);
            left -= share;
            own.concurrency_reserved = Some(share);
        }
    }
    limits
}

/// The shared table, and who has which of its rows.
#[derive(Debug)]
pub(crate) struct Quotas {
    pub(crate) table: Table,
    rows: Mutex<Rows>,
}

#[derive(Debug)]
struct Rows {
    tenants: Slots,
    functions: Slots,
}

impl Quotas {
    pub(crate) async fn open(records: &Records, state: &Path) -> Result<Self, Error> {
        let kept = state::scan::<Kept>(records, QUOTAS, "").await.map_err(Error::State)?;
        let tenants: BTreeSet<u32> = kept.iter().map(|at| at.value.row).collect();
        let functions: BTreeSet<u32> =
            kept.iter().flat_map(|at| at.value.functions.values().copied()).collect();
        let rows = Rows {
            tenants: Slots::without(&tenants, rouse_quota::TENANTS_MAX),
            functions: Slots::without(&functions, rouse_quota::FUNCTIONS_MAX),
        };
        Ok(Self { table: Table::open(&state.join("run").join("quotas"))?, rows: Mutex::new(rows) })
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong(invalid: &rouse_types::quota::Invalid) -> Refusal {
    Refusal::new(Code::BadRequest, invalid.to_string())
        .hint("nothing was changed; docs/guides/limits.md tells of every setting")
}

fn no_rows(what: &str, most: u32) -> Refusal {
    Refusal::new(Code::BadRequest, format!("{most} {what} have limits already, and more may not"))
        .hint("take away limits that are no longer needed: `rouse limits clear`, `rouse budget clear`")
}

impl Control {
    /// All that is kept, by tenant.
    pub(crate) async fn kept_quotas(&self) -> Result<Vec<(TenantId, Kept)>, Refusal> {
        let kept = state::scan::<Kept>(&self.records, QUOTAS, "").await?;
        Ok(kept.into_iter().filter_map(|at| Some((at.key.parse().ok()?, at.value))).collect())
    }

    pub(crate) async fn kept_quota(&self, tenant: &TenantId) -> Result<Option<Kept>, Refusal> {
        let at = state::get::<Kept>(&self.records, QUOTAS, tenant.as_str()).await?;
        Ok(at.map(|at| at.value))
    }

    pub(crate) async fn limits(&self, tenant: &TenantId) -> Result<TenantLimits, Refusal> {
        Ok(self.kept_quota(tenant).await?.map(|kept| kept.limits).unwrap_or_default())
    }

    pub(crate) async fn put_limits(
        &self,
        tenant: &TenantId,
        limits: TenantLimits,
    ) -> Result<TenantLimits, Refusal> {
        limits.check().map_err(|invalid| wrong(&invalid))?;
        self.change_quota(tenant, |kept| kept.limits = limits.clone()).await?;
        Ok(limits)
    }

    /// Sets what a function of the Lambda API reserves of its tenant's concurrency, or takes it away.
    pub(crate) async fn put_share(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        share: Option<u32>,
    ) -> Result<(), Refusal> {
        let known = self.kept_quota(tenant).await?.and_then(|kept| kept.shares.get(function).copied());
        if known == share {
            return Ok(());
        }
        let change = |kept: &mut Kept| {
            match share {
                Some(share) => kept.shares.insert(function.clone(), share),
                None => kept.shares.remove(function),
            };
        };
        self.change_quota(tenant, change).await.map(drop)
    }

    /// Sets a tenant's budget, or takes it away.
    pub(crate) async fn put_budget(
        &self,
        tenant: &TenantId,
        budget: Option<Budget>,
    ) -> Result<rouse_api::BudgetStatus, Refusal> {
        if let Some(budget) = &budget {
            budget.check().map_err(|invalid| wrong(&invalid))?;
        }
        let (before, after) = self.change_quota(tenant, |kept| kept.budget = budget.clone()).await?;
        let capped = |kept: &Kept| kept.budget.as_ref().is_some_and(|budget| budget.hard);
        if capped(&before) && !capped(&after) {
            // Nobody counts from now on: what stands there is soon out of date.
            self.quotas.table.close(before.row);
        }
        self.open_caps().await?;
        self.budget(tenant).await
    }

    /// Changes what is kept of a tenant, and puts it in force everywhere.
    async fn change_quota(
        &self,
        tenant: &TenantId,
        change: impl FnOnce(&mut Kept),
    ) -> Result<(Kept, Kept), Refusal> {
        let lock = self.locks.hold("quotas".to_owned()).await;
        let read = state::get::<Kept>(&self.records, QUOTAS, tenant.as_str()).await?;
        let before = read.as_ref().map(|at| at.value.clone()).unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        let fresh = read.is_none();
        let (taken, freed) = self.give_rows(&mut after, fresh)?;
        let committed = self.commit_quota(tenant, read.as_ref(), &after).await;
        if !matches!(committed, Ok(Committed::Done)) {
            let mut rows = self.quotas.rows();
            rows.functions.give(taken);
            if fresh {
                rows.tenants.give([after.row]);
            }
            committed?;
            return Err(state::contended());
        }
        self.quotas.rows().functions.give(freed);
        drop(lock);
        self.publish_quotas().await?;
        Ok((before, after))
    }

    /// Gives a tenant and its functions the rows that they need; the rows that were taken now, and those that are not
    /// needed any more.
    fn give_rows(&self, kept: &mut Kept, fresh: bool) -> Result<(Vec<u32>, Vec<u32>), Refusal> {
        let mut rows = self.quotas.rows();
        let (gone, mut stay): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut kept.functions).into_iter().partition(|(function, _)| {
                !kept.limits.functions.contains_key(function) && !kept.shares.contains_key(function)
            });
        let mut taken = Vec::new();
        for function in kept
            .limits
            .functions
            .keys()
            .chain(kept.shares.keys())
            .filter(|&function| !stay.contains_key(function))
            .cloned()
            .collect::<BTreeSet<_>>()
        {
            let Some(row) = rows.functions.take() else {
                rows.functions.give(taken);
                return Err(no_rows("functions", rouse_quota::FUNCTIONS_MAX));
            };
            taken.push(row);
            stay.insert(function, row);
        }
        if fresh {
            let Some(row) = rows.tenants.take() else {
                rows.functions.give(taken);
                return Err(no_rows("tenants", rouse_quota::TENANTS_MAX));
            };
            kept.row = row;
        }
        kept.functions = stay;
        Ok((taken, gone.into_values().collect()))
    }

    async fn commit_quota(
        &self,
        tenant: &TenantId,
        read: Option<&At<Kept>>,
        kept: &Kept,
    ) -> Result<Committed, Refusal> {
        let expect: Expect = state::unchanged(read);
        let write = state::put(QUOTAS, tenant.to_string(), kept, expect)?;
        state::commit(&self.records, vec![write]).await
    }

    /// Whether a tenant's code, with what a deployment adds, stays within what it is granted. What this gives is to be held
    /// until the deployment is done.
    pub(crate) async fn room_for_code(
        &self,
        tenant: &TenantId,
        request: &DeployRequest,
    ) -> Result<Option<OwnedMutexGuard<()>>, Refusal> {
        let Some(max) = self.limits(tenant).await?.code_bytes else { return Ok(None) };
        let held = self.locks.hold(format!("code of {tenant}")).await;
        let functions =
            state::scan::<Function>(&self.records, state::FUNCTIONS, &format!("{tenant}/")).await?;
        let kept = functions.iter().flat_map(|at| at.value.versions.values()).map(|head| head.code);
        let all: BTreeSet<Digest> =
            kept.chain(request.functions.iter().filter_map(|each| each.code)).collect();
        let size = |digest: &Digest| Some(std::fs::metadata(self.blobs.path(digest)?).ok()?.len());
        let bytes = all.iter().filter_map(size).fold(0, u64::saturating_add);
        if bytes <= max {
            return Ok(Some(held));
        }
        let what = format!("the code of tenant '{tenant}' would come to {bytes} bytes; it is granted {max}");
        Err(Refusal::new(Code::QuotaExceeded, what).hint(
            "leave out what functions do not need, `rouse delete` apps that are no longer used, or ask the operator for \
             more `code_bytes`; versions that nothing names are forgotten within ten minutes",
        ))
    }

    /// Makes the file what the store says, and has the others read it: after each change, and at the start, should a crash
    /// have come between.
    pub(crate) async fn publish_quotas(&self) -> Result<(), Refusal> {
        let _lock = self.locks.hold("quotas file".to_owned()).await;
        let kept = self.kept_quotas().await?;
        let quotas = kept.into_iter().map(|(tenant, kept)| (tenant, kept.in_force())).collect();
        let folder = self.config.state.clone();
        let written = tokio::task::spawn_blocking(move || rouse_quota::replace(&folder, &quotas)).await;
        written
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| state::io_refusal("write what limits tenants", &error))?;
        self.peers.notify_quotas().await.map_err(|why| {
            tracing::error!(why, "a process goes on with the limits of before");
            Refusal::new(Code::Internal, format!("the limits are kept, but not in force everywhere: {why}"))
                .hint("set them again")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_reserve_of_what_the_operator_grants() {
        let limits = |value| serde_json::from_value::<TenantLimits>(value).expect("limits");
        let shares: BTreeMap<FunctionName, u32> =
            [("a", 3), ("b", 4), ("c", 2)].map(|(name, share)| (name.parse().expect("a name"), share)).into();
        let own = limits(json!({ "concurrency": 8, "functions": { "b": { "concurrency_reserved": 5 } } }));
        assert_eq!(with_shares(own.clone(), &BTreeMap::new()), own);
        let all = with_shares(own, &shares);
        let share =
            |name: &str| all.functions[&name.parse::<FunctionName>().expect("a name")].concurrency_reserved;
        assert_eq!((share("a"), share("b"), share("c")), (Some(3), Some(5), Some(0)));
        all.check().expect("they fit");
        let free = with_shares(TenantLimits::default(), &shares);
        assert_eq!((free.concurrency, free.concurrency_common()), (Some(1_000), Some(991)));
    }
}
