//! What the pool knows of a version, of its calls and of each of its instances.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rouse_sandbox::Stats;
use rouse_scheduler::{Arrivals, Load, admit::RETRY_AFTER_MIN, backoff};
use rouse_types::{
    FunctionVersion, InstanceInfo, InstanceState, Refusal, Scaling, Timestamp, function::VersionKey,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{instance::Id, job::Job, timers};

/// Calls that one instance runs at once, whatever a version says: what Cloud Run takes at most.
const SLOTS_MAX: u32 = 1_000;

/// A version that callers may ask for.
pub(super) struct Known {
    pub(super) version: Arc<FunctionVersion>,
    /// Its own; once it is live no more, with the limit of the versions that are: its last callers shall not wait
    /// for a smaller one.
    pub(super) scaling: Scaling,
    /// Named by the newest snapshot of its app.
    pub(super) live: bool,
    pub(super) history: History,
    /// Its last start has failed.
    pub(super) broken: Option<Broken>,
}

/// The starts of a version that failed since the last that did not.
pub(super) struct Broken {
    pub(super) in_a_row: u32,
    pub(super) last: Instant,
    /// What went wrong last.
    pub(super) refusal: Refusal,
}

/// The newest snapshot of an app, as far as it is needed to apply the next one.
#[derive(Default)]
pub(super) struct App {
    pub(super) revision: u64,
    pub(super) live: Vec<VersionKey>,
}

/// What a function's calls were like: outlives its instances, and goes on with its next version.
#[derive(Clone, Default)]
pub(super) struct History {
    pub(super) arrivals: Box<Arrivals>,
    pub(super) last: Option<Instant>,
    pub(super) calls: u64,
    pub(super) cold: Duration,
}

/// What a version has while it has instances or waiting calls; otherwise there is none.
pub(super) struct Group {
    /// The last one used is the last one here, and is used first: the others grow old and go.
    pub(super) idle: Vec<Id>,
    /// Those that run calls and have slots left, by the number of their calls. They are used before idle ones, the
    /// busiest first, so that the others become idle and go.
    pub(super) partly: BTreeSet<(u32, Id)>,
    /// Instances that start.
    pub(super) starting: u32,
    /// Instances that take calls, now or once one of theirs has ended.
    pub(super) serving: u32,
    /// Calls.
    pub(super) running: u32,
    /// Calls that one instance runs at once.
    pub(super) slots: u32,
    pub(super) waiting: VecDeque<Job>,
    pub(super) queue_timer: Option<timers::Id>,
    /// About how long its idle instances are kept.
    pub(super) kept: Duration,
}

pub(super) struct Instance {
    pub(super) key: VersionKey,
    pub(super) version: Arc<FunctionVersion>,
    pub(super) name: String,
    pub(super) state: InstanceState,
    /// Its calls.
    pub(super) running: u32,
    /// Dropped to end it.
    pub(super) jobs: Option<mpsc::Sender<Job>>,
    pub(super) started: Timestamp,
    pub(super) memory_bytes: u64,
    pub(super) invocations: u64,
    pub(super) stats: Stats,
    pub(super) timer: Option<timers::Id>,
    /// Since when it is idle, if it is.
    pub(super) idle_since: Instant,
    pub(super) priority: f64,
}

impl Known {
    /// Counts a failed start that began then. Those that were under way together count as one: they say no more
    /// than one of them. Until when no other is tried.
    pub(super) fn start_failed(&mut self, begun: Instant, now: Instant, refusal: Refusal) -> Instant {
        let in_a_row = match &self.broken {
            Some(broken) if begun < broken.last => broken.in_a_row,
            Some(broken) => broken.in_a_row.saturating_add(1),
            None => 1,
        };
        self.broken = Some(Broken { in_a_row, last: now, refusal });
        now + backoff(in_a_row)
    }

    /// The refusal for who would need a start that is not tried yet.
    pub(super) fn refusal(&self, now: Instant) -> Option<Refusal> {
        let broken = self.broken.as_ref()?;
        let left = (broken.last + backoff(broken.in_a_row)).saturating_duration_since(now);
        (!left.is_zero()).then(|| broken.refusal.clone().retry_after(left.max(RETRY_AFTER_MIN)))
    }
}

impl Group {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            idle: Vec::new(),
            partly: BTreeSet::new(),
            starting: 0,
            serving: 0,
            running: 0,
            slots,
            waiting: VecDeque::new(),
            queue_timer: None,
            kept: Duration::ZERO,
        }
    }

    /// A call that was handed over and not begun waits on as if nothing had been: in the order of arrival.
    pub(super) fn wait_again(&mut self, job: Job) {
        let at = self.waiting.partition_point(|other| other.arrived < job.arrived);
        self.waiting.insert(at, job);
    }

    /// Whether no instance is there or comes that could serve who waits.
    pub(super) fn is_alone(&self) -> bool {
        self.serving == 0 && self.starting == 0
    }

    pub(super) fn load(&self) -> Load {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let partly: u32 = self.partly.iter().map(|(running, _)| self.slots.saturating_sub(*running)).sum();
        Load {
            running: self.running,
            free: partly.saturating_add(count(self.idle.len()).saturating_mul(self.slots)),
            starting: self.starting.saturating_mul(self.slots),
            waiting: count(self.waiting.len()),
            elsewhere: 0,
        }
    }

    /// Calls of the function's limit that it uses or will use at once, once its instances are there.
    pub(super) fn claimed(&self) -> u32 {
        let load = self.load();
        load.running + load.starting.min(load.waiting)
    }

    /// When the call arrived that would be served next: the first, or of those that no starting instance will take.
    pub(super) fn next_arrived(&self) -> Option<Instant> {
        let load = self.load();
        let covered = if load.free > 0 { 0 } else { load.starting as usize };
        self.waiting.get(covered).map(|job| job.arrived)
    }

    /// How long a call waits at most: as the function says, and while its first instance starts, as long as that
    /// may take. Who is refused just before is never told what is wrong with the code.
    pub(super) fn wait_max(&self, version: &FunctionVersion) -> Duration {
        let starts_first = self.starting > 0 && self.serving == 0;
        let init = if starts_first { version.limits.init_timeout_ms } else { 0 };
        Duration::from_millis(version.scaling.queue_timeout_ms.saturating_add(init))
    }

    /// Callers that went away wait no more. Only those in front are looked for: the others are met in time.
    pub(super) fn drop_cancelled(&mut self) {
        while self.waiting.front().is_some_and(|job| job.reply.is_closed()) {
            self.waiting.pop_front();
        }
    }
}

impl History {
    pub(super) fn arrived(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.arrivals.count(now.saturating_duration_since(last));
        }
        self.calls += 1;
    }

    /// The mean of cold starts, in which a new one counts for a quarter.
    pub(super) fn started(&mut self, cold: Duration) {
        self.cold = if self.cold.is_zero() { cold } else { (self.cold * 3 + cold) / 4 };
    }
}

impl Instance {
    pub(super) fn info(&self) -> InstanceInfo {
        InstanceInfo {
            tenant: self.key.tenant.clone(),
            app: self.version.app.clone(),
            function: self.key.function.clone(),
            version: self.key.number,
            id: self.name.clone(),
            isolation: self.version.isolation,
            state: self.state,
            started: self.started,
            invocations: self.invocations,
            memory_bytes: self.stats.memory_peak_bytes,
            cpu_us: self.stats.cpu_us,
        }
    }
}

/// Calls that one instance of a version runs at once.
pub(super) fn slots(version: &FunctionVersion) -> u32 {
    version.scaling.concurrency_per_instance.clamp(1, SLOTS_MAX)
}

/// What an instance of a version is counted with.
pub(super) fn memory_bytes(version: &FunctionVersion) -> u64 {
    u64::from(version.limits.memory_mib) << 20
}
