//! Rows of tables that processes share: who has which. Each live function has one in the gateways' counters, each tenant
//! and function with limits one in the quotas.

use std::collections::{BTreeSet, VecDeque};

/// Slots of functions that there are: the size of the gateways' tables.
pub(crate) const FUNCTIONS_MAX: u32 = 1 << 16;

/// The slots that no function has. Fresh ones are given first, then those that were given back longest ago:
/// a gateway may still count the last calls of a function that was deleted a moment ago.
#[derive(Debug)]
pub(crate) struct Slots {
    fresh: u32,
    most: u32,
    returned: VecDeque<u32>,
}

impl Slots {
    /// All of `most` but those that are taken.
    pub(crate) fn without(taken: &BTreeSet<u32>, most: u32) -> Self {
        let fresh = taken.last().map_or(0, |last| last + 1);
        Self { fresh, most, returned: (0..fresh).filter(|slot| !taken.contains(slot)).collect() }
    }

    /// A slot, if there is one left.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.fresh < self.most {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        self.returned.pop_front()
    }

    /// Gives slots back.
    pub(crate) fn give(&mut self, slots: impl IntoIterator<Item = u32>) {
        self.returned.extend(slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_slot_is_given_twice_and_returned_ones_come_last() {
        let mut slots = Slots::without(&BTreeSet::from([0, 2]), 100);
        assert_eq!(slots.take(), Some(3));
        slots.give([3]);
        let rest: Vec<u32> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(rest.len(), 100 - 2);
        assert_eq!(rest.iter().collect::<BTreeSet<_>>().len(), rest.len());
        assert_eq!(&rest[rest.len() - 2..], [1, 3]);
        assert!(!rest.contains(&0) && !rest.contains(&2));
    }
}
