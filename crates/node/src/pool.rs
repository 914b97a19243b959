//! All instances and all waiting calls of the node, and every decision about them. Synchronous: what is decided
//! comes out as orders (to start) and dropped senders (to end).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rouse_sandbox::Stats;
use rouse_scheduler::{
    Admission, Arrivals, Candidate, GreedyDual, Load, Reason, admit, keep_alive, starts_wanted,
};
use rouse_types::{
    AppName, AppSnapshot, Code, Contract, FunctionVersion, InstanceInfo, InstanceState, Outcome, Refusal,
    TenantId, Timestamp, function::VersionKey,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    call,
    instance::{Around, Event, Id, Order, StartFailure},
    job::{Job, Milestones, Reply},
    metrics::Levels,
    timers::{self, Timers},
};

/// How long a version that is live no more is still run for gateways that have not heard of it.
const RETIRE: Duration = Duration::from_secs(60);

/// Things that the pool does at a time.
#[derive(Debug)]
pub(crate) enum Timer {
    /// An instance was idle for long enough.
    KeepAlive(Id),
    /// The oldest call of a version has waited for long enough.
    Queue(VersionKey),
    /// A version is forgotten.
    Retire(VersionKey),
}

/// A version that callers may ask for.
struct Known {
    version: Arc<FunctionVersion>,
    /// Named by the newest snapshot of its app.
    live: bool,
    history: History,
}

/// The newest snapshot of an app, as far as it is needed to apply the next one.
#[derive(Default)]
struct App {
    revision: u64,
    live: Vec<VersionKey>,
}

/// What a function's calls were like: outlives its instances, and goes on with its next version.
#[derive(Clone, Default)]
struct History {
    arrivals: Box<Arrivals>,
    last: Option<Instant>,
    calls: u64,
    cold: Duration,
}

/// What a version has while it has instances or waiting calls; otherwise there is none.
#[derive(Default)]
struct Group {
    /// The last one used is the last one here, and is used first: the others grow old and go.
    idle: Vec<Id>,
    starting: u32,
    running: u32,
    waiting: VecDeque<Job>,
    queue_timer: Option<timers::Id>,
}

struct Instance {
    key: VersionKey,
    version: Arc<FunctionVersion>,
    name: String,
    state: InstanceState,
    /// Dropped to end it.
    jobs: Option<mpsc::Sender<Job>>,
    started: Timestamp,
    memory_bytes: u64,
    invocations: u64,
    stats: Stats,
    timer: Option<timers::Id>,
    /// Since when it is idle, if it is.
    idle_since: Instant,
    priority: f64,
}

pub(crate) struct Pool {
    around: Around,
    budget_bytes: u64,
    reserved_bytes: u64,
    /// Of instances that end.
    ending_bytes: u64,
    known: BTreeMap<VersionKey, Known>,
    apps: HashMap<(TenantId, AppName), App>,
    groups: HashMap<VersionKey, Group>,
    instances: HashMap<Id, Instance>,
    /// Versions with waiting calls that found no memory, in the order in which they asked.
    starved: VecDeque<VersionKey>,
    timers: Timers<Timer>,
    evictions: GreedyDual,
    orders: Vec<Order>,
    next: Id,
    prefix: String,
    closing: bool,
}

impl Pool {
    pub(crate) fn new(around: Around, budget_bytes: u64) -> Self {
        // Names must differ from those that a killed predecessor left to the spawner.
        let prefix = format!("i{:x}", around.clock.now().as_millis());
        Self {
            around,
            budget_bytes,
            reserved_bytes: 0,
            ending_bytes: 0,
            known: BTreeMap::new(),
            apps: HashMap::new(),
            groups: HashMap::new(),
            instances: HashMap::new(),
            starved: VecDeque::new(),
            timers: Timers::default(),
            evictions: GreedyDual::default(),
            orders: Vec::new(),
            next: 0,
            prefix,
            closing: false,
        }
    }

