//! The real placement code against simulated nodes: `fleet NODES SECONDS SEED` prints one JSON object.
//!
//! Simulated are the nodes, their clocks and the calls; real is [`rouse_scheduler::place`], with what it is told of other nodes as
//! old as in a cluster. Half of the calls come to one zone. A third of the way one node is lost, two thirds of the way a whole zone. Calls follow the published
//! statistics of the Azure Functions trace: durations log-normal(-0.38, 2.36) s, memory Burr(11.652, 0.221, 107.083) MB,
//! functions by Zipf's law (exponent 1.1).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    io::Write as _,
    time::Instant,
};

use rouse_scheduler::place::{Need, Places};
use rouse_types::{
    Isolation,
    function::VersionKey,
    node::{Load, Neighbour, WARM_MAX},
};
use serde_json::json;

const ZONES: usize = 3;
const CORES: u32 = 16;
const MEMORY_MIB: u32 = 64 << 10;
/// What others know of a node is told this often, and forgotten when it was not told for so long.
const TOLD_EVERY_US: u64 = 1_000_000;
const FORGOTTEN_AFTER_US: u64 = 5_000_000;
/// Calls that run on a node at once for each of its cores, at most.
const CALLS_PER_CORE: u32 = 4;
/// A call is over after this.
const DURATION_MAX_S: f64 = 60.0;
/// How much of the nodes' memory, or of their cores, calls take, by their mean.
const USE: f64 = 0.55;
/// Durations and sizes that a mean is made of.
const DRAWS: u32 = 10_000;
/// Placements that are timed alone.
const TIMED: usize = 20_000;

/// A generator of its own, so that a seed gives the same run everywhere (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In (0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count.max(1) as u64).unwrap_or(0)
    }

    fn duration_s(&mut self) -> f64 {
        let (radius, angle) = (self.unit(), self.unit());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        (2.36_f64.mul_add(normal, -0.38)).exp().min(DURATION_MAX_S)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size within bounds")]
    fn memory_mib(&mut self) -> u64 {
        let (c, k, scale) = (11.652, 0.221, 107.083);
        let value: f64 = scale * (self.unit().powf(-1.0 / k) - 1.0).powf(1.0 / c);
        value.clamp(64.0, 2_048.0) as u64
    }
}

struct Node {
    lost_at_us: Option<u64>,
    room_mib: u64,
    running: u32,
    /// Instances that wait, the one that has waited for longest first.
    idle: VecDeque<usize>,
}

#[derive(Default)]
struct Counted {
    calls: u64,
    handed_on: u64,
    refused: u64,
    /// Under way on what was lost.
    lost: u64,
    /// Of each second, what was refused or lost.
    failed: BTreeMap<u64, u64>,
}

/// What is called: its name, and the memory of an instance.
struct Function {
    version: VersionKey,
    memory_mib: u64,
}

struct Fleet {
    chance: Chance,
    now_us: u64,
    nodes: Vec<Node>,
    functions: Vec<Function>,
    /// The functions' shares of calls, summed.
    shares: Vec<f64>,
    places: Places,
    ends: BinaryHeap<Reverse<(u64, usize, usize)>>,
    counted: Counted,
}

impl Fleet {
    fn new(count: usize, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let tenant = "tenant".parse().unwrap_or_else(|_| unreachable!("a name"));
        let functions: Vec<Function> = (0..count * 20)
            .map(|number| {
                let function = format!("f-{number}").parse().unwrap_or_else(|_| unreachable!("a name"));
                let version = VersionKey { tenant: Clone::clone(&tenant), function, number: 1 };
                Function { version, memory_mib: chance.memory_mib() }
            })
            .collect();
        let shares = functions.iter().enumerate().scan(0.0, |sum, (rank, _)| {
            *sum += (f64::from(u32::try_from(rank).unwrap_or(u32::MAX)) + 1.0).powf(-1.1);
            Some(*sum)
        });
        let shares = shares.collect();
        let node =
            |_| Node { lost_at_us: None, room_mib: MEMORY_MIB.into(), running: 0, idle: VecDeque::new() };
        let nodes = (0..count).map(node).collect();
        let places = Places::new(Vec::new());
        let (ends, counted) = (BinaryHeap::new(), Counted::default());
        Self { chance, now_us: 0, nodes, functions, shares, places, ends, counted }
    }

