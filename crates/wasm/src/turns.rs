//! Whose guest runs next on this thread: tenants share its time, and one that has used little goes first.
//!
//! ```text
//!  runnable guests        tenants, by the time that they have used     the thread
//!  a a a a a a ─▶ line ─▶ noisy   812 ms ───────────────────────┐
//!  b           ─▶ line ─▶ quiet    43 ms ──▶ least: runs next ──┴─▶ one slice (a tick) ─▶ line
//! ```
//! Without this, each runnable guest would have the same part, and a tenant with a hundred of them a hundred times that of
//! another. Within a tenant guests take turns. A tenant that rested is credited for no more than [`CREDIT`], so that it
//! may run at once what it has, and cannot keep others from running for longer.
//!
//! Between two slices the thread looks for what came over the network: a new request waits for one slice at most.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::Future as _,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use rouse_types::TenantId;

/// What a tenant that rested may run before all others: the whole of a usual call.
const CREDIT: Duration = Duration::from_millis(100);
/// Tenants without calls that are remembered, for what they have used lately.
const RESTING_MAX: usize = 1_024;

/// One guest in the order.
type Id = u64;

/// The order, without anyone who is woken: decided, never done.
#[derive(Debug, Default)]
struct Order {
    names: HashMap<TenantId, usize>,
    tenants: Vec<Tenant>,
    free: Vec<usize>,
    /// Tenants with waiting guests, by what they have used.
    waiting: BTreeSet<(u64, usize)>,
    /// What the tenant that ran last had used, at least: those who rested are counted from here.
    floor: u64,
    next: Id,
}

#[derive(Debug, Default)]
struct Tenant {
    /// In nanoseconds, since the thread began.
    used: u64,
    guests: usize,
    line: VecDeque<Id>,
}

impl Order {
    /// A guest of this tenant joins.
    fn join(&mut self, name: &TenantId) -> (usize, Id) {
        let least = self.floor.saturating_sub(nanos(CREDIT));
        let at = match self.names.get(name) {
            Some(&at) => at,
            None => {
                if self.names.len() >= RESTING_MAX {
                    self.forget();
                }
                let at = self.free.pop().unwrap_or_else(|| {
                    self.tenants.push(Tenant::default());
                    self.tenants.len() - 1
                });
                self.names.insert(name.clone(), at);
                self.tenants[at].used = least;
                at
            }
        };
        let tenant = &mut self.tenants[at];
        if tenant.guests == 0 {
            tenant.used = tenant.used.max(least);
        }
        tenant.guests += 1;
        self.next += 1;
        (at, self.next)
    }

    /// Forgets tenants that rest: they are as new ones when they come back, which gives them no more than [`CREDIT`].
    fn forget(&mut self) {
        let (tenants, free) = (&self.tenants, &mut self.free);
        self.names.retain(|_, &mut at| {
            let keep = tenants[at].guests > 0;
            if !keep {
                free.push(at);
            }
            keep
        });
    }

    /// Whether a guest that could go on may; else it stands in line.
    fn take(&mut self, at: usize, id: Id) -> bool {
        let first = self.first();
        let tenant = &self.tenants[at];
        let own_turn = tenant.line.front().is_none_or(|&front| front == id);
        let others = first.is_some_and(|(used, of, _)| of != at && used < tenant.used);
        if own_turn && !others {
            self.leave_line(at, id);
            self.floor = self.floor.max(self.tenants[at].used);
            return true;
        }
        self.stand(at, id);
        false
    }

    /// A guest stands in line: it could go on.
    fn stand(&mut self, at: usize, id: Id) {
        let tenant = &mut self.tenants[at];
        if !tenant.line.contains(&id) {
            tenant.line.push_back(id);
            self.waiting.insert((tenant.used, at));
        }
    }

    fn leave_line(&mut self, at: usize, id: Id) {
        let tenant = &mut self.tenants[at];
        if tenant.line.front() == Some(&id) {
            tenant.line.pop_front();
        } else {
            tenant.line.retain(|&other| other != id);
        }
        if tenant.line.is_empty() {
            self.waiting.remove(&(tenant.used, at));
        }
    }