    /// What is to be started, decided since the last time.
    pub(crate) fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// When [`Pool::tick`] must be called next.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// Puts a snapshot in force: new versions can be called, those it does not name end when they are idle.
    pub(crate) fn apply(&mut self, snapshot: AppSnapshot) {
        let id = (snapshot.tenant, snapshot.app);
        let before = self.apps.remove(&id).unwrap_or_default();
        if before.revision > snapshot.revision {
            self.apps.insert(id, before);
            return;
        }
        let versions = snapshot.functions.iter().flat_map(|route| route.versions.values());
        let live: BTreeMap<_, _> = versions
            .filter(|version| version.contract() == Contract::Lambda)
            .map(|version| (version.key(), version))
            .collect();
        for (key, version) in &live {
            if let Some(known) = self.known.get_mut(key) {
                known.live = true;
                continue;
            }
            // It goes on with what is known of the version before it.
            let mut older = self.known.range(..key).rev();
            let same = older
                .next()
                .filter(|(other, _)| (&other.tenant, &other.function) == (&key.tenant, &key.function));
            let history = same.map(|(_, known)| known.history.clone()).unwrap_or_default();
            self.known.insert(key.clone(), Known { version: Arc::clone(version), live: true, history });
        }
        let gone: Vec<_> = before.live.into_iter().filter(|key| !live.contains_key(key)).collect();
        for key in &gone {
            if let Some(known) = self.known.get_mut(key) {
                known.live = false;
            }
        }
        if !snapshot.functions.is_empty() {
            let live = live.into_keys().collect();
            self.apps.insert(id, App { revision: snapshot.revision, live });
        }
        for key in gone {
            self.timers.set(Instant::now() + RETIRE, Timer::Retire(key.clone()));
            self.end_idle(&key);
        }
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
        let version = Arc::clone(&known.version);
        if memory_bytes(&version) > self.budget_bytes {
            let text =
                format!("{key} wants {} MiB, more than this node has for all", version.limits.memory_mib);
            return self.refuse(job, Refusal::new(Code::CapacityExhausted, text).hint("lower `memory`"));
        }
        if job.request.body.len() as u64 > version.limits.request_body_bytes {
            let most = version.limits.request_body_bytes;
            let text = format!("{key} takes a body of {most} bytes at most");
            return self.refuse(
                job,
                Refusal::new(Code::PayloadTooLarge, text).hint("send less, or raise its limit"),
            );
        }
        let group = self.groups.entry(key.clone()).or_default();
        if group.waiting.len() >= version.scaling.queue_max as usize {
            group.waiting.retain(|job| !job.reply.is_closed());
        }
        match admit(group.load(), &version.scaling) {
            Admission::Run | Admission::Hold { .. } => {
                group.waiting.push_back(job);
                self.scale(&key);
            }
            Admission::Refuse { reason, retry_after } => {
                let text = match reason {
                    Reason::QueueFull => {
                        format!("{} invocations already wait for {key}", version.scaling.queue_max)
                    }
                    Reason::Disabled => format!("{key} may run no invocation: its concurrency is 0"),
                };
                self.refuse(job, Refusal::new(Code::TooManyRequests, text).retry_after(retry_after));
            }
        }
        self.tidy(&key);
    }

