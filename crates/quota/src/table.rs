//! The table that all processes share: a file that each maps, of atomics.
//!
//! | row of a tenant, cells of 8 bytes | |
//! |---|---|
//! | 0 | when its next call is due, by [`crate::next`] |
//! | 1 … 17 | calls under way that no reserved share holds, by process |
//! | 18 … 34 | their memory and that of all others, in MiB, by process |
//! | 35 … | two banks, for months with an even and an odd number |
//!
//! | bank | |
//! |---|---|
//! | 0 | the month's number and 1; zero while how it stands is not known |
//! | 1 | what was spent besides the cells below, modulo 2^64 |
//! | 2 | the cap |
//! | 3 … 19 | what is set aside, by process |
//! | 20 … 36 | what calls came to, by process; only ever grows |
//!
//! | row of a function | |
//! |---|---|
//! | 0 | when its next call is due |
//! | 1 … 17 | calls under way in its reserved share, by process |
//!
//! Each process writes its own column. Something is taken by adding first and summing after: of two who race for the last
//! both may step back and try again, but never do both go over. What is set aside is read before what was spent, and
//! given back after that was added, so that no reader ever sees less than both together.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

use vm_memory::{FileOffset, MmapRegion, VolatileMemory as _};

use crate::budget::{Balance, Short, decide};

/// Tenants with limits.
pub const TENANTS_MAX: u32 = 4_096;
/// Functions with limits of their own, of all tenants.
pub const FUNCTIONS_MAX: u32 = 8_192;
/// Gateways of one machine.
pub const GATEWAYS_MAX: usize = 16;
/// The node's column: the one after the gateways'.
pub const NODE: usize = GATEWAYS_MAX;
const COLUMNS: usize = GATEWAYS_MAX + 1;

const CELL_BYTES: usize = size_of::<u64>();
const TENANT_CELLS: usize = 128;
const FUNCTION_CELLS: usize = 32;
const TENANTS_BYTES: usize = TENANTS_MAX as usize * TENANT_CELLS * CELL_BYTES;
const BYTES: usize = TENANTS_BYTES + FUNCTIONS_MAX as usize * FUNCTION_CELLS * CELL_BYTES;

const DUE: usize = 0;
const CALLS: usize = 1;
const MEMORY: usize = CALLS + COLUMNS;
const BANKS: usize = MEMORY + COLUMNS;
const BANK_CELLS: usize = 3 + 2 * COLUMNS;
const LABEL: usize = 0;
const BASE: usize = 1;
const CAP: usize = 2;
const RESERVED: usize = 3;
const SPENT: usize = RESERVED + COLUMNS;
const _: () = assert!(BANKS + 2 * BANK_CELLS <= TENANT_CELLS && CALLS + COLUMNS <= FUNCTION_CELLS);

/// How often one tries who found no room: another may have been about to step back, which takes nanoseconds.
const TRIES_MAX: usize = 4;

/// Why the table could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("cannot map the shared quotas {}: {reason}", path.display())]
pub struct Error {
    path: PathBuf,
    reason: String,
}

/// The table, mapped.
#[derive(Debug)]
pub struct Table {
    region: MmapRegion,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    Tenant(u32),
    Function(u32),
}

/// Cells of one row that sum to what is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gauge {
    Calls,
    Memory,
}

