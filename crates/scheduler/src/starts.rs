//! How many instances start at the same time.
//!
//! Starting is work for the CPU. When more start than there are cores for, each takes longer and none is earlier,
//! until all of them miss the time that their code has for it: three hundred interpreters at once on two cores begin
//! to answer when the last is ready. Some at a time, and the first serve while the others wait; what can be forked
//! from the first (a zygote) is there for the rest.

use std::time::Duration;

/// Starts for each core: while one waits for a disk or for the spawner, others use the CPU.
pub const STARTS_PER_CORE: u32 = 4;
/// A start that takes longer than this no longer counts: its code may be waiting for somebody else (a database, a
/// sleep), and a function that does must not keep those of others from starting. It also bounds from below how many
/// start on a machine whose CPU is taken by others: eight a second and core.
pub const START_HOLD: Duration = Duration::from_millis(500);

/// How many instances may be starting at the same time on a machine with so many cores.
#[must_use]
pub fn starts_max(cores: usize) -> u32 {
    u32::try_from(cores.max(1)).unwrap_or(u32::MAX).saturating_mul(STARTS_PER_CORE)
}
