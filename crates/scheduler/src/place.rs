//! Which other node runs a call that this one cannot run, or has no room for: warm instance first, else the best node.
//!
//! What is known of nodes is as old as what they told last, about a second; so calls that are alike are spread over what
//! is alike, and nobody is sure to have room. Whoever is asked first and does not answer is followed by the next.

use std::cmp::Reverse;

use rouse_types::{Isolation, node::Neighbour};

/// How many nodes are tried for one call: more would wait longer than they help.
pub const TRIES_MAX: usize = 3;
/// Loads that differ by less, in percent of a node, are alike: what is a second old tells no more.
const ALIKE_PERCENT: u32 = 25;

/// What a call needs of the node that runs it.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// How its code is confined.
    pub isolation: Isolation,
    /// The memory of an instance, in MiB.
    pub memory_mib: u64,
    /// Two calls with different numbers go to different nodes of those that are alike.
    pub chance: u64,
}

/// Whether a node has a place for the call at all.
#[must_use]
pub fn fits(need: &Need, node: &Neighbour, warm: bool) -> bool {
    let room = match need.isolation {
        // Components run in place, in whatever memory gateways have.
        Isolation::Wasm => true,
        Isolation::Container => warm || node.load.room_mib >= need.memory_mib,
    };
    node.takes_work && node.isolations.contains(&need.isolation) && room
}

/// The nodes to try, the best first, by their places in `nodes`: warm ones, then those of the zone with the least to do, then those
/// with the least to do, then those with the most room. `warm` tells whether a node has an instance that waits for work.
#[must_use]
pub fn place(need: &Need, nodes: &[Neighbour], warm: impl Fn(&Neighbour) -> bool) -> Vec<usize> {
    let mut fitting: Vec<_> = (0..nodes.len())
        .map(|index| (index, warm(&nodes[index])))
        .filter(|&(index, warm)| fits(need, &nodes[index], warm))
        .collect();
    fitting.sort_by_key(|&(index, warm)| {
        let node = &nodes[index];
        let zone = zone_percent(&node.zone, nodes) / ALIKE_PERCENT;
        let own = node.load.busy_percent / ALIKE_PERCENT;
        (!warm, zone, own, shuffle(need.chance, &node.node), Reverse(node.load.room_mib))
    });
    fitting.into_iter().take(TRIES_MAX).map(|(index, _)| index).collect()
}

/// How busy the nodes of a zone are, weighed by their cores. Nodes that take no work count: what they have, they have.
fn zone_percent(zone: &str, nodes: &[Neighbour]) -> u32 {
    let of = nodes.iter().filter(|node| node.zone == zone);
    let (busy, cores) = of.fold((0_u64, 0_u64), |(busy, cores), node| {
        let own = u64::from(node.cores.max(1));
        (busy + own * u64::from(node.load.busy_percent), cores + own)
    });
    u32::try_from(busy / cores.max(1)).unwrap_or(u32::MAX)
}

