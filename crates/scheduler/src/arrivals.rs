//! When calls of one function come: a histogram of the times between them.
//!
//! After M. Shahrad et al., "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a
//! Large Cloud Provider", USENIX ATC 2020, §4: a bounded histogram of idle times for each function, whose
//! percentiles say how long to keep an instance. They use bins of one minute up to four hours; ours are
//! logarithmic, four to a doubling from a millisecond to four hours, since our cold starts take milliseconds
//! and a minute is too coarse for them.

use std::time::Duration;

/// Bins of one doubling.
const PER_OCTAVE: u32 = 4;
/// From 1 ms to 2^24 ms, 4.6 hours.
const OCTAVES: u32 = 24;
const BINS: usize = (PER_OCTAVE * OCTAVES) as usize;
/// When this many times are counted, all counts are halved: what is recent weighs more, and no count can overflow.
const COUNTED_MAX: u32 = 1_000;

/// The times between the calls of one function, counted. About 200 bytes.
#[derive(Debug, Clone)]
pub struct Arrivals {
    bins: [u16; BINS],
    /// Longer than the last bin.
    beyond: u16,
    counted: u32,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { bins: [0; BINS], beyond: 0, counted: 0 }
    }
}

impl Arrivals {
    /// Counts one time between two calls.
    pub fn count(&mut self, between: Duration) {
        if self.counted >= COUNTED_MAX {
            self.halve();
        }
        match bin(between) {
            Some(bin) => self.bins[bin] += 1,
            None => self.beyond += 1,
        }
        self.counted += 1;
    }

    /// How many times it knows of; old ones count for less.
    #[must_use]
    pub fn counted(&self) -> u32 {
        self.counted
    }

    /// The time within which this share of calls followed the one before, in hundredths; rounded up to its bin's
    /// end. None when nothing was counted, or when the share lies beyond what is measured.
    #[must_use]
    pub fn percentile(&self, percent: u32) -> Option<Duration> {
        if self.counted == 0 {
            return None;
        }
        let wanted = (u64::from(self.counted) * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        for (bin, &count) in self.bins.iter().enumerate() {
            seen += u64::from(count);
            if seen >= wanted {
                return Some(bin_end(bin));
            }
        }
        None
    }

    fn halve(&mut self) {
        self.counted = 0;
        for count in self.bins.iter_mut().chain([&mut self.beyond]) {
            *count /= 2;
            self.counted += u32::from(*count);
        }
    }
}

/// The bin of a time; none if it is beyond the last.
fn bin(between: Duration) -> Option<usize> {
    let ms = u64::try_from(between.as_millis()).unwrap_or(u64::MAX).max(1);
    let octave = ms.ilog2();
    // The two bits below the highest one say which quarter of the octave it is.
    let quarter = ((ms << 2) >> octave) & 3;
    let bin = octave as usize * PER_OCTAVE as usize + usize::try_from(quarter).unwrap_or(0);
    (bin < BINS).then_some(bin)
}

fn bin_end(bin: usize) -> Duration {
    let (octave, quarter) = (bin / PER_OCTAVE as usize, bin as u64 % u64::from(PER_OCTAVE));
    Duration::from_micros((1_000u64 << octave) * (5 + quarter) / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_counted_says_nothing() {
        assert_eq!(Arrivals::default().percentile(50), None);
    }

    #[test]
    fn what_is_beyond_four_hours_has_no_percentile() {
        let mut arrivals = Arrivals::default();
        arrivals.count(Duration::from_secs(86_400));
        assert_eq!(arrivals.percentile(99), None);
    }

    #[test]
    fn what_is_recent_outweighs_what_is_old() {
        let mut arrivals = Arrivals::default();
        for _ in 0..5_000 {
            arrivals.count(Duration::from_secs(60));
        }
        for _ in 0..5_000 {
            arrivals.count(Duration::from_millis(10));
        }
        let median = arrivals.percentile(50).expect("counted");
        assert!(median < Duration::from_millis(20), "{median:?}");
    }

    proptest! {
        #[test]
        fn a_percentile_lies_within_a_quarter_octave_above_the_true_one(
            mut times in prop::collection::vec(1u64..10_000_000, 1..500), percent in 1u32..=100,
        ) {
            let mut arrivals = Arrivals::default();
            for &ms in &times {
                arrivals.count(Duration::from_millis(ms));
            }
            times.sort_unstable();
            let rank = (times.len() as u64 * u64::from(percent)).div_ceil(100).max(1) - 1;
            let exact = Duration::from_millis(times[usize::try_from(rank).expect("small")]);
            let found = arrivals.percentile(percent).expect("all are within the bins");
            prop_assert!(found > exact, "{found:?} {exact:?}");
            prop_assert!(found <= exact.mul_f64(1.26) + Duration::from_millis(1), "{found:?} {exact:?}");
        }
    }
}
