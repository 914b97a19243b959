//! Counts the CPU time that a future takes, poll by poll, by the kernel's clock of this thread.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::time::{ClockId, clock_gettime};

/// This thread's CPU time, in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A boxed future and the CPU time that its polls took.
pub(crate) struct Metered<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    ns: u64,
}

impl<T> Metered<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Box::pin(future), ns: 0 }
    }

    /// Another future that goes on counting where `before` stands.
    pub(crate) fn resumed(future: impl Future<Output = T> + Send + 'static, before: &Self) -> Self {
        Self { future: Box::pin(future), ns: before.ns }
    }

    /// CPU time so far, in microseconds, rounded up: what ran took at least one.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.ns.div_ceil(1_000)
    }
}

impl<T> Future for Metered<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let before = thread_cpu_ns();
        let poll = self.future.as_mut().poll(cx);
        self.ns += thread_cpu_ns().saturating_sub(before);
        poll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_computes_is_counted_and_one_that_waits_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut waits =
            Metered::new(async { tokio::time::sleep(std::time::Duration::from_millis(50)).await });
        runtime.block_on(&mut waits);
        let mut computes = Metered::new(async {
            let start = thread_cpu_ns();
            while thread_cpu_ns() - start < 20_000_000 {
                std::hint::spin_loop();
            }
        });
        runtime.block_on(&mut computes);
        assert!(computes.cpu_us() >= 20_000, "{}", computes.cpu_us());
        assert!(waits.cpu_us() < computes.cpu_us(), "{}", waits.cpu_us());
    }
}
