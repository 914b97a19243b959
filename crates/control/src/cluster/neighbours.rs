//! What this node tells the others of itself, and its own processes of the others: nothing of it is written down, and nobody
//! waits for it.

use rouse_store::cluster::members::Member;
use rouse_types::{
    Isolation,
    node::{Load, Neighbour, Neighbours},
};

use super::Shared;
use crate::control::Control;

fn neighbour(member: &Member) -> Neighbour {
    let isolations = [Isolation::Wasm, Isolation::Container].into_iter().filter(|isolation| {
        let name = match isolation {
            Isolation::Wasm => "wasm",
            Isolation::Container => "container",
        };
        member.sandboxes.iter().any(|offered| offered == name)
    });
    Neighbour {
        node: member.node.clone(),
        zone: member.zone.clone(),
        address: member.mesh.clone(),
        takes_work: member.state.takes_work(),
        isolations: isolations.collect(),
        cores: member.cores,
        load: member.load.clone(),
    }
}

impl Control {
    /// How this node is loaded at the moment.
    pub(super) async fn load(&self) -> Load {
        let load = self.peers.load().await.unwrap_or_default();
        let info = rustix::system::sysinfo();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        // The kernel's mean of a minute, in 1/65,536 (sysinfo(2)).
        let waiting = ((info.loads[0] as u64).saturating_mul(100) / cores) >> 16;
        Load { busy_percent: u32::try_from(waiting).unwrap_or(u32::MAX), ..load }
    }

    /// Tells gateways, and the process that hands calls over, which other nodes there are.
    pub(super) async fn tell_neighbours(&self, shared: &Shared, own: &Member) {
        if own.mesh.is_none() {
            return;
        }
        let others = {
            let view = shared.view.lock().await;
            // Those that were seen last, also while the engine is away: calls do not need it, and a node that is gone too shows
            // when it is called.
            let others = view.members().iter().filter(|seen| seen.member.node != own.node);
            others.filter(|seen| seen.member.mesh.is_some()).map(|seen| neighbour(&seen.member)).collect()
        };
        self.peers.notify_neighbours(&Neighbours { own: neighbour(own), others }).await;
    }
}