/// A number of a name and a chance, the same everywhere (FNV-1a).
fn shuffle(chance: u64, name: &str) -> u64 {
    let bytes = chance.to_le_bytes();
    let mixed = bytes.iter().chain(name.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rouse_types::node::Load;

    use super::*;

    fn node(name: &str, zone: &str, busy_percent: u32, room_mib: u64) -> Neighbour {
        Neighbour {
            node: name.to_owned(),
            zone: zone.to_owned(),
            address: Some("10.0.0.1:9".to_owned()),
            takes_work: true,
            isolations: vec![Isolation::Wasm, Isolation::Container],
            cores: 2,
            load: Load { busy_percent, room_mib, ..Load::default() },
        }
    }

    fn need(chance: u64) -> Need {
        Need { isolation: Isolation::Container, memory_mib: 256, chance }
    }

    fn names(need: &Need, nodes: &[Neighbour], warm: &[&str]) -> Vec<String> {
        let placed = place(need, nodes, |node| warm.contains(&node.node.as_str()));
        placed.into_iter().map(|index| nodes[index].node.clone()).collect()
    }

    #[test]
    fn a_warm_instance_goes_before_all_and_then_the_idlest_zone_and_node() {
        let nodes = [
            node("a", "one", 190, 4_096),
            node("b", "one", 10, 4_096),
            node("c", "two", 60, 4_096),
            node("d", "two", 5, 4_096),
            node("full", "two", 0, 128),
        ];
        assert_eq!(names(&need(1), &nodes, &["a"]), ["a", "d", "c"]);
        assert_eq!(names(&need(1), &nodes, &[]), ["d", "c", "b"]);
        // No room for another instance, but one that waits.
        assert_eq!(names(&need(1), &nodes, &["full"])[0], "full");
    }

    #[test]
    fn calls_that_are_alike_are_spread_over_nodes_that_are_alike() {
        let nodes: Vec<_> = (0..4).map(|n| node(&format!("n{n}"), "one", 10, 4_096)).collect();
        let mut first = [0; 4];
        for chance in 0..400 {
            first[place(&need(chance), &nodes, |_| false)[0]] += 1;
        }
        assert!(first.iter().all(|times| (50..200).contains(times)), "{first:?}");
    }

    fn any_node() -> impl Strategy<Value = Neighbour> {
        let isolations = proptest::sample::subsequence(vec![Isolation::Wasm, Isolation::Container], 0..=2);
        let load = (0..400_u32, 0..1_024_u64);
        (0..30_u8, 0..3_u8, any::<bool>(), isolations, 1..64_u32, load).prop_map(
            |(name, zone, takes_work, isolations, cores, (busy, room))| Neighbour {
                takes_work,
                isolations,
                cores,
                ..node(&format!("n{name}"), &format!("z{zone}"), busy, room)
            },
        )
    }

    proptest! {
        #[test]
        fn only_nodes_that_can_are_tried_each_once_and_the_warm_ones_first(
            nodes in proptest::collection::vec(any_node(), 0..12),
            wasm in any::<bool>(), memory_mib in 1..1_024_u64, chance: u64, warm in 0..30_u8,
        ) {
            let isolation = if wasm { Isolation::Wasm } else { Isolation::Container };
            let need = Need { isolation, memory_mib, chance };
            let is_warm = |node: &Neighbour| node.node == format!("n{warm}");
            let placed = place(&need, &nodes, is_warm);
            prop_assert_eq!(placed.iter().collect::<BTreeSet<_>>().len(), placed.len());
            let fitting = nodes.iter().filter(|node| fits(&need, node, is_warm(node))).count();
            prop_assert_eq!(placed.len(), fitting.min(TRIES_MAX), "no node that can is left out");
            for &index in &placed {
                let node = &nodes[index];
                prop_assert!(node.takes_work && node.isolations.contains(&isolation));
                prop_assert!(wasm || is_warm(node) || node.load.room_mib >= memory_mib);
            }
            prop_assert!(placed.is_sorted_by_key(|&index| !is_warm(&nodes[index])));
        }

        #[test]
        fn the_order_in_which_nodes_are_told_of_makes_no_difference(
            nodes in proptest::collection::btree_map("[a-z]{1,6}", any_node(), 0..10), chance: u64,
        ) {
            let mut nodes: Vec<_> =
                nodes.into_iter().map(|(name, node)| Neighbour { node: name, ..node }).collect();
            let forth = names(&need(chance), &nodes, &[]);
            nodes.reverse();
            prop_assert_eq!(forth, names(&need(chance), &nodes, &[]));
        }

        #[test]
        fn no_cold_node_is_tried_before_one_of_an_idler_zone(
            nodes in proptest::collection::vec(any_node(), 0..12), chance: u64,
        ) {
            let placed = place(&need(chance), &nodes, |_| false);
            let zones = placed.iter().map(|&index| zone_percent(&nodes[index].zone, &nodes) / ALIKE_PERCENT);
            prop_assert!(zones.collect::<Vec<_>>().is_sorted());
        }
    }
}
