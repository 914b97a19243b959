//! What this node takes on: as the operator asked, which outlives the node, or nothing more, since it is ending.
//!
//! ```text
//!  rouse node drain b ─▶ any node: record ─▶ b looks, once a second ─▶ its file ─▶ events: pulls no more
//!                                                  └─▶ its membership: draining … drained ─▶ everyone sees
//! ```

use std::sync::PoisonError;

use rouse_api::NodeChange;
use rouse_store::{
    cluster::{members::members, standing},
    records::Expect,
};
use rouse_types::{Code, NodeState, Refusal, Work};
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::{
    control::Control,
    state::{self, NODES},
};

/// What an operator asked of a node. One of which nothing was asked has no record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    state: NodeState,
}

/// How this node stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    wanted: NodeState,
    stopping: bool,
    pub(super) state: NodeState,
    pub(super) work: Work,
    /// Whether it takes work, as the process of events was told last.
    told: Option<bool>,
}

impl Standing {
    /// As it was told before it was started again.
    pub(super) fn new(wanted: NodeState) -> Self {
        let state = NodeState::of(wanted, false, None);
        Self { wanted, stopping: false, state, work: Work::default(), told: None }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Standing) -> T) -> T {
        act(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How the node stands.
    pub(super) fn standing(&self) -> Standing {
        self.with(|standing| *standing)
    }

    /// Nothing more is taken from now on: the node is ending.
    pub(crate) fn begin_to_stop(&self) {
        self.with(|standing| (standing.stopping, standing.state) = (true, NodeState::Stopping));
    }

    /// Why callers should go to other nodes, if they should.
    pub(crate) fn away(&self) -> Option<Refusal> {
        let (node, state) = (self.node(), self.standing().state);
        let hint = match state {
            NodeState::Active => return None,
            NodeState::Stopping => "the other nodes of the cluster answer".to_owned(),
            _ => format!("the other nodes of the cluster answer; `rouse node uncordon {node}` puts it back"),
        };
        let what = format!("the node '{node}' is {}: it takes no new work", state.as_str());
        Some(Refusal::new(Code::NodeUnavailable, what).hint(hint))
    }
}

impl Control {
    /// Says what a node is to take on.
    pub(crate) async fn put_node(&self, node: &str, change: NodeChange) -> Result<NodeChange, Refusal> {
        let shared = self.shared.as_ref().ok_or_else(super::no_cluster)?;
        if !matches!(change.state, NodeState::Active | NodeState::Cordoned | NodeState::Draining) {
            let what = format!("a node becomes {} by itself", change.state.as_str());
            return Err(Refusal::new(Code::BadRequest, what).hint("ask for active, cordoned or draining"));
        }
        self.records.catch_up().await.map_err(|error| state::refusal(&error))?;
        let asked = state::scan::<Wanted>(&self.records, NODES, "").await?;
        let mut known: Vec<String> = match members(&shared.leases).await {
            Ok(members) => members.into_iter().map(|seen| seen.member.node).collect(),
            Err(error) => return Err(state::refusal(&error)),
        };
        // One that is away may be put back.
        known.extend(asked.into_iter().map(|at| at.key));
        known.sort();
        known.dedup();
        if !known.iter().any(|name| name == node) {
            let shown: String = node.chars().take(80).collect();
            let what = format!("the cluster has no node '{shown}'");
            return Err(
                Refusal::new(Code::NodeNotFound, what).hint(format!("its nodes are {}", known.join(", ")))
            );
        }
        let write = match change.state {
            NodeState::Active => state::delete(NODES, node.to_owned(), Expect::Any),
            asked => state::put(NODES, node.to_owned(), &Wanted { state: asked }, Expect::Any)?,
        };
        state::commit(&self.records, vec![write]).await?;
        if node == shared.node() {
            self.stand(shared).await;
        }
        Ok(change)
    }

    /// Looks what this node is to take on, tells of a change, and sees how far it is.
    pub(super) async fn stand(&self, shared: &Shared) -> Standing {
        let _one = self.locks.hold("standing".to_owned()).await;
        match state::get::<Wanted>(&self.records, NODES, shared.node()).await {
            Ok(found) => {
                let wanted = found.map_or(NodeState::Active, |at| at.value.state);
                shared.with(|standing| standing.wanted = wanted);
            }
            Err(refusal) => tracing::warn!(%refusal, "what is asked of this node cannot be read"),
        }
        let Standing { wanted, stopping, told, .. } = shared.standing();
        let takes = wanted.takes_work() && !stopping;
        // At once for those who ask whether it is ready.
        shared.with(|standing| {
            if standing.state.takes_work() != takes {
                standing.state = NodeState::of(wanted, standing.stopping, None);
            }
        });
        if told != Some(takes) && self.tell_standing(wanted, stopping).await {
            tracing::info!(node = shared.node(), takes, "whether this node takes new work has changed");
            shared.with(|standing| standing.told = Some(takes));
        }
        let work = match takes {
            true => Some(Work::default()),
            false => self.peers.work().await,
        };
        shared.with(|standing| {
            let in_force = work.filter(|_| standing.told == Some(takes));
            standing.state = NodeState::of(standing.wanted, standing.stopping, in_force);
            standing.work = work.unwrap_or(standing.work);
            *standing
        })
    }

    /// Tells the process of events. One that is not there reads the file when it starts.
    async fn tell_standing(&self, wanted: NodeState, stopping: bool) -> bool {
        if !stopping && let Err(error) = standing::write(&self.config.state, wanted) {
            tracing::error!(%error, "what this node takes on cannot be written down");
            return false;
        }
        let state = if stopping { NodeState::Stopping } else { wanted };
        match self.peers.notify_standing(state).await {
            Ok(()) => true,
            Err(why) => {
                tracing::warn!(why, "the process of events goes on as before");
                false
            }
        }
    }
}
