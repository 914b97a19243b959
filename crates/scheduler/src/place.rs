//! Which other node runs a call that this one cannot run, or has no room for: warm instance first, else the best node.
//!
//! What is known of nodes is as old as what they told last, about a second; so calls that are alike are spread over what
//! is alike, and nobody is sure to have room. Whoever is asked first and does not answer is followed by the next.
//!
//! Nodes are put in order when they tell, once, so that a call looks at a few of them however many there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
};

use rouse_types::{Isolation, function::VersionKey, node::Neighbour};

/// How many nodes are tried for one call: more would wait longer than they help.
pub const TRIES_MAX: usize = 3;
/// Loads that differ by less, in percent of a node, are alike: what is a second old tells no more.
const ALIKE_PERCENT: u32 = 25;
/// Nodes of a zone that a call looks at, for the ones with the least to do: were it all of them, all calls of a second would go to
/// the same few ("the power of two choices", Mitzenmacher 2001).
const LOOKS: usize = 8;
const ISOLATIONS: [Isolation; 2] = [Isolation::Wasm, Isolation::Container];

/// What a call needs of the node that runs it.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// What is called.
    pub version: &'a VersionKey,
    /// How its code is confined.
    pub isolation: Isolation,
    /// The memory of an instance, in MiB.
    pub memory_mib: u64,
    /// Two calls with different numbers go to different nodes of those that are alike.
    pub chance: u64,
}

/// Whether a node has a place for the call at all.
#[must_use]
pub fn fits(need: &Need<'_>, node: &Neighbour) -> bool {
    let room = match need.isolation {
        // Components run in place, in whatever memory gateways have.
        Isolation::Wasm => true,
        Isolation::Container => {
            node.load.room_mib >= need.memory_mib || node.load.warm.contains(need.version)
        }
    };
    node.takes_work && node.isolations.contains(&need.isolation) && room
}

/// Nodes, as they told of themselves last, in order.
#[derive(Debug)]
pub struct Places {
    nodes: Vec<Neighbour>,
    /// For each isolation its nodes, by how busy their zone is; of those that are alike, the ones with the most room first.
    cold: [BTreeMap<u32, Vec<usize>>; 2],
    /// By a version's hash the nodes that have it warm, by how busy their zone is. Two versions may share one.
    warm: HashMap<u64, Vec<(u32, usize)>>,
    hasher: RandomState,
}

