//! All instances and all waiting calls of the node, and every decision about them. Synchronous: what is decided
//! comes out as orders (to start) and dropped senders (to end).

mod instances;
mod memory;
mod snapshots;
mod starts;
mod state;
mod waiting;
mod warm;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rouse_scheduler::{Admission, GreedyDual, Load, Reason, admit};
use rouse_types::{
    AppName, Code, InstanceInfo, InstanceState, Refusal, TenantId,
    function::{SharedVersion, VersionKey},
};
use tokio::{sync::watch, time::Instant};

use self::{
    snapshots::RETIRE,
    starts::Starts,
    state::{App, Group, Instance, Known, memory_bytes, slots},
};
use crate::{
    instance::{Around, Event, Id, Order},
    job::Job,
    metrics::Levels,
    timers::Timers,
};

/// Things that the pool does at a time.
#[derive(Debug)]
pub(crate) enum Timer {
    /// An instance was idle for long enough.
    KeepAlive(Id),
    /// The oldest call of a version has waited for long enough.
    Queue(VersionKey),
    /// An instance has been starting for so long that another may.
    Start(Id),
    /// A version that did not start may be tried again.
    Retry(VersionKey),
    /// A version is forgotten.
    Retire(VersionKey),
}

pub(crate) struct Pool {
    around: Around,
    budget_bytes: u64,
    reserved_bytes: u64,
    /// Of instances that end.
    ending_bytes: u64,
    /// Of instances that take no more calls, and end once those that they run have ended.
    draining_bytes: u64,
    known: BTreeMap<VersionKey, Known>,
    apps: HashMap<(TenantId, AppName), App>,
    groups: BTreeMap<VersionKey, Group>,
    instances: HashMap<Id, Instance>,
    /// Versions with waiting calls that found no memory, in the order in which they asked.
    starved: VecDeque<VersionKey>,
    starts: Starts,
    timers: Timers<Timer>,
    evictions: GreedyDual,
    orders: Vec<Order>,
    next: Id,
    prefix: String,
    closing: bool,
    versions: watch::Sender<Versions>,
}

/// Versions that may be called. Read by whoever takes requests.
pub(crate) type Versions = HashMap<VersionKey, SharedVersion>;

impl Pool {
    pub(crate) fn new(around: Around, budget_bytes: u64, starts_max: u32) -> Self {
        // Names must differ from those that a killed predecessor left to the spawner.
        let prefix = format!("i{:x}", around.clock.now().as_millis());
        Self {
            around,
            budget_bytes,
            reserved_bytes: 0,
            ending_bytes: 0,
            draining_bytes: 0,
            known: BTreeMap::new(),
            apps: HashMap::new(),
            groups: BTreeMap::new(),
            instances: HashMap::new(),
            starved: VecDeque::new(),
            starts: Starts::new(starts_max),
            timers: Timers::default(),
            evictions: GreedyDual::default(),
            orders: Vec::new(),
            next: 0,
            prefix,
            closing: false,
            versions: watch::Sender::default(),
        }
    }

    /// Which versions may be called.
    pub(crate) fn versions(&self) -> watch::Receiver<Versions> {
        self.versions.subscribe()
    }

    /// What is to be started, decided since the last time.
    pub(crate) fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// When [`Pool::tick`] must be called next.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// Takes a call.
    pub(crate) fn call(&mut self, job: Job) {
        let key = job.key();
        let now = Instant::now();
        if self.closing {
            return self.refuse(
                job,
                Refusal::new(Code::NodeUnavailable, "this node is ending")
                    .retry_after(Duration::from_secs(1)),
            );
        }
        let Some(known) = self.known.get_mut(&key) else {
            let refusal = Refusal::new(Code::FunctionNotFound, format!("{key} is not known to this node"));
            return self.refuse(job, refusal.hint("deploy it again, or ask for a version that is live"));
        };
        known.history.arrived(now);
        let (version, scaling) = (Arc::clone(&known.version), known.scaling.clone());
        if memory_bytes(&version) > self.budget_bytes {
            let text =
                format!("{key} wants {} MiB, more than this node has for all", version.limits.memory_mib);
            return self.refuse(job, Refusal::new(Code::CapacityExhausted, text).hint("lower `memory`"));
        }
        if job.request.body.announced() > version.limits.request_body_bytes {
            let most = version.limits.request_body_bytes;
            let text = format!("{key} takes a body of {most} bytes at most");
            return self.refuse(
                job,
                Refusal::new(Code::PayloadTooLarge, text).hint("send less, or raise its limit"),
            );
        }
        let group = self.group(&key);
        if group.waiting.len() >= scaling.queue_max as usize {
            group.waiting.retain(|job| !job.reply.is_closed());
        }
        match admit(self.load(&key), &scaling) {
            Admission::Run | Admission::Hold { .. } => self.group(&key).waiting.push_back(job),
            Admission::Refuse { reason, retry_after } => {
                let text = match reason {
                    Reason::QueueFull => {
                        format!("{} invocations already wait for {key}", scaling.queue_max)
                    }
                    Reason::Disabled => format!("{key} may run no invocation: its concurrency is 0"),
                    Reason::Throttled => {
                        format!(
                            "{} invocations of {key} run already, as many as may",
                            scaling.concurrency_max
                        )
                    }
                };
                self.refuse(job, Refusal::new(Code::TooManyRequests, text).retry_after(retry_after));
            }
        }
        self.scale(&key);
    }