    /// What each node tells of itself, but those that have told nothing for too long.
    fn tell(&mut self) {
        let now_us = self.now_us;
        let known = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.lost_at_us.is_none_or(|lost| now_us < lost + FORGOTTEN_AFTER_US));
        let neighbours = known.map(|(number, node)| {
            let mut warm: Vec<usize> = node.idle.iter().copied().collect();
            warm.sort_unstable();
            warm.dedup();
            let idle: u64 = node.idle.iter().map(|function| self.functions[*function].memory_mib).sum();
            let warm = warm.iter().take(WARM_MAX).map(|function| self.functions[*function].version.clone());
            Neighbour {
                node: format!("node-{number}"),
                zone: format!("zone-{}", number % ZONES),
                address: Some("192.0.2.1:7000".to_owned()),
                takes_work: true,
                isolations: vec![Isolation::Wasm, Isolation::Container],
                cores: CORES,
                load: Load {
                    // Instances that wait make room.
                    room_mib: node.room_mib + idle,
                    budget_mib: MEMORY_MIB.into(),
                    busy_percent: node.running * 100 / CORES,
                    warm: warm.collect(),
                },
            }
        });
        self.places = Places::new(neighbours.collect());
    }

    /// Begins a call on a node if there is a place for it.
    fn take(&mut self, number: usize, function: usize) -> bool {
        let (node, memory_mib) = (&mut self.nodes[number], self.functions[function].memory_mib);
        if node.lost_at_us.is_some() || node.running >= CORES * CALLS_PER_CORE {
            return false;
        }
        if let Some(at) = node.idle.iter().position(|idle| *idle == function) {
            node.idle.remove(at);
        } else {
            while node.room_mib < memory_mib {
                let Some(oldest) = node.idle.pop_front() else { return false };
                node.room_mib += self.functions[oldest].memory_mib;
            }
            node.room_mib -= memory_mib;
        }
        node.running += 1;
        true
    }

    fn call(&mut self) {
        self.counted.calls += 1;
        let total = self.shares.last().copied().unwrap_or_default();
        let drawn = self.chance.unit() * total;
        let function = self.shares.partition_point(|sum| *sum < drawn).min(self.functions.len() - 1);
        // Whoever spreads calls over the nodes tries another where a connection is refused.
        let first = loop {
            // Half of them come to one zone alone, which has no room for all of them.
            let number = match self.chance.below(2) {
                0 => self.chance.below(self.nodes.len() / ZONES) * ZONES,
                _ => self.chance.below(self.nodes.len()),
            };
            if self.nodes[number].lost_at_us.is_none() {
                break number;
            }
        };
        let taken = self.take(first, function).then_some(first).or_else(|| {
            let chance = self.chance.next();
            let Function { version, memory_mib } = &self.functions[function];
            let need = Need { version, isolation: Isolation::Container, memory_mib: *memory_mib, chance };
            let tries: Vec<usize> =
                self.places.find(&need).iter().filter_map(|node| number_of(&node.node)).collect();
            self.counted.handed_on += 1;
            tries.into_iter().find(|number| *number != first && self.take(*number, function))
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a minute at most")]
        let lasts_us = (self.chance.duration_s() * 1e6) as u64;
        match taken {
            Some(number) => self.ends.push(Reverse((self.now_us + lasts_us, number, function))),
            None => {
                self.counted.refused += 1;
                *self.counted.failed.entry(self.now_us / 1_000_000).or_default() += 1;
            }
        }
    }

    fn lose(&mut self, is_lost: impl Fn(usize) -> bool) {
        let lost = self
            .nodes
            .iter_mut()
            .enumerate()
            .filter(|(number, node)| is_lost(*number) && node.lost_at_us.is_none());
        for (_, node) in lost {
            node.lost_at_us = Some(self.now_us);
            self.counted.lost += u64::from(node.running);
            *self.counted.failed.entry(self.now_us / 1_000_000).or_default() += u64::from(node.running);
        }
    }

    fn end(&mut self, number: usize, function: usize) {
        let node = &mut self.nodes[number];
        if node.lost_at_us.is_none() {
            node.running -= 1;
            node.idle.push_back(function);
        }
    }

    /// From `begun`, the seconds until no call fails any more, for good or until `until`.
    fn settled_s(&self, begun: u64, until: u64) -> u64 {
        let last = self.counted.failed.range(begun..until).next_back();
        last.map_or(0, |(second, _)| second + 1 - begun)
    }

    /// Between two calls, on average: so that they take their part of the memory or of the cores, whichever is less.
    fn every_us(&mut self) -> f64 {
        let nodes = f64::from(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let (mut seconds, mut mib_s) = (0.0, 0.0);
        for _ in 0..DRAWS {
            let duration = self.chance.duration_s();
            seconds += duration;
            mib_s += duration * f64::from(u32::try_from(self.chance.memory_mib()).unwrap_or(u32::MAX));
        }
        let memory = nodes * f64::from(MEMORY_MIB) / (mib_s / f64::from(DRAWS));
        let cores = nodes * f64::from(CORES * CALLS_PER_CORE) / (seconds / f64::from(DRAWS));
        1e6 / (USE * memory.min(cores))
    }

    /// Lets calls come for so many seconds. A node is lost after a third of them, a zone after two.
    fn run(&mut self, seconds: u64) {
        let every_us = self.every_us();
        let (mut next_us, mut told_us) = (0.0, 0_u64);
        let (node_lost_us, zone_lost_us) = (seconds * 1_000_000 / 3, seconds * 2_000_000 / 3);
        while self.now_us < seconds * 1_000_000 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of a run's length")]
            let call_us = next_us as u64;
            let end_us = self.ends.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            let before = self.now_us;
            self.now_us = call_us.min(end_us).min(told_us);
            if before < node_lost_us && node_lost_us <= self.now_us {
                self.lose(|number| number == 0);
            }
            if before < zone_lost_us && zone_lost_us <= self.now_us {
                self.lose(|number| number % ZONES == 1);
            }
            if self.now_us == told_us {
                self.tell();
                told_us += TOLD_EVERY_US;
            } else if self.now_us == end_us {
                if let Some(Reverse((_, number, function))) = self.ends.pop() {
                    self.end(number, function);
                }
            } else {
                self.call();
                next_us += -every_us * self.chance.unit().ln();
            }
        }
    }
}

fn number_of(node: &str) -> Option<usize> {
    node.rsplit_once('-')?.1.parse().ok()
}

/// Memory of this process, in bytes.
fn memory_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or_default() * 4_096
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(nodes)), Some(Ok(seconds)), Some(Ok(seed))) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("fleet NODES SECONDS SEED: three numbers".into());
    };
    let count = usize::try_from(nodes).unwrap_or(usize::MAX);
    let mut fleet = Fleet::new(count, seed);
    fleet.run(seconds);
    // What nodes told at the end, and calls as they come, on one core.
    fleet.tell();
    let told = fleet.places.nodes().to_vec();
    let begun = Instant::now();
    let places = Places::new(told);
    let ordered = begun.elapsed();
    let mut took: Vec<u64> = (0..TIMED)
        .map(|_| {
            let function = &fleet.functions[fleet.chance.below(fleet.functions.len())];
            let need = Need {
                version: &function.version,
                isolation: Isolation::Container,
                memory_mib: function.memory_mib,
                chance: fleet.chance.next(),
            };
            let begun = Instant::now();
            std::hint::black_box(places.find(std::hint::black_box(&need)));
            u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    let sum: u64 = took.iter().sum();
    took.sort_unstable();
    let (node_lost, zone_lost) = (seconds / 3, seconds * 2 / 3);
    let counted = &fleet.counted;
    let found = json!({
            "nodes": nodes, "placements_per_s": TIMED as u64 * 1_000_000_000 / sum.max(1),
            "p99_ns": took[TIMED * 99 / 100], "order_us": u64::try_from(ordered.as_micros()).unwrap_or(u64::MAX),
            "memory_bytes": memory_bytes(), "calls": counted.calls, "handed_on": counted.handed_on, "refused": counted.refused,
            "lost": counted.lost, "node_settled_s": fleet.settled_s(node_lost, zone_lost),
            "zone_settled_s": fleet.settled_s(zone_lost, seconds),
    });
    Ok(writeln!(std::io::stdout(), "{found}")?)
}