impl Table {
    /// Makes the file; its pages come with their first use.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> Result<(), Error> {
        let error = |error: std::io::Error| Error { path: path.to_owned(), reason: error.to_string() };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        options.open(path).map_err(error)?.set_len(BYTES as u64).map_err(error)
    }

    /// Maps it.
    ///
    /// # Errors
    /// There is no such file, or it is not of the table's size.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let error = |reason: String| Error { path: path.to_owned(), reason };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| error(e.to_string()))?;
        let region = MmapRegion::from_file(FileOffset::new(file, 0), BYTES);
        Ok(Self { region: region.map_err(|e| error(e.to_string()))? })
    }

    /// Zeroes what the process with this column holds: it has just started, so that it holds nothing. What calls came
    /// to stays.
    pub(crate) fn begin(&self, column: usize) {
        let tenants = (0..TENANTS_MAX).flat_map(|row| {
            let held = [CALLS, MEMORY, BANKS + RESERVED, BANKS + BANK_CELLS + RESERVED];
            held.map(|at| (Row::Tenant(row), at + column))
        });
        let functions = (0..FUNCTIONS_MAX).map(|row| (Row::Function(row), CALLS + column));
        for (row, at) in tenants.chain(functions) {
            // Reading a page that was never written costs no memory; writing it would.
            if let Some(cell) = self.cell(row, at).filter(|cell| cell.load(Relaxed) != 0) {
                cell.store(0, SeqCst);
            }
        }
    }

    fn cell(&self, row: Row, at: usize) -> Option<&AtomicU64> {
        let (first, cells, row) = match row {
            Row::Tenant(row) if row < TENANTS_MAX => (0, TENANT_CELLS, row),
            Row::Function(row) if row < FUNCTIONS_MAX => (TENANTS_BYTES, FUNCTION_CELLS, row),
            _ => return None,
        };
        self.region.get_atomic_ref(first + (row as usize * cells + at) * CELL_BYTES).ok()
    }

    /// The sum of a row's cells of all processes from `at` on; nothing where it is beyond 2^64.
    fn sum(&self, row: Row, at: usize) -> Option<u64> {
        let mut cells = (at..at + COLUMNS).filter_map(|at| self.cell(row, at));
        cells.try_fold(0, |sum: u64, cell| sum.checked_add(cell.load(SeqCst)))
    }

    /// When the row's next call is due.
    pub(crate) fn due(&self, row: Row) -> Option<&AtomicU64> {
        self.cell(row, DUE)
    }

    /// Adds `much` to a gauge if it stays within `max`.
    pub(crate) fn take(&self, row: Row, gauge: Gauge, column: usize, much: u64, max: u64) -> bool {
        let at = gauge.at();
        let Some(own) = self.cell(row, at + column) else { return false };
        for _ in 0..TRIES_MAX {
            if !add(own, much) {
                return false;
            }
            if self.sum(row, at).is_some_and(|sum| sum <= max) {
                return true;
            }
            give(own, much);
        }
        false
    }

    /// Gives back what [`Table::take`] took.
    pub(crate) fn give(&self, row: Row, gauge: Gauge, column: usize, much: u64) {
        if let Some(own) = self.cell(row, gauge.at() + column) {
            give(own, much);
        }
    }

    fn bank(&self, tenant: u32, month: u64, at: usize) -> Option<&AtomicU64> {
        self.cell(Row::Tenant(tenant), BANKS + usize::from(month % 2 == 1) * BANK_CELLS + at)
    }

    fn is_open(&self, tenant: u32, month: u64) -> bool {
        self.bank(tenant, month, LABEL).is_some_and(|label| label.load(SeqCst) == month + 1)
    }

    /// Sets `worst` aside for a call of this month.
    pub(crate) fn reserve(&self, tenant: u32, column: usize, month: u64, worst: u64) -> Result<(), Short> {
        let own = self.bank(tenant, month, RESERVED + column).ok_or(Short::Unknown)?;
        let mut short = Short::Reserved;
        for _ in 0..TRIES_MAX {
            if !add(own, worst) {
                return Err(Short::Exhausted);
            }
            // Ours is in it now; without it, it is what others have set aside.
            match self.balance(tenant, month) {
                None => short = Short::Unknown,
                Some(Balance { reserved, .. }) if reserved < worst => {}
                Some(balance) => {
                    let others = Balance { reserved: balance.reserved - worst, ..balance };
                    match decide(others, worst) {
                        Ok(()) => return Ok(()),
                        Err(why) => short = why,
                    }
                }
            }
            give(own, worst);
            if short != Short::Reserved {
                break;
            }
        }
        Err(short)
    }

    /// Gives back what was set aside.
    pub(crate) fn release(&self, tenant: u32, column: usize, month: u64, worst: u64) {
        if let Some(own) = self.bank(tenant, month, RESERVED + column) {
            give(own, worst);
        }
    }

    /// Adds what a call came to. To be called before its record is written, and before what was set aside is given back.
    pub(crate) fn spend(&self, tenant: u32, column: usize, month: u64, cost: u64) {
        if let Some(own) = self.bank(tenant, month, SPENT + column) {
            own.fetch_add(cost, SeqCst);
        }
    }

    /// How a month stands, if that is known.
    #[must_use]
    pub fn balance(&self, tenant: u32, month: u64) -> Option<Balance> {
        if !self.is_open(tenant, month) {
            return None;
        }
        let row = Row::Tenant(tenant);
        let first = BANKS + usize::from(month % 2 == 1) * BANK_CELLS;
        // A sum beyond all bounds lets nothing in.
        let reserved = self.sum(row, first + RESERVED).unwrap_or(u64::MAX);
        let base = self.bank(tenant, month, BASE)?.load(SeqCst);
        let spent = base.wrapping_add(self.spent(tenant, month));
        Some(Balance { cap: self.bank(tenant, month, CAP)?.load(SeqCst), spent, reserved })
    }

    /// What processes have added for a month and those before it, modulo 2^64.
    #[must_use]
    pub fn spent(&self, tenant: u32, month: u64) -> u64 {
        let cells = (0..COLUMNS).filter_map(|column| self.bank(tenant, month, SPENT + column));
        cells.fold(0, |sum: u64, cell| sum.wrapping_add(cell.load(SeqCst)))
    }

    /// Says what a month came to so far, `known`, beside what [`Table::spent`] said before that was found out; and the
    /// cap. From then on calls of the month may begin.
    pub fn open_month(&self, tenant: u32, month: u64, known: u64, seen: u64, cap: u64) {
        let cell = |at| self.bank(tenant, month, at);
        if let (Some(label), Some(base), Some(most)) = (cell(LABEL), cell(BASE), cell(CAP)) {
            label.store(0, SeqCst);
            base.store(known.wrapping_sub(seen), SeqCst);
            most.store(cap, SeqCst);
            label.store(month + 1, SeqCst);
        }
    }

    /// Sets another cap for a month that stands open; tells whether it does.
    #[must_use]
    pub fn set_cap(&self, tenant: u32, month: u64, cap: u64) -> bool {
        let most = self.bank(tenant, month, CAP).filter(|_| self.is_open(tenant, month));
        most.inspect(|most| most.store(cap, SeqCst)).is_some()
    }

    /// Forgets how a tenant's months stand: nothing begins until [`Table::open_month`] was called.
    pub fn close(&self, tenant: u32) {
        for label in [0, 1].into_iter().filter_map(|month| self.bank(tenant, month, LABEL)) {
            label.store(0, SeqCst);
        }
    }
}

impl Gauge {
    fn at(self) -> usize {
        match self {
            Self::Calls => CALLS,
            Self::Memory => MEMORY,
        }
    }
}

fn add(cell: &AtomicU64, much: u64) -> bool {
    cell.fetch_update(SeqCst, SeqCst, |now| now.checked_add(much)).is_ok()
}

/// Never below zero, which would be as if everything was taken.
fn give(cell: &AtomicU64, much: u64) {
    let _ = cell.fetch_update(SeqCst, SeqCst, |now| Some(now.saturating_sub(much)));
}