    /// A guest has run for so long.
    fn ran(&mut self, at: usize, nanos: u64) {
        let tenant = &mut self.tenants[at];
        let before = tenant.used;
        tenant.used = before.saturating_add(nanos);
        let after = tenant.used;
        if self.waiting.remove(&(before, at)) {
            self.waiting.insert((after, at));
        }
    }

    fn leave(&mut self, at: usize, id: Id) {
        self.leave_line(at, id);
        self.tenants[at].guests -= 1;
    }

    /// Who is to run next, with what its tenant has used.
    fn first(&self) -> Option<(u64, usize, Id)> {
        let &(used, at) = self.waiting.first()?;
        Some((used, at, *self.tenants[at].line.front()?))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The turns of one thread's guests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    order: Order,
    /// Of those who stand in line.
    wakers: HashMap<Id, Waker>,
}

/// A guest's place among the others, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    tenant: usize,
    id: Id,
    alarm: Arc<Alarm>,
}

impl Turns {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join(&self, tenant: &TenantId) -> Turn {
        let (tenant, id) = self.shared().order.join(tenant);
        Turn { turns: self.clone(), tenant, id, alarm: Arc::default() }
    }
}

impl Turn {
    /// Runs what polls the guest if it is its turn; else it is woken when it is.
    pub(crate) fn run<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let first = {
            let mut shared = self.turns.shared();
            if shared.order.take(self.tenant, self.id) {
                shared.wakers.remove(&self.id);
                None
            } else {
                shared.wakers.insert(self.id, cx.waker().clone());
                shared.first()
            }
        };
        if let Some(first) = first {
            // It was woken when its turn came, or has yet to hear of it.
            first.wake();
            return Poll::Pending;
        }
        self.alarm.begin(cx.waker());
        let waker = Waker::from(Arc::clone(&self.alarm));
        let started = Instant::now();
        let polled = poll(&mut Context::from_waker(&waker));
        let ran = nanos(started.elapsed());
        let yielded = self.alarm.end() && polled.is_pending();
        let next = {
            let mut shared = self.turns.shared();
            shared.order.ran(self.tenant, ran);
            if yielded {
                shared.order.stand(self.tenant, self.id);
                shared.wakers.insert(self.id, cx.waker().clone());
            }
            shared.first()
        };
        if let Some(next) = next {
            after_the_network(&next);
        }
        polled
    }
}

impl Shared {
    fn first(&self) -> Option<Waker> {
        let (_, _, id) = self.order.first()?;
        self.wakers.get(&id).cloned()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut shared = self.turns.shared();
            shared.order.leave(self.tenant, self.id);
            shared.wakers.remove(&self.id);
            shared.first()
        };
        if let Some(next) = next {
            next.wake();
        }
    }
}

/// Wakes a task once the runtime has looked for what came over the network, as a task that yields is.
fn after_the_network(waker: &Waker) {
    let yields = pin!(tokio::task::yield_now());
    if yields.poll(&mut Context::from_waker(waker)).is_ready() {
        waker.wake_by_ref();
    }
}

/// What a guest is given to wake its task with: one that wakes itself while it runs only yields.
#[derive(Debug, Default)]
struct Alarm {
    runs: AtomicBool,
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Alarm {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, task: &Waker) {
        let mut known = self.task();
        if known.as_ref().is_none_or(|known| !known.will_wake(task)) {
            *known = Some(task.clone());
        }
        self.rung.store(false, Ordering::SeqCst);
        self.runs.store(true, Ordering::SeqCst);
    }

