//! What is live: an app's functions, their aliases, and the choice of a version for one request.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{AliasName, AppName, Domain, FunctionName, FunctionVersion, TenantId};

/// The alias that answers when a caller names none. A deploy moves it; a rollback moves it back.
pub const LIVE: &str = "live";
/// What callers write for the newest version, whatever the aliases say.
pub const LATEST: &str = "$LATEST";
/// Versions that one alias may spread over: bounds the pick.
pub const ALIAS_VERSIONS_MAX: usize = 10;

/// A share of an alias' calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasWeight {
    /// The version's number.
    pub version: u64,
    /// Its share of the sum of all weights. Zero takes none.
    pub weight: u32,
}

/// A movable name over weighted versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The versions and their shares; at least one share is not zero.
    pub versions: Vec<AliasWeight>,
}

impl Alias {
    /// An alias of one version.
    #[must_use]
    pub fn of(version: u64) -> Self {
        Self { versions: vec![AliasWeight { version, weight: 1 }] }
    }

    /// The version with the greatest weight; of equal ones the newest.
    #[must_use]
    pub fn heaviest(&self) -> Option<u64> {
        let shares = self.versions.iter().filter(|share| share.weight > 0);
        shares.max_by_key(|share| (share.weight, share.version)).map(|share| share.version)
    }

    /// The version at a point of the alias' range. The point may be chance, or a hash of what makes a
    /// caller the same caller: equal points give equal versions as long as the weights stand.
    #[must_use]
    pub fn pick(&self, point: u64) -> Option<u64> {
        if let [only] = self.versions.as_slice() {
            return (only.weight > 0).then_some(only.version);
        }
        let total: u64 = self.versions.iter().map(|share| u64::from(share.weight)).sum();
        let mut left = point.checked_rem(total)?;
        for share in &self.versions {
            let weight = u64::from(share.weight);
            if left < weight {
                return Some(share.version);
            }
            left -= weight;
        }
        None
    }
}

/// A function as callers reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRoute {
    /// Its name.
    pub function: FunctionName,
    /// Its place in the shared table of counters: see `rouse_gateway::shared`.
    pub slot: u32,
    /// Named aliases; [`LIVE`] is always there.
    pub aliases: BTreeMap<AliasName, Alias>,
    /// The newest version's number.
    pub latest: u64,
    /// Every version that an alias or [`LATEST`] names, by number.
    pub versions: BTreeMap<u64, Arc<FunctionVersion>>,
    /// Domains at which it answers besides: no other function has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
}

impl FunctionRoute {
    /// The version whose triggers are in force: what [`LIVE`] names; of several versions the one with the greatest
    /// weight, of equal ones the newest.
    #[must_use]
    pub fn in_force(&self) -> Option<&Arc<FunctionVersion>> {
        self.versions.get(&self.aliases.get(LIVE)?.heaviest()?)
    }
}

/// All that is live of one app. Control writes it, whole and at once; gateways and nodes read it, and go
/// on with the last one while control is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSnapshot {
    /// Whose it is.
    pub tenant: TenantId,
    /// The app.
    pub app: AppName,
    /// Grows with every change.
    pub revision: u64,
    /// Its functions. Empty when the app was deleted.
    pub functions: Vec<FunctionRoute>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_alias_without_weight_picks_nothing() {
        let alias = Alias { versions: vec![AliasWeight { version: 1, weight: 0 }] };
        assert_eq!(alias.pick(7), None);
        assert_eq!(Alias { versions: vec![] }.pick(7), None);
    }

    #[test]
    fn of_a_weighted_alias_the_heaviest_version_decides() {
        let share = |version, weight| AliasWeight { version, weight };
        let of = |versions: &[AliasWeight]| Alias { versions: versions.to_vec() }.heaviest();
        assert_eq!(of(&[share(1, 90), share(2, 10)]), Some(1));
        assert_eq!(of(&[share(1, 50), share(2, 50)]), Some(2));
        assert_eq!(of(&[share(1, 0)]), None);
    }

    proptest! {
        #[test]
        fn each_version_takes_exactly_its_share(weights in prop::collection::vec(0u32..20, 1..ALIAS_VERSIONS_MAX)) {
            let versions = (1u64..).zip(&weights).map(|(version, &weight)| AliasWeight { version, weight });
            let alias = Alias { versions: versions.collect() };
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            for (version, &weight) in (1u64..).zip(&weights) {
                let hits = (0..total).filter(|&point| alias.pick(point) == Some(version)).count();
                // One version alone takes every call, whatever its weight.
                let expected = if weights.len() == 1 { total } else { u64::from(weight) };
                prop_assert_eq!(hits as u64, expected);
            }
        }
    }
}