impl Places {
    /// Puts nodes in order. Nodes that take no work have no place, and count for how busy their zone is.
    #[must_use]
    pub fn new(nodes: Vec<Neighbour>) -> Self {
        let zones = zones(&nodes);
        let hasher = RandomState::new();
        let mut cold = [BTreeMap::<u32, Vec<usize>>::new(), BTreeMap::new()];
        let mut warm = HashMap::<u64, Vec<(u32, usize)>>::new();
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.takes_work) {
            let zone = zones.get(node.zone.as_str()).copied().unwrap_or_default() / ALIKE_PERCENT;
            for (of, isolation) in cold.iter_mut().zip(&ISOLATIONS) {
                if node.isolations.contains(isolation) {
                    of.entry(zone).or_default().push(index);
                }
            }
            for version in &node.load.warm {
                warm.entry(hasher.hash_one(version)).or_default().push((zone, index));
            }
        }
        for alike in cold.iter_mut().flat_map(BTreeMap::values_mut) {
            alike.sort_by_key(|&index| (Reverse(nodes[index].load.room_mib), &nodes[index].node));
        }
        for alike in warm.values_mut() {
            alike.sort_by_key(|&(zone, index)| (zone, &nodes[index].node));
        }
        Self { nodes, cold, warm, hasher }
    }

    /// The nodes that there are.
    #[must_use]
    pub fn nodes(&self) -> &[Neighbour] {
        &self.nodes
    }

    /// The nodes to try, the best first: warm ones, then those of the zone with the least to do; of either those with the least to do
    /// among some. At most [`TRIES_MAX`], and as many if so many can.
    #[must_use]
    pub fn find(&self, need: &Need<'_>) -> Vec<&Neighbour> {
        let mut found = Vec::with_capacity(TRIES_MAX);
        let warm = self.warm.get(&self.hasher.hash_one(need.version)).map_or(&[][..], Vec::as_slice);
        for alike in warm.chunk_by(|(one, _), (other, _)| one == other) {
            self.look(need, alike.len(), |at| alike[at].1, &mut found, true);
        }
        let cold = ISOLATIONS.iter().position(|one| *one == need.isolation).map(|at| &self.cold[at]);
        for alike in cold.into_iter().flat_map(BTreeMap::values) {
            let with_room = match need.isolation {
                Isolation::Wasm => alike.len(),
                Isolation::Container => {
                    alike.partition_point(|&index| self.nodes[index].load.room_mib >= need.memory_mib)
                }
            };
            self.look(need, with_room, |at| alike[at], &mut found, false);
        }
        found.into_iter().map(|index| &self.nodes[index]).collect()
    }

    /// Looks at some nodes of a row, from a place in it that the call's chance says, and takes those with the least to do.
    fn look(
        &self,
        need: &Need<'_>,
        count: usize,
        at: impl Fn(usize) -> usize,
        found: &mut Vec<usize>,
        warm: bool,
    ) {
        if found.len() >= TRIES_MAX {
            return;
        }
        let begin = usize::try_from(need.chance % count.max(1) as u64).unwrap_or_default();
        let can = |index: &usize| {
            let node = &self.nodes[*index];
            !found.contains(index) && fits(need, node) && (!warm || node.load.warm.contains(need.version))
        };
        let mut seen: Vec<usize> = (begin..count).chain(0..begin).map(at).filter(can).take(LOOKS).collect();
        seen.sort_by_key(|&index| self.nodes[index].load.busy_percent / ALIKE_PERCENT);
        seen.truncate(TRIES_MAX - found.len());
        found.append(&mut seen);
    }
}

