//! Who is a member of a cluster: each node holds a lease of its name, and is gone when it does not renew it.
//!
//! A node's state folder remembers of which cluster it is, and a secret of the node's own: so a node that was killed takes
//! its name back at once, and another one of that name is refused.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use rouse_types::{NodeState, Work, node::Load};
use serde::{Deserialize, Serialize};

use super::{
    Cluster,
    engine::random,
    leases::{Acquired, Lease, Leases},
};
use crate::{Error, file};

/// How long a node that does not renew stays a member.
pub const GONE_AFTER: Duration = Duration::from_secs(5);
/// How often a node says that it is there.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// The file of a node's state folder that says which node of which cluster it is.
const FILE: &str = "cluster.json";
const PREFIX: &str = "member";

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name: 1 to 63 of a-z, 0-9 and '-'.
    pub node: String,
    /// Where it stands: nodes of one zone fail together.
    pub zone: String,
    /// Where other nodes reach it: `host:port`.
    pub address: String,
    /// Its release of Rouse.
    pub version: String,
    /// Cores that it runs functions on.
    pub cores: u32,
    /// Memory that it has for them, in bytes.
    pub memory_bytes: u64,
    /// How it can confine code: `wasm`, `container`.
    pub sandboxes: Vec<String>,
    /// What it takes on.
    #[serde(default)]
    pub state: NodeState,
    /// What it has under way, as far as it looked: see [`NodeState::of`].
    #[serde(default)]
    pub work: Work,
    /// Where it takes calls of other nodes: `host:port`.
    #[serde(default)]
    pub mesh: Option<String>,
    /// What it could take.
    #[serde(default)]
    pub load: Load,
}

/// A member as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it says of itself.
    pub member: Member,
    /// The number of its joining: a node that joins again has a higher one.
    pub fence: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    #[serde(flatten)]
    member: Member,
    /// Says that two processes are the same node, one after the other.
    instance: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    cluster: String,
    node: String,
    instance: String,
}

/// Why a node may not join.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its state is of another cluster.
    #[error(
        "the state of this node is of another cluster ({found}, not {cluster}): give it an empty state folder, or the \
         engine that it was with"
    )]
    OtherCluster {
        /// The cluster that it would join.
        cluster: String,
        /// The one that it is of.
        found: String,
    },
    /// Its state is of a node with another name.
    #[error("the state of this node is of the node {found}, not of {node}: start it with --node {found}")]
    OtherNode {
        /// The name that it was started with.
        node: String,
        /// The one that it had.
        found: String,
    },
    /// Another node has its name.
    #[error(
        "there is a node {node} already, at {address} in zone {zone}: give this one another name by --node"
    )]
    Duplicate {
        /// The name.
        node: String,
        /// Where the other is.
        address: String,
        /// In which zone.
        zone: String,
    },
    /// A member is of a later release.
    #[error("this is Rouse {version} and the node {newest} runs {found}: install {found} or newer here")]
    Older {
        /// The release that would join.
        version: String,
        /// The member with the newest release.
        newest: String,
        /// That release.
        found: String,
    },
    /// What it says of itself is out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// The engine or the disk.
    #[error(transparent)]
    Store(#[from] Error),
}

/// This node's membership. It is over when it is dropped, after [`GONE_AFTER`].
#[derive(Debug)]
pub struct Membership {
    leases: Leases,
    lease: Lease,
    instance: String,
}

