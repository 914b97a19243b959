//! What is remembered of database triggers: how far each got, and what is still to be dropped of those that went.
//!
//! ```text
//!  in force ─▶ Kept ─── goes, or names another database ──▶ Gone ─▶ dropped there, or given up after some days
//!     ▲                                                       │
//!     └──────────────── comes back before ────────────────────┘
//! ```
//! Both hold the database's address with its password: a trigger's slot is dropped after its app was deleted. The file is
//! the platform's own, as are the snapshots that hold functions' environments.

use std::collections::BTreeMap;

use rouse_store::records::{Expect, Write};
use rouse_triggers::postgres::address::Address;
use rouse_types::{FunctionName, TenantId, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

pub(super) const KEPT: &str = "databases";
pub(super) const GONE: &str = "databases-gone";

/// Which trigger: its tenant, function and name. What is kept of it is kept under its slot's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Of {
    pub(crate) tenant: TenantId,
    pub(crate) function: FunctionName,
    pub(crate) trigger: String,
}

impl Of {
    /// As it is shown in the log.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/{}", self.tenant, self.function, self.trigger)
    }
}

/// How far a trigger got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) of: Of,
    /// The database's address, with what `env:NAME` stood for.
    pub(super) url: String,
    pub(super) slot: String,
    /// Whether the slot was made.
    pub(super) made: bool,
    /// The server whose log the places are of.
    pub(super) system: String,
    /// Counts slots and servers: places of the log begin anew with each.
    pub(super) generation: u32,
    /// Up to where changes are in the function's queue: the end of a transaction.
    pub(super) upto: u64,
    /// The transaction that was under way there, by the place of its commit, and how many of its changes were sent.
    pub(super) within: Option<(u64, u64)>,
}

/// What a trigger left in a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    pub(super) of: Of,
    pub(super) url: String,
    pub(super) slot: String,
    /// Since when it is to be dropped.
    pub(super) since: Timestamp,
}

impl Gone {
    /// As it is shown in the log.
    pub(super) fn key(&self) -> String {
        key(&self.slot, &self.url)
    }
}

/// One slot of one database.
fn key(slot: &str, url: &str) -> String {
    let at =
        Address::parse(url).map(|at| format!("{}:{}/{}", at.host, at.port, at.database)).unwrap_or_default();
    format!("{slot}/{}", &hex::encode(Sha256::digest(at))[..16])
}

/// A trigger that is in force, and where its changes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) url: String,
    pub(super) slot: String,
}

/// What is to be written so that what is kept is of the triggers in force, and of no other. `whole` says that all
/// triggers in force are known: what is missing is gone.
pub(super) fn plan(
    wanted: &BTreeMap<Of, Wanted>,
    kept: &BTreeMap<String, Kept>,
    gone: &BTreeMap<String, Gone>,
    whole: bool,
    now: Timestamp,
) -> Vec<Write> {
    let mut writes = Vec::new();
    let leaves = |kept: &Kept| Gone {
        of: kept.of.clone(),
        url: kept.url.clone(),
        slot: kept.slot.clone(),
        since: now,
    };
    for (of, wanted) in wanted {
        let new = Kept {
            of: of.clone(),
            url: wanted.url.clone(),
            slot: wanted.slot.clone(),
            made: false,
            system: String::new(),
            generation: 0,
            upto: 0,
            within: None,
        };
        let next = match kept.get(&wanted.slot) {
            Some(known) if known.url == wanted.url => continue,
            // Another role or password.
            Some(known) if same(&known.url, &wanted.url) => Kept { url: wanted.url.clone(), ..known.clone() },
            Some(known) => {
                let gone = leaves(known);
                writes.push(write(GONE, &gone.key(), Some(&gone)));
                new
            }
            None => new,
        };
        writes.push(write(KEPT, &wanted.slot, Some(&next)));
    }
    for (at, one) in gone {
        // It came back before it was dropped.
        if wanted.get(&one.of).is_some_and(|wanted| key(&wanted.slot, &wanted.url) == *at) {
            writes.push(write::<Gone>(GONE, at, None));
        }
    }
    if whole {
        for (at, known) in kept.iter().filter(|(_, known)| !wanted.contains_key(&known.of)) {
            let gone = leaves(known);
            writes.push(write(GONE, &gone.key(), Some(&gone)));
            writes.push(write::<Kept>(KEPT, at, None));
        }
    }
    writes
}