    /// Takes news of an instance.
    pub(crate) fn event(&mut self, id: Id, event: Event) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let key = instance.key.clone();
        match event {
            Event::Ready(milestones) => self.ready(id, &key, &milestones),
            Event::Failed(failure) => {
                self.remove(id);
                self.start_failed(&key, *failure);
            }
            Event::Done(stats) => {
                instance.invocations += 1;
                instance.stats = stats;
                // If it was wished to end meanwhile, it is counted no more.
                if instance.jobs.is_some() {
                    self.group(&key).running -= 1;
                    self.rest(id, &key);
                }
            }
            Event::Frozen if instance.state == InstanceState::Idle => instance.state = InstanceState::Frozen,
            Event::Frozen => {}
            Event::Returned(job) => {
                // It came first, and waits on as if nothing had been.
                self.group(&key).waiting.push_front(*job);
                self.end(id);
                self.scale(&key);
            }
            Event::Ending => self.end(id),
            Event::Gone => {
                self.end(id);
                self.remove(id);
            }
        }
        self.feed_starved();
        self.scale(&key);
        self.tidy(&key);
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::KeepAlive(id) => {
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.timer = None;
                        let key = instance.key.clone();
                        self.end(id);
                        self.tidy(&key);
                    }
                }
                Timer::Queue(key) => self.expire(&key, now),
                Timer::Retire(key) => {
                    let forgotten = self.known.get(&key).is_some_and(|known| !known.live);
                    if forgotten && !self.groups.contains_key(&key) {
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
        levels
    }

    fn ready(&mut self, id: Id, key: &VersionKey, milestones: &Milestones) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.jobs.is_none() {
            return;
        }
        if let Some(known) = self.known.get_mut(key) {
            known.history.started(milestones.ready.saturating_duration_since(milestones.begun));
        }
        self.group(key).starting -= 1;
        self.rest(id, key);
    }

    /// An instance has nothing to do: it serves who waits, gives way, or is kept for a while.
    fn rest(&mut self, id: Id, key: &VersionKey) {
        let now = Instant::now();
        let live = self.known.get(key).is_some_and(|known| known.live) && !self.closing;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.state = InstanceState::Idle;
        let group = self.groups.entry(key.clone()).or_default();
        group.drop_cancelled();
        let own_oldest = group.waiting.front().map(|job| now.saturating_duration_since(job.arrived));
        group.idle.push(id);
        if own_oldest.is_none() && !live {
            return self.end(id);
        }
        let (kept, priority) = self.known.get(key).map_or((Duration::ZERO, 0.0), |known| {
            let memory = memory_bytes(&known.version);
            let history = &known.history;
            (
                keep_alive(history.cold, &history.arrivals),
                self.evictions.priority(history.calls, history.cold, memory),
            )
        });
        let timer = self.timers.set(now + kept, Timer::KeepAlive(id));
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.timer = Some(timer);
            instance.idle_since = now;
            instance.priority = priority;
        }
        if self.gives_way(id, key, own_oldest, now) {
            self.end(id);
            return;
        }
        self.scale(key);
    }

    /// Whether the version that has starved longest has waited longer than this one's oldest call, and the memory
    /// of this instance would be enough for it: otherwise both would lose.
    fn gives_way(&self, id: Id, key: &VersionKey, own_oldest: Option<Duration>, now: Instant) -> bool {
        let (Some(instance), Some(_)) = (self.instances.get(&id), own_oldest) else { return false };
        let others = self.starved.iter().filter(|other| *other != key);
        let oldest = others.filter_map(|other| Some((self.oldest(other)?, other))).min();
        let Some((arrived, other)) = oldest else { return false };
        let needed = self.known.get(other).map_or(u64::MAX, |known| memory_bytes(&known.version));
        let free = self.budget_bytes.saturating_sub(self.reserved_bytes);
        // Memory that is being set free already is enough for now.
        self.ending_bytes == 0
            && needed <= free + instance.memory_bytes
            && rouse_scheduler::admit::gives_way(own_oldest, now.saturating_duration_since(arrived))
    }

    /// When the oldest of a version's waiting calls arrived.
    fn oldest(&self, key: &VersionKey) -> Option<Instant> {
        Some(self.groups.get(key)?.waiting.front()?.arrived)
    }

    /// Hands waiting calls to idle instances, and starts what is wanted beyond.
    fn scale(&mut self, key: &VersionKey) {
        let Some(known) = self.known.get(key) else { return };
        let (version, scaling) = (Arc::clone(&known.version), known.version.scaling.clone());
        loop {
            let group = self.groups.entry(key.clone()).or_default();
            group.drop_cancelled();
            if group.waiting.is_empty() || group.running >= scaling.concurrency_max {
                break;
            }
            let Some(id) = group.idle.pop() else { break };
            let Some(job) = group.waiting.pop_front() else { break };
            group.running += 1;
            self.hand_over(id, key, job);
        }
        let wanted = starts_wanted(self.group(key).load(), &scaling, 1, u32::MAX);
        let bytes = memory_bytes(&version);
        for _ in 0..wanted {
            if self.closing || !self.make_room(bytes) {
                if !self.starved.contains(key) && !self.closing {
                    self.starved.push_back(key.clone());
                }
                break;
            }
            self.start(key, &version, bytes);
        }
        self.set_queue_timer(key);
    }

    fn hand_over(&mut self, id: Id, key: &VersionKey, job: Job) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        self.timers.cancel(instance.timer.take());
        instance.state = InstanceState::Busy;
        let sent = match &instance.jobs {
            Some(jobs) => jobs.try_send(job).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(job),
        };
        if let Err(job) = sent {
            // Its task is about to tell that it ends; the call waits for another.
            self.group(key).waiting.push_front(job);
            self.end(id);
        }
    }

    /// Whether there is memory for one more instance now. If not, it has been seen to, if it can be.
    fn make_room(&mut self, bytes: u64) -> bool {
        let free = self.budget_bytes.saturating_sub(self.reserved_bytes);
        if bytes <= free {
            return true;
        }
        let soon = free + self.ending_bytes;
        if bytes > soon {
            let mut idle: Vec<_> = self
                .instances
                .iter()
                .filter(|(_, instance)| {
                    instance.jobs.is_some()
                        && matches!(instance.state, InstanceState::Idle | InstanceState::Frozen)
                })
                .collect();
            // Of equals, the one that was used least recently goes.
            idle.sort_by_key(|&(&id, instance)| (instance.idle_since, id));
            let candidates = idle.into_iter().map(|(&id, instance)| Candidate {
                id,
                priority: instance.priority,
                memory_bytes: instance.memory_bytes,
            });
            let gone = self.evictions.evict(candidates.collect(), bytes - soon);
            self.around.metrics.evicted(gone.len());
            for id in gone {
                self.end(id);
            }
        }
        false
    }

    fn start(&mut self, key: &VersionKey, version: &Arc<FunctionVersion>, memory_bytes: u64) {
        self.next += 1;
        let id = self.next;
        let name = format!("{}-{id:x}", self.prefix);
        // One job at a time: the next is sent only after the one before is done.
        let (jobs, receiver) = mpsc::channel(1);
        self.reserved_bytes += memory_bytes;
        self.group(key).starting += 1;
        self.instances.insert(
            id,
            Instance {
                key: key.clone(),
                version: Arc::clone(version),
                name: name.clone(),
                state: InstanceState::Starting,
                jobs: Some(jobs),
                started: self.around.clock.now(),
                memory_bytes,
                invocations: 0,
                stats: Stats::default(),
                timer: None,
                idle_since: Instant::now(),
                priority: 0.0,
            },
        );
        self.orders.push(Order { id, name, version: Arc::clone(version), jobs: receiver });
    }

    /// Wishes an instance to end. Its memory is free when it is gone.
    fn end(&mut self, id: Id) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.jobs.take().is_none() {
            return;
        }
        self.timers.cancel(instance.timer.take());
        self.ending_bytes += instance.memory_bytes;
        let (key, state) = (instance.key.clone(), instance.state);
        let group = self.group(&key);
        match state {
            InstanceState::Starting => group.starting -= 1,
            InstanceState::Busy => group.running -= 1,
            InstanceState::Idle | InstanceState::Frozen => group.idle.retain(|&idle| idle != id),
        }
    }

    /// Forgets an instance that is gone.
    fn remove(&mut self, id: Id) {
        self.end(id);
        if let Some(instance) = self.instances.remove(&id) {
            self.reserved_bytes -= instance.memory_bytes;
            self.ending_bytes -= instance.memory_bytes;
        }
    }

    fn end_idle(&mut self, key: &VersionKey) {
        let idle = self.groups.get(key).map(|group| group.idle.clone()).unwrap_or_default();
        for id in idle {
            self.end(id);
        }
        self.tidy(key);
    }

    /// Memory may have become free, or can be taken from an instance that has become idle: those who wait for it
    /// try again, the one who has waited longest first.
    fn feed_starved(&mut self) {
        let mut starved = Vec::from(std::mem::take(&mut self.starved));
        starved.sort_by_key(|key| self.oldest(key));
        let mut starved = starved.into_iter();
        for key in starved.by_ref() {
            self.scale(&key);
            self.tidy(&key);
            let free = self.budget_bytes.saturating_sub(self.reserved_bytes);
            if free < u64::from(rouse_types::limits::MEMORY_MIB_MIN) << 20 {
                break;
            }
        }
        // Nothing is left for these.
        self.starved.extend(starved);
    }

    /// The one who waited longest is told; so are all, when no instance is left that could serve them: they would
    /// only start the same code in vain.
    fn start_failed(&mut self, key: &VersionKey, failure: StartFailure) {
        let Some(version) = self.known.get(key).map(|known| Arc::clone(&known.version)) else { return };
        let group = self.group(key);
        group.drop_cancelled();
        let alone = group.idle.is_empty() && group.starting == 0 && group.running == 0;
        let first = group.waiting.pop_front();
        let others = if alone { std::mem::take(&mut group.waiting) } else { VecDeque::new() };
        if let Some(job) = first {
            let timing = failure.milestones.timing(&job, Instant::now());
            let mut usage = call::usage(&job, &version, timing);
            (usage.cold, usage.cpu_us) = (true, failure.cpu_us);
            (usage.outcome, usage.billed_ms) = match (failure.ran, failure.out_of_memory) {
                (true, true) => (Outcome::OutOfMemory, timing.billed_ms()),
                (true, false) => (Outcome::StartFailed, timing.billed_ms()),
                (false, _) => (Outcome::PlatformError, 0),
            };
            self.around.ended(&usage);
            drop(job.reply.send(Reply::Failed(failure.refusal.clone(), call::head(&usage))));
        }
        for job in others {
            self.refuse(job, failure.refusal.clone());
        }
    }

    /// Refuses those that have waited as long as they may.
    fn expire(&mut self, key: &VersionKey, now: Instant) {
        let Some(known) = self.known.get(key) else { return };
        let version = Arc::clone(&known.version);
        let group = self.group(key);
        let at_most = group.wait_max(&version);
        group.queue_timer = None;
        let mut late = Vec::new();
        while group.waiting.front().is_some_and(|job| job.arrived + at_most <= now) {
            late.extend(group.waiting.pop_front());
        }
        for job in late {
            let text = format!("no instance of {key} became free within {} ms", at_most.as_millis());
            let refusal = Refusal::new(Code::CapacityExhausted, text).retry_after(Duration::from_secs(1));
            self.refuse(job, refusal.hint("raise `concurrency`, or give the node more memory"));
        }
        self.set_queue_timer(key);
        self.tidy(key);
    }

    fn set_queue_timer(&mut self, key: &VersionKey) {
        let Some(known) = self.known.get(key) else { return };
        let version = Arc::clone(&known.version);
        let Some(group) = self.groups.get_mut(key) else { return };
        let due = group.waiting.front().map(|job| job.arrived + group.wait_max(&version));
        if due == group.queue_timer.map(|(at, _)| at) {
            return;
        }
        self.timers.cancel(group.queue_timer.take());
        group.queue_timer = due.map(|at| self.timers.set(at, Timer::Queue(key.clone())));
    }

    fn refuse(&self, job: Job, refusal: Refusal) {
        self.around.metrics.refused();
        job.refuse(refusal);
    }

    fn group(&mut self, key: &VersionKey) -> &mut Group {
        self.groups.entry(key.clone()).or_default()
    }

    /// A version without instances and calls has no group.
    fn tidy(&mut self, key: &VersionKey) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.waiting.is_empty() {
            self.timers.cancel(group.queue_timer.take());
            self.starved.retain(|starved| starved != key);
        }
        if group.waiting.is_empty() && group.idle.is_empty() && group.starting == 0 && group.running == 0 {
            self.groups.remove(key);
        }
    }
}