/// How busy each zone is in percent, its nodes weighed by their cores. Nodes that take no work count: what they have, they have.
fn zones(nodes: &[Neighbour]) -> HashMap<&str, u32> {
    let mut sums = HashMap::<&str, (u64, u64)>::new();
    for node in nodes {
        let (busy, cores) = sums.entry(node.zone.as_str()).or_default();
        let own = u64::from(node.cores.max(1));
        *busy += own * u64::from(node.load.busy_percent);
        *cores += own;
    }
    let percent = |(busy, cores): (u64, u64)| u32::try_from(busy / cores.max(1)).unwrap_or(u32::MAX);
    sums.into_iter().map(|(zone, sum)| (zone, percent(sum))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rouse_types::node::Load;

    use super::*;

    fn version(number: u64) -> VersionKey {
        VersionKey { tenant: "t".parse().expect("a name"), function: "f".parse().expect("a name"), number }
    }

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

    fn warm(mut node: Neighbour, number: u64) -> Neighbour {
        node.load.warm.push(version(number));
        node
    }

    fn names(places: &Places, isolation: Isolation, memory_mib: u64, chance: u64) -> Vec<&str> {
        let version = version(1);
        let need = Need { version: &version, isolation, memory_mib, chance };
        places.find(&need).into_iter().map(|node| node.node.as_str()).collect()
    }

    #[test]
    fn a_warm_instance_goes_before_all_and_then_the_idlest_zone_and_node() {
        let nodes = || {
            vec![
                node("a", "one", 190, 4_096),
                node("b", "one", 10, 4_096),
                node("c", "two", 60, 4_096),
                node("d", "two", 5, 4_096),
                node("full", "two", 0, 128),
            ]
        };
        let find = |nodes| Places::new(nodes);
        let places = find(nodes());
        assert_eq!(names(&places, Isolation::Container, 256, 1), ["d", "c", "b"]);
        let mut with_a = nodes();
        with_a[0] = warm(with_a[0].clone(), 1);
        assert_eq!(names(&find(with_a), Isolation::Container, 256, 1), ["a", "d", "c"]);
        // No room for another instance, but one that waits.
        let mut with_full = nodes();
        with_full[4] = warm(with_full[4].clone(), 1);
        assert_eq!(names(&find(with_full), Isolation::Container, 256, 1)[0], "full");
        let mut another = nodes();
        another[4] = warm(another[4].clone(), 2);
        assert_eq!(names(&find(another), Isolation::Container, 256, 1), ["d", "c", "b"]);
    }

    #[test]
    fn of_nodes_that_are_looked_at_the_idlest_are_taken() {
        let nodes = || (0..5).map(|n| node(&format!("n{n}"), "one", 500 - 100 * n, 4_096)).collect();
        for chance in 0..20 {
            assert_eq!(names(&Places::new(nodes()), Isolation::Container, 256, chance), ["n4", "n3", "n2"]);
        }
    }

    #[test]
    fn calls_that_are_alike_are_spread_over_nodes_that_are_alike() {
        let nodes: Vec<_> = (0..4).map(|n| node(&format!("n{n}"), "one", 10, 4_096)).collect();
        let mut first = BTreeMap::<String, u32>::new();
        let places = Places::new(nodes);
        for chance in 0..400_u64 {
            let chance = chance.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *first.entry(names(&places, Isolation::Container, 256, chance)[0].to_owned()).or_default() += 1;
        }
        assert!(first.len() == 4 && first.values().all(|times| (50..200).contains(times)), "{first:?}");
    }

    fn any_node() -> impl Strategy<Value = Neighbour> {
        let isolations = proptest::sample::subsequence(ISOLATIONS.to_vec(), 0..=2);
        let load = (0..400_u32, 0..1_024_u64, proptest::collection::vec(1..3_u64, 0..2));
        (0..3_u8, any::<bool>(), isolations, 1..64_u32, load).prop_map(
            |(zone, takes_work, isolations, cores, (busy, room, versions))| {
                let plain = node("", &format!("z{zone}"), busy, room);
                versions.into_iter().fold(Neighbour { takes_work, isolations, cores, ..plain }, warm)
            },
        )
    }

    fn fleet() -> impl Strategy<Value = Vec<Neighbour>> {
        proptest::collection::btree_map("[a-z]{1,6}", any_node(), 0..12).prop_map(|nodes| {
            nodes.into_iter().map(|(name, node)| Neighbour { node: name, ..node }).collect()
        })
    }

    proptest! {
        #[test]
        fn only_nodes_that_can_are_tried_each_once_and_the_best_first(
            nodes in fleet(), wasm in any::<bool>(), memory_mib in 1..1_024_u64, chance: u64,
        ) {
            let isolation = if wasm { Isolation::Wasm } else { Isolation::Container };
            let (places, version) = (Places::new(nodes.clone()), version(1));
            let need = Need { version: &version, isolation, memory_mib, chance };
            let found = places.find(&need);
            let tried: BTreeSet<_> = found.iter().map(|node| &node.node).collect();
            prop_assert_eq!(tried.len(), found.len());
            prop_assert!(found.iter().all(|node| fits(&need, node)));
            // By the order as it is said, of all nodes: none that was left out is better than one that was taken.
            let zones = zones(&nodes);
            let rank = |node: &Neighbour| {
                (!node.load.warm.contains(&version), zones[node.zone.as_str()] / ALIKE_PERCENT)
            };
            let mut ranks: Vec<_> = nodes.iter().filter(|node| fits(&need, node)).map(rank).collect();
            ranks.sort_unstable();
            ranks.truncate(TRIES_MAX);
            prop_assert_eq!(found.into_iter().map(rank).collect::<Vec<_>>(), ranks);
        }

        #[test]
        fn the_order_in_which_nodes_are_told_of_makes_no_difference(mut nodes in fleet(), chance: u64) {
            let places = Places::new(nodes.clone());
            nodes.reverse();
            let backwards = Places::new(nodes);
            let container = Isolation::Container;
            prop_assert_eq!(names(&places, container, 256, chance), names(&backwards, container, 256, chance));
        }
    }
}
