//! Invocations under way, counted in memory that all gateways share, so that a limit holds over all of them.
//!
//! A table of one row per function and one column per gateway. Each gateway writes its own column alone;
//! the count of a function is the sum of its row. A gateway that starts zeroes its column, so what a crash
//! left there is gone. A permit is taken by adding first and summing after: two gateways that race for the
//! last one may both step back and try again, but never both go over.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// Functions that may have a slot: bounds the table to 4 MiB, of which only what is touched takes memory.
pub const SLOTS_MAX: u32 = 65_536;
/// Gateways of one machine: a row is one cache line of 16 counters.
pub const GATEWAYS_MAX: usize = 16;

const _: () = assert!(GATEWAYS_MAX <= rouse_quota::GATEWAYS_MAX, "each has a column of the shared quotas");

const ROW_BYTES: usize = GATEWAYS_MAX * size_of::<u32>();

/// Why the table could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("cannot map the shared counters {}: {reason}", path.display())]
pub struct Error {
    path: PathBuf,
    reason: String,
}

/// The table, seen by one gateway.
#[derive(Debug)]
pub struct Counters {
    region: MmapRegion,
    column: usize,
}

impl Counters {
    /// Makes the file of the table; its pages come with their first use.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<(), Error> {
        let error = |error: std::io::Error| Error { path: path.to_owned(), reason: error.to_string() };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path).map_err(error)?;
        file.set_len(u64::from(SLOTS_MAX) * ROW_BYTES as u64).map_err(error)
    }

    /// Maps the table and zeroes the column of gateway `column`, which must be below [`GATEWAYS_MAX`].
    ///
    /// # Errors
    /// There is no such file, or it is not of the table's size.
    pub fn open(path: &Path, column: usize) -> Result<Self, Error> {
        let error = |reason: String| Error { path: path.to_owned(), reason };
        if column >= GATEWAYS_MAX {
            return Err(error(format!("gateway {column} is beyond the {GATEWAYS_MAX} that there may be")));
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| error(e.to_string()))?;
        let region = MmapRegion::from_file(FileOffset::new(file, 0), SLOTS_MAX as usize * ROW_BYTES)
            .map_err(|e| error(e.to_string()))?;
        let counters = Self { region, column };
        for slot in 0..SLOTS_MAX {
            // Reading a page that was never written costs no memory; writing it would.
            if let Some(cell) = counters.cell(slot, column).filter(|cell| cell.load(Ordering::Relaxed) != 0) {
                cell.store(0, Ordering::SeqCst);
            }
        }
        Ok(counters)
    }

    fn cell(&self, slot: u32, column: usize) -> Option<&AtomicU32> {
        if slot >= SLOTS_MAX {
            return None;
        }
        let offset = slot as usize * ROW_BYTES + column * size_of::<u32>();
        self.region.get_atomic_ref::<AtomicU32>(offset).ok()
    }

    /// Invocations of the function in `slot` that are under way on all gateways.
    #[must_use]
    pub fn under_way(&self, slot: u32) -> u32 {
        (0..GATEWAYS_MAX).filter_map(|column| self.cell(slot, column)).map(|c| c.load(Ordering::SeqCst)).sum()
    }

    /// Invocations of all functions that are under way on this gateway. A page that was never written costs no memory to read.
    #[must_use]
    pub fn own(&self) -> u32 {
        let cells = (0..SLOTS_MAX).filter_map(|slot| self.cell(slot, self.column));
        cells.map(|cell| cell.load(Ordering::Relaxed)).fold(0, u32::saturating_add)
    }

    /// Takes a permit if fewer than `max` are taken.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>, slot: u32, max: u32) -> Option<Permit> {
        let own = self.cell(slot, self.column)?;
        own.fetch_add(1, Ordering::SeqCst);
        let permit = Permit { counters: Arc::clone(self), slot };
        (self.under_way(slot) <= max).then_some(permit)
    }
}

/// One invocation under way. Dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    counters: Arc<Counters>,
    slot: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(own) = self.counters.cell(self.slot, self.counters.column) {
            own.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_over_all_gateways() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counters");
        Counters::create(&path).expect("a table");
        let gateways: Vec<_> =
            (0..3).map(|i| Arc::new(Counters::open(&path, i).expect("a column"))).collect();
        let permits: Vec<_> = gateways.iter().cycle().take(9).filter_map(|g| g.try_acquire(7, 4)).collect();
        assert_eq!(permits.len(), 4);
        assert_eq!(gateways[2].under_way(7), 4);
        assert!(gateways[0].try_acquire(8, 1).is_some(), "another function has its own count");
        drop(permits);
        assert_eq!(gateways[0].under_way(7), 0);
    }

    #[test]
    fn a_gateway_that_starts_again_gives_back_what_it_held() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counters");
        Counters::create(&path).expect("a table");
        let first = Arc::new(Counters::open(&path, 0).expect("a column"));
        let other = Arc::new(Counters::open(&path, 1).expect("a column"));
        std::mem::forget(first.try_acquire(1, 9));
        let _held = other.try_acquire(1, 9).expect("a permit");
        assert_eq!(other.under_way(1), 2);
        let again = Counters::open(&path, 0).expect("a column");
        assert_eq!(again.under_way(1), 1);
    }

    #[test]
    fn racing_threads_never_go_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counters");
        Counters::create(&path).expect("a table");
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for column in 0..4 {
                let counters = Arc::new(Counters::open(&path, column).expect("a column"));
                let (inside, most) = (&inside, &most);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if let Some(_permit) = counters.try_acquire(3, 2) {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }
}