    /// Takes news of an instance.
    pub(crate) fn event(&mut self, id: Id, event: Event) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let key = instance.key.clone();
        match event {
            Event::Ready(milestones) => {
                self.ready(id, &key, &milestones);
                self.start_over(id);
            }
            Event::Failed(failure) => {
                self.remove(id);
                self.start_failed(&key, *failure);
            }
            Event::Done(stats) => {
                instance.invocations += 1;
                instance.stats = stats;
                self.done(id, &key);
            }
            Event::Frozen if instance.state == InstanceState::Idle => instance.state = InstanceState::Frozen,
            Event::Frozen => {}
            Event::Returned(job) => {
                self.group(&key).wait_again(*job);
                self.end(id);
                self.done(id, &key);
            }
            Event::Ending => self.end(id),
            Event::Gone => {
                self.end(id);
                self.remove(id);
            }
        }
        self.feed_starved();
        self.feed_starts();
        self.scale(&key);
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::KeepAlive(id) => {
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.timer = None;
                        let key = instance.key.clone();
                        // Without a timer from now on: it stays, whoever calls.
                        if self.is_kept_warm(&key) {
                            continue;
                        }
                        self.end(id);
                        self.tidy(&key);
                    }
                }
                Timer::Start(id) => {
                    self.start_over(id);
                    self.feed_starts();
                }
                Timer::Queue(key) => self.expire(&key, now),
                Timer::Retry(key) => self.scale(&key),
                Timer::Retire(key) => {
                    let forgotten = self.known.get(&key).is_some_and(|known| !known.live);
                    if forgotten && !self.groups.contains_key(&key) {
                        self.versions.send_if_modified(|versions| versions.remove(&key).is_some());
                        self.known.remove(&key);
                    } else if forgotten {
                        self.timers.set(now + RETIRE, Timer::Retire(key));
                    }
                }
            }
        }
    }

    /// Takes no more calls; instances end once they are idle.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        let keys: Vec<_> = self.groups.keys().cloned().collect();
        for key in keys {
            self.end_idle(&key);
        }
    }

    /// Whether nothing runs or waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.groups.values().all(|group| group.running == 0 && group.waiting.is_empty())
    }

    /// Ends all instances, busy ones too.
    pub(crate) fn end_all(&mut self) {
        self.around.over.send_replace(true);
        let ids: Vec<_> = self.instances.keys().copied().collect();
        for id in ids {
            self.end(id);
        }
    }

    pub(crate) fn list(&self) -> Vec<InstanceInfo> {
        let mut all: Vec<_> = self.instances.values().map(Instance::info).collect();
        all.sort_by(|a, b| (&a.tenant, &a.function, &a.id).cmp(&(&b.tenant, &b.function, &b.id)));
        all
    }

    pub(crate) fn levels(&self) -> Levels {
        let mut levels = Levels { reserved_bytes: self.reserved_bytes, ..Levels::default() };
        levels.lost = self.around.journals.lost();
        for instance in self.instances.values() {
            levels.instances[instance.state as usize] += 1;
        }
        let waiting = self.groups.values().map(|group| group.waiting.len()).sum::<usize>();
        levels.waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        levels.running = self.groups.values().map(|group| group.running).sum();
        levels
    }

    fn group(&mut self, key: &VersionKey) -> &mut Group {
        let slots = || self.known.get(key).map_or(1, |known| slots(&known.version));
        self.groups.entry(key.clone()).or_insert_with(|| Group::new(slots()))
    }

    /// All versions of a version's function that have instances or waiting calls, itself among them.
    fn siblings<'a>(&'a self, key: &'a VersionKey) -> impl Iterator<Item = (&'a VersionKey, &'a Group)> {
        let all = self.groups.range(VersionKey { number: 0, ..key.clone() }..);
        all.take_while(move |(other, _)| other.tenant == key.tenant && other.function == key.function)
    }

    /// A version's own load, and what the others of its function run.
    fn load(&self, key: &VersionKey) -> Load {
        let others = self.siblings(key).filter(|(other, _)| *other != key);
        let elsewhere = others.map(|(_, group)| group.claimed()).sum();
        let own = self.groups.get(key).map(Group::load).unwrap_or_default();
        Load { elsewhere, ..own }
    }

    /// A version without instances and calls has no group.
    fn tidy(&mut self, key: &VersionKey) {
        let lacking = self.lacking(key);
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.waiting.is_empty() {
            self.timers.cancel(group.queue_timer.take());
        }
        if group.waiting.is_empty() && lacking == 0 {
            self.starved.retain(|starved| starved != key);
            self.starts.forget(key);
        }
        if group.waiting.is_empty() && group.is_alone() && group.running == 0 {
            self.groups.remove(key);
        }
    }
}