impl Membership {
    /// Joins a cluster with the state in this folder.
    ///
    /// # Errors
    /// [`Refused`] says why.
    pub async fn join(cluster: &Cluster, folder: &Path, member: Member) -> Result<Self, Refused> {
        check(&member)?;
        let leases = Leases::open(cluster).await?;
        let identity = identity(folder, leases.cluster_id(), &member.node)?;
        let members = members(&leases).await?;
        admit(&member, members.iter().map(|seen| &seen.member))?;
        let value = said(&member, &identity.instance)?;
        let ours = |value: &[u8]| {
            serde_json::from_slice::<Said>(value).is_ok_and(|said| said.instance == identity.instance)
        };
        let name = format!("{PREFIX}.{}", member.node);
        match leases.take_over(&name, value, GONE_AFTER, ours).await? {
            Acquired::Held(lease) => Ok(Self { leases, lease, instance: identity.instance }),
            Acquired::Taken(holder) => {
                let other = serde_json::from_slice::<Said>(&holder.value);
                let (address, zone) = other.map_or_else(
                    |_| ("an unknown place".to_owned(), "unknown".to_owned()),
                    |said| (said.member.address, said.member.zone),
                );
                Err(Refused::Duplicate { node: member.node, address, zone })
            }
        }
    }

    /// Says that the node is there and what it is now, every [`RENEW_EVERY`]. Tells whether it is still a member; else it
    /// must join again.
    ///
    /// # Errors
    /// [`Error::Away`]: it may be tried again.
    pub async fn renew(&mut self, member: &Member) -> Result<bool, Error> {
        self.lease.say(said(member, &self.instance)?)?;
        self.leases.renew(&mut self.lease).await
    }

    /// Whether the node can still be a member: see [`Lease::holds`].
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lease.holds()
    }

    /// The number of its joining.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.lease.fence()
    }

    /// Leaves, so that others know at once.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn leave(&self) -> Result<(), Error> {
        self.leases.release(self.lease.clone()).await
    }
}

fn said(member: &Member, instance: &str) -> Result<Vec<u8>, Error> {
    let said = Said { member: member.clone(), instance: instance.to_owned() };
    serde_json::to_vec(&said).map_err(|error| Error::Invalid(error.to_string()))
}

/// The members of a cluster, by name.
///
/// # Errors
/// [`Error::Away`].
pub async fn members(leases: &Leases) -> Result<Vec<Seen>, Error> {
    let mut found = BTreeMap::new();
    for holder in leases.holders(PREFIX).await? {
        let said: Said = serde_json::from_slice(&holder.value).map_err(|error| {
            Error::Engine(format!("the member {} cannot be read: {error}; use a later release", holder.name))
        })?;
        found.insert(said.member.node.clone(), Seen { member: said.member, fence: holder.fence });
    }
    Ok(found.into_values().collect())
}

/// What one node knows of the others while the engine is away: the members that it saw last, for as long as it would
/// have believed them.
#[derive(Debug, Default)]
pub struct View {
    seen: Vec<Seen>,
    at: Option<Instant>,
}

impl View {
    /// Looks again, and keeps what was seen if the engine does not answer. Tells who came and who is gone since.
    ///
    /// # Errors
    /// [`Error::Away`]; the members are those that were seen last.
    pub async fn look(&mut self, leases: &Leases) -> Result<Changes, Error> {
        let now = members(leases).await?;
        self.at = Some(Instant::now());
        let changes = Changes::between(&self.seen, &now);
        self.seen = now;
        Ok(changes)
    }

    /// The members that were seen last.
    #[must_use]
    pub fn members(&self) -> &[Seen] {
        &self.seen
    }

    /// How long ago that was; none before the first look.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.at.map(|at| at.elapsed())
    }
}

/// Who came and who went. A node that was started again is both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Names of nodes that joined.
    pub came: Vec<String>,
    /// Names of nodes that are gone.
    pub gone: Vec<String>,
}

impl Changes {
    fn between(before: &[Seen], now: &[Seen]) -> Self {
        let has = |list: &[Seen], one: &Seen| {
            list.iter().any(|other| other.member.node == one.member.node && other.fence == one.fence)
        };
        let name = |seen: &Seen| seen.member.node.clone();
        Self {
            came: now.iter().filter(|seen| !has(before, seen)).map(name).collect(),
            gone: before.iter().filter(|seen| !has(now, seen)).map(name).collect(),
        }
    }
}