impl Group {
    fn load(&self) -> Load {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Load {
            running: self.running,
            free: count(self.idle.len()),
            starting: self.starting,
            waiting: count(self.waiting.len()),
        }
    }

    /// How long a call waits at most: as the function says, and while its first instance starts, as long as that
    /// may take. Who is refused just before is never told what is wrong with the code.
    fn wait_max(&self, version: &FunctionVersion) -> Duration {
        let starts_first = self.starting > 0 && self.running == 0;
        let init = if starts_first { version.limits.init_timeout_ms } else { 0 };
        Duration::from_millis(version.scaling.queue_timeout_ms.saturating_add(init))
    }

    /// Callers that went away wait no more. Only those in front are looked for: the others are met in time.
    fn drop_cancelled(&mut self) {
        while self.waiting.front().is_some_and(|job| job.reply.is_closed()) {
            self.waiting.pop_front();
        }
    }
}

impl History {
    fn arrived(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.arrivals.count(now.saturating_duration_since(last));
        }
        self.calls += 1;
    }

    /// The mean of cold starts, in which a new one counts for a quarter.
    fn started(&mut self, cold: Duration) {
        self.cold = if self.cold.is_zero() { cold } else { (self.cold * 3 + cold) / 4 };
    }
}

impl Instance {
    fn info(&self) -> InstanceInfo {
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

/// What an instance of a version is counted with.
fn memory_bytes(version: &FunctionVersion) -> u64 {
    u64::from(version.limits.memory_mib) << 20
}