fn same(one: &str, other: &str) -> bool {
    match (Address::parse(one), Address::parse(other)) {
        (Ok(one), Ok(other)) => one.is_same_database(&other),
        _ => false,
    }
}

pub(super) fn write<T: Serialize>(namespace: &str, key: &str, value: Option<&T>) -> Write {
    let value = value.map(|value| serde_json::to_vec(value).unwrap_or_default());
    Write { namespace: namespace.to_owned(), key: key.to_owned(), expect: Expect::Any, value }
}

/// All records of a namespace that this release can read.
pub(super) async fn all<T: DeserializeOwned>(
    records: &rouse_store::Records,
    namespace: &str,
) -> Result<BTreeMap<String, T>, rouse_store::Error> {
    let (mut found, mut after) = (BTreeMap::new(), None::<String>);
    loop {
        let page = records.scan(namespace, "", after.as_deref(), rouse_store::records::PAGE_MAX).await?;
        for record in page.records {
            match serde_json::from_slice(&record.value) {
                Ok(value) => drop(found.insert(record.key, value)),
                Err(error) => {
                    tracing::error!(key = record.key, %error, "a record of a database trigger cannot be read")
                }
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(trigger: &str) -> Of {
        Of {
            tenant: "default".parse().expect("a tenant"),
            function: "f".parse().expect("a function"),
            trigger: trigger.to_owned(),
        }
    }

    /// Applies what was planned, as the store would.
    fn apply(writes: Vec<Write>, kept: &mut BTreeMap<String, Kept>, gone: &mut BTreeMap<String, Gone>) {
        for Write { namespace, key, value, .. } in writes {
            match (namespace.as_str(), value) {
                (KEPT, Some(value)) => drop(kept.insert(key, serde_json::from_slice(&value).expect("one"))),
                (KEPT, None) => drop(kept.remove(&key)),
                (_, Some(value)) => drop(gone.insert(key, serde_json::from_slice(&value).expect("one"))),
                (_, None) => drop(gone.remove(&key)),
            }
        }
    }

    #[test]
    fn a_slot_is_of_a_trigger_in_force_or_to_be_dropped_and_never_forgotten() {
        let (mut kept, mut gone) = (BTreeMap::new(), BTreeMap::new());
        let now = Timestamp::from_millis(5);
        let wants =
            |url: &str| BTreeMap::from([(of("a"), Wanted { url: url.to_owned(), slot: "s".to_owned() })]);
        let (one, two) = ("postgres://me@db/one", "postgres://me@db/two");

        apply(plan(&wants(one), &kept, &gone, true, now), &mut kept, &mut gone);
        kept.get_mut("s").expect("it is kept").upto = 7;
        assert_eq!(plan(&wants(one), &kept, &gone, true, now), [], "nothing changed");

        // Another password is the same place.
        apply(plan(&wants("postgres://me:new@db/one"), &kept, &gone, true, now), &mut kept, &mut gone);
        assert_eq!((kept["s"].upto, gone.len()), (7, 0));

        // Another database is another place, and the old one is to be cleaned.
        apply(plan(&wants(two), &kept, &gone, true, now), &mut kept, &mut gone);
        assert_eq!((kept["s"].upto, gone.len()), (0, 1));

        // Back again: what is in force is not dropped, what is not is.
        apply(plan(&wants(one), &kept, &gone, true, now), &mut kept, &mut gone);
        let urls: Vec<&str> = gone.values().map(|gone| gone.url.as_str()).collect();
        assert_eq!(urls, [two]);

        // It goes, but only once that is sure.
        assert_eq!(plan(&BTreeMap::new(), &kept, &gone, false, now), []);
        apply(plan(&BTreeMap::new(), &kept, &gone, true, now), &mut kept, &mut gone);
        assert_eq!((kept.len(), gone.len()), (0, 2));
    }
}