/// Whether a node may be a member beside these: none is of a later release than it.
fn admit<'a>(member: &Member, members: impl Iterator<Item = &'a Member>) -> Result<(), Refused> {
    let release = |version: &str| {
        let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u64>().unwrap_or(0));
        let mut part = || parts.next().unwrap_or(0);
        (part(), part())
    };
    // One that has this node's name is the node itself, before it was started again, or is refused for that.
    let others = members.filter(|other| other.node != member.node);
    match others.max_by_key(|other| release(&other.version)) {
        Some(newest) if release(&newest.version) > release(&member.version) => Err(Refused::Older {
            version: member.version.clone(),
            newest: newest.node.clone(),
            found: newest.version.clone(),
        }),
        _ => Ok(()),
    }
}

fn check(member: &Member) -> Result<(), Refused> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    for (what, name) in [("node", &member.node), ("zone", &member.zone)] {
        let edges = name.starts_with('-') || name.ends_with('-');
        if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) || edges {
            let shown: String = name.chars().take(80).collect();
            return Err(Refused::Invalid(format!(
                "'{shown}' is not the name of a {what}: use 1 to 63 of a-z, 0-9 and '-', not at an end"
            )));
        }
    }
    Ok(())
}

/// Reads who this node is, or writes it down with its first joining.
fn identity(folder: &Path, cluster: &str, node: &str) -> Result<Identity, Refused> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let found: Identity = serde_json::from_slice(&bytes).map_err(|_| Error::Corrupt(path.clone()))?;
            if found.cluster != cluster {
                return Err(Refused::OtherCluster { cluster: cluster.to_owned(), found: found.cluster });
            }
            if found.node != node {
                return Err(Refused::OtherNode { node: node.to_owned(), found: found.node });
            }
            Ok(found)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = Identity { cluster: cluster.to_owned(), node: node.to_owned(), instance: random()?.0 };
            let bytes = serde_json::to_vec(&made).map_err(|error| Refused::Invalid(error.to_string()))?;
            file::replace(&path, &bytes).map_err(Error::io("write", &path))?;
            Ok(made)
        }
        Err(error) => Err(Error::io("read", &path)(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: &str, version: &str) -> Member {
        Member {
            node: node.to_owned(),
            zone: "a".to_owned(),
            address: "10.0.0.1:8443".to_owned(),
            version: version.to_owned(),
            cores: 2,
            memory_bytes: 1 << 30,
            sandboxes: vec!["wasm".to_owned()],
            state: NodeState::Active,
            work: Work::default(),
            mesh: None,
            load: Load::default(),
        }
    }

    #[test]
    fn a_node_of_an_older_release_than_any_member_is_refused_and_a_patch_makes_no_difference() {
        let members = [member("a", "0.2.0"), member("b", "0.10.3"), member("c", "0.1.0")];
        let refused = admit(&member("d", "0.9.9"), members.iter());
        assert!(matches!(&refused, Err(Refused::Older { newest, .. }) if newest == "b"), "{refused:?}");
        assert!(admit(&member("d", "0.10.0"), members.iter()).is_ok());
        assert!(admit(&member("d", "1.0.0"), members.iter()).is_ok());
        assert!(admit(&member("d", "0.0.1"), [].iter()).is_ok());
        // A node that comes back is not measured by what it was.
        assert!(admit(&member("b", "0.2.0"), members.iter()).is_ok());
    }

    #[test]
    fn names_are_those_of_hosts() {
        for wrong in ["", "-a", "a-", "A", "a.b", "ä", &"a".repeat(64)] {
            assert!(matches!(check(&member(wrong, "1.0.0")), Err(Refused::Invalid(_))), "{wrong}");
        }
        assert!(check(&member("node-1", "1.0.0")).is_ok());
    }

    #[test]
    fn who_was_started_again_has_gone_and_come() {
        let seen = |node: &str, fence| Seen { member: member(node, "1.0.0"), fence };
        let changes = Changes::between(&[seen("a", 1), seen("b", 2)], &[seen("b", 3), seen("c", 4)]);
        assert_eq!(changes.came, ["b", "c"]);
        assert_eq!(changes.gone, ["a", "b"]);
    }
}
