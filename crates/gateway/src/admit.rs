//! Lets as many calls of a function run as it may, and holds the rest: in order, bounded in number and time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rouse_types::{Code, FunctionVersion, Refusal, Work};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::counters::{Counters, Permit};

/// How often the first in line looks whether another gateway gave a permit back: those cannot wake it.
const POLL: Duration = Duration::from_millis(2);

/// Calls of one function that wait in this gateway.
#[derive(Debug, Default)]
struct Line {
    /// Held by the first in line; tokio's mutex is fair, so it is also the line.
    front: tokio::sync::Mutex<()>,
    given_back: Notify,
    waiting: std::sync::atomic::AtomicU32,
}

/// The admission of one gateway.
#[derive(Debug)]
pub(crate) struct Admission {
    counters: Arc<Counters>,
    instances: Arc<Semaphore>,
    gateways: u32,
    lines: Mutex<HashMap<u32, Arc<Line>>>,
}

/// Leave to run one call: of its function, and of this process' pool.
#[derive(Debug)]
pub(crate) struct Admitted {
    permit: Option<Permit>,
    line: Option<Arc<Line>>,
    _instance: OwnedSemaphorePermit,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.permit = None;
        if let Some(line) = &self.line {
            line.given_back.notify_one();
        }
    }
}

/// Whether one more may wait, where `waiting` do. The bound of a function is split over the gateways.
fn may_wait(waiting: u32, queue_max: u32, gateways: u32) -> bool {
    waiting < queue_max.div_ceil(gateways.max(1))
}

impl Admission {
    pub(crate) fn new(counters: Arc<Counters>, instances: u32, gateways: usize) -> Self {
        let instances = Arc::new(Semaphore::new(instances as usize));
        let gateways = u32::try_from(gateways).unwrap_or(u32::MAX);
        Self { counters, instances, gateways, lines: Mutex::default() }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<u32, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that run or wait in this gateway. Looks through the whole table: for who asks once a second, at most.
    pub(crate) fn work(&self) -> Work {
        let waiting = |line: &Arc<Line>| line.waiting.load(std::sync::atomic::Ordering::Relaxed);
        let waiting: u32 = self.lines().values().map(waiting).sum();
        Work { calls: self.counters.own().saturating_add(waiting), events: 0 }
    }

    /// Leave to run one call of `version`, whose function has this slot.
    pub(crate) async fn admit(&self, slot: u32, version: &FunctionVersion) -> Result<Admitted, Refusal> {
        let max = version.scaling.concurrency_max;
        let line = self.lines().get(&slot).cloned();
        if line.is_none()
            && let Ok(instance) = Arc::clone(&self.instances).try_acquire_owned()
            && let Some(permit) = self.counters.try_acquire(slot, max)
        {
            return Ok(Admitted { permit: Some(permit), line: None, _instance: instance });
        }
        self.wait(slot, version).await
    }

    async fn wait(&self, slot: u32, version: &FunctionVersion) -> Result<Admitted, Refusal> {
        use std::sync::atomic::Ordering::SeqCst;
        let scaling = &version.scaling;
        let line = Arc::clone(self.lines().entry(slot).or_default());
        let place = Place { admission: self, slot, line: &line };
        if !may_wait(line.waiting.fetch_add(1, SeqCst), scaling.queue_max, self.gateways) {
            return Err(Refusal::new(
                Code::TooManyRequests,
                format!("function '{}' already has {} calls waiting", version.function, scaling.queue_max),
            )
            .hint("call again later, or raise `queue_max` or `concurrency_max` of the function")
            .retry_after(Duration::from_secs(1)));
        }
        let until = Instant::now() + Duration::from_millis(scaling.queue_timeout_ms);
        let turn = async {
            let _front = line.front.lock().await;
            let instance = Arc::clone(&self.instances).acquire_owned().await.expect("never closed");
            loop {
                if let Some(permit) = self.counters.try_acquire(slot, scaling.concurrency_max) {
                    return Admitted {
                        permit: Some(permit),
                        line: Some(Arc::clone(&line)),
                        _instance: instance,
                    };
                }
                // Woken by a call that ends here, or by time for those that end elsewhere.
                let _ = tokio::time::timeout(POLL, line.given_back.notified()).await;
            }
        };
        let admitted = timeout_at(until, turn).await.map_err(|_| {
            Refusal::new(
                Code::CapacityExhausted,
                format!(
                    "no instance of function '{}' became free within {} ms",
                    version.function, scaling.queue_timeout_ms
                ),
            )
            .hint("call again later, or raise `concurrency_max` of the function")
            .retry_after(Duration::from_secs(1))
        });
        drop(place);
        admitted
    }
}

/// A place in a line: leaving it, also by giving up, takes the line away when it was the last.
struct Place<'a> {
    admission: &'a Admission,
    slot: u32,
    line: &'a Arc<Line>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.admission.lines();
        if self.line.waiting.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1 {
            lines.remove(&self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(concurrency_max: u32, queue_max: u32) -> FunctionVersion {
        let json = serde_json::json!({
            "tenant": "t", "app": "a", "function": "f", "number": 1,
            "digest": rouse_types::Digest::of(b""), "code": rouse_types::Digest::of(b""),
            "runtime": "component", "contract": "component", "handler": null, "isolation": "wasm", "env": {},
            "limits": rouse_types::Limits::default(),
            "scaling": rouse_types::Scaling {
                concurrency_max, queue_max, queue_timeout_ms: 5_000, ..Default::default()
            },
            "egress": [],
        });
        serde_json::from_value(json).expect("a version")
    }

    fn admission(dir: &tempfile::TempDir, instances: u32) -> Admission {
        let path = dir.path().join("counters");
        Counters::create(&path).expect("a table");
        Admission::new(Arc::new(Counters::open(&path, 0).expect("a column")), instances, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn one_over_the_limit_waits_and_goes_on_when_one_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let (admission, version) = (admission(&dir, 10), version(1, 10));
        let first = admission.admit(1, &version).await.expect("leave");
        let second = async { admission.admit(1, &version).await.expect("leave") };
        tokio::pin!(second);
        tokio::select! {
            _ = &mut second => panic!("two run where one may"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        drop(first);
        let _second = second.await;
        assert!(admission.lines().is_empty(), "nobody waits, so there is no line");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_when_to_come_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let (admission, version) = (admission(&dir, 10), version(1, 10));
        let _first = admission.admit(1, &version).await.expect("leave");
        let refusal = admission.admit(1, &version).await.expect_err("no permit was given back");
        assert_eq!(refusal.code, Code::CapacityExhausted);
        assert!(refusal.retry_after_ms.is_some());
        assert!(admission.lines().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_refuses_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (admission, version) = (admission(&dir, 10), version(1, 1));
        let _first = admission.admit(1, &version).await.expect("leave");
        let (second, third) = tokio::join!(admission.admit(1, &version), admission.admit(1, &version));
        assert_eq!(second.expect_err("it waits in vain").code, Code::CapacityExhausted);
        assert_eq!(third.expect_err("the line is full").code, Code::TooManyRequests);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pool_of_the_process_bounds_all_functions_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let (admission, version) = (admission(&dir, 1), version(10, 10));
        let first = admission.admit(1, &version).await.expect("leave");
        assert!(admission.admit(2, &version).await.is_err());
        drop(first);
        assert!(admission.admit(2, &version).await.is_ok());
    }
}