    /// Whether it rang while the guest ran.
    fn end(&self) -> bool {
        self.runs.store(false, Ordering::SeqCst);
        self.rung.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if !self.runs.load(Ordering::SeqCst) {
            let task = self.task().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLICE: u64 = 1_000_000;

    fn name(n: usize) -> TenantId {
        format!("t{n}").parse().expect("a name")
    }

    /// Lets guests that could always go on run for so many slices; what each tenant had.
    fn contend(order: &mut Order, guests: &[(usize, Id)], slices: usize) -> HashMap<usize, u64> {
        let mut had = HashMap::new();
        for &(at, id) in guests {
            order.stand(at, id);
        }
        for _ in 0..slices {
            let (_, at, id) = order.first().expect("all wait");
            assert!(order.take(at, id), "the first may run");
            order.ran(at, SLICE);
            *had.entry(at).or_default() += SLICE;
            order.stand(at, id);
        }
        had
    }

    #[test]
    fn tenants_share_alike_however_many_guests_they_have() {
        let mut order = Order::default();
        let mut guests: Vec<_> = (0..100).map(|_| order.join(&name(0))).collect();
        guests.push(order.join(&name(1)));
        let had = contend(&mut order, &guests, 1_000);
        let (noisy, quiet) = (had[&guests[0].0], had[&guests[100].0]);
        assert!(noisy.abs_diff(quiet) <= SLICE, "{noisy} and {quiet}");
    }

    #[test]
    fn guests_of_a_tenant_take_turns() {
        let mut order = Order::default();
        let guests: Vec<_> = (0..3).map(|_| order.join(&name(0))).collect();
        for &(at, id) in &guests {
            order.stand(at, id);
        }
        let mut ran = Vec::new();
        for _ in 0..6 {
            let (_, at, id) = order.first().expect("all wait");
            assert!(order.take(at, id));
            order.ran(at, SLICE);
            order.stand(at, id);
            ran.push(id);
        }
        assert_eq!(ran[..3], ran[3..]);
    }

    #[test]
    fn who_rested_goes_first_for_its_credit_and_shares_alike_then() {
        let mut order = Order::default();
        let noisy = order.join(&name(0));
        contend(&mut order, &[noisy], 10_000);
        let quiet = order.join(&name(1));
        assert!(order.take(quiet.0, quiet.1), "at once, though another waits");
        order.ran(quiet.0, SLICE);
        let had = contend(&mut order, &[quiet], 600);
        let (noisy, quiet) = (had[&noisy.0], had[&quiet.0]);
        let credit = nanos(CREDIT);
        assert!((credit..=credit + 2 * SLICE).contains(&(quiet - noisy)), "{quiet} and {noisy}");
    }

    #[test]
    fn leaving_and_joining_again_makes_nobody_richer() {
        let mut order = Order::default();
        let honest = order.join(&name(0));
        order.stand(honest.0, honest.1);
        let mut had = [0, 0];
        for _ in 0..2_000 {
            let (at, id) = order.join(&name(1));
            if order.take(at, id) {
                order.ran(at, SLICE);
                had[1] += SLICE;
            } else {
                assert!(order.take(honest.0, honest.1));
                order.ran(honest.0, SLICE);
                order.stand(honest.0, honest.1);
                had[0] += SLICE;
            }
            order.leave(at, id);
        }
        assert!(had[1] - had[0] <= nanos(CREDIT) + 2 * SLICE, "{had:?}");
    }

    #[test]
    fn tenants_that_rest_are_forgotten_before_they_are_too_many() {
        let mut order = Order::default();
        for n in 0..10_000 {
            let (at, id) = order.join(&name(n));
            assert!(order.take(at, id));
            order.ran(at, SLICE);
            order.leave(at, id);
        }
        assert!(order.tenants.len() <= 2 * RESTING_MAX, "{}", order.tenants.len());
    }

    proptest! {
        #[test]
        fn whoever_waits_is_found_and_nobody_who_left(
            steps in prop::collection::vec((0usize..4, 0u8..5, 0u64..5_000_000), 1..200),
        ) {
            let mut order = Order::default();
            let mut alive: Vec<(usize, Id, bool)> = Vec::new();
            for (tenant, step, ran) in steps {
                match step {
                    0 | 1 => {
                        let (at, id) = order.join(&name(tenant));
                        alive.push((at, id, false));
                    }
                    2 if !alive.is_empty() => {
                        let (at, id, _) = alive.swap_remove(tenant % alive.len());
                        order.leave(at, id);
                    }
                    _ if !alive.is_empty() => {
                        let n = alive.len();
                        let guest = &mut alive[tenant % n];
                        guest.2 = !order.take(guest.0, guest.1);
                        if !guest.2 {
                            order.ran(guest.0, ran);
                        }
                    }
                    _ => {}
                }
                let waiting = alive.iter().filter(|guest| guest.2).count();
                let in_line: usize = order.tenants.iter().map(|tenant| tenant.line.len()).sum();
                prop_assert_eq!(waiting, in_line);
                prop_assert_eq!(order.first().is_some(), waiting > 0);
                if let Some((_, at, id)) = order.first() {
                    prop_assert!(alive.contains(&(at, id, true)));
                }
            }
        }
    }
}
