//! Counts the CPU time of polls, by the kernel's clock of this thread.

use rustix::time::{ClockId, clock_gettime};

/// This thread's CPU time, in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// CPU time that was counted so far. Reading the clock is a system call of a quarter of a microsecond, so what
/// is polled together is counted together.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Meter {
    ns: u64,
}

impl Meter {
    /// Counts what `work` takes.
    pub(crate) fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu_ns();
        let result = work();
        self.ns += thread_cpu_ns().saturating_sub(before);
        result
    }

    /// CPU time so far, in microseconds, rounded up: what ran took at least one.
    pub(crate) fn us(self) -> u64 {
        self.ns.div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use std::{thread::sleep, time::Duration};

    use super::*;

    #[test]
    fn computing_is_counted_and_waiting_is_not() {
        let mut waits = Meter::default();
        waits.count(|| sleep(Duration::from_millis(50)));
        let mut computes = Meter::default();
        computes.count(|| {
            let start = thread_cpu_ns();
            while thread_cpu_ns() - start < 20_000_000 {
                std::hint::spin_loop();
            }
        });
        assert!(computes.us() >= 20_000, "{computes:?}");
        assert!(waits.us() < computes.us(), "{waits:?}");
    }
}
