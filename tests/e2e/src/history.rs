//! What was asked of one app's deployments through several nodes, with when and with which answers, and a checker that
//! finds whether it could have happened one after the other.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with what Lowe added ("Testing
//! for linearizability", 2017): what was tried is remembered as the set of operations done and the state they led to.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Steps of a search, before it is given up as undecided. A history that is right takes about one for each operation.
const STEPS_MAX: usize = 2_000_000;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A deployment, which gets the next number and is live.
    Deploy,
    /// Back to the deployment before the live one.
    Rollback,
    /// Which one is live, with no change.
    Look,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What was asked.
    pub ask: Ask,
    /// When, in nanoseconds since any begin.
    pub from: u64,
    /// When it was answered, and the number that was live then; none for one that may have been done or not.
    pub answer: Option<(u64, u64)>,
}

/// An app: what the next number is, and which is live; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    next: u64,
    live: u64,
}

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    Broken,
    /// It was not found within the bound.
    Undecided,
}

/// The state after an operation, and what it answers; none if it cannot be done.
fn step(state: State, ask: Ask) -> Option<State> {
    match ask {
        Ask::Deploy => Some(State { next: state.next + 1, live: state.next }),
        Ask::Rollback => (state.live > 1).then(|| State { live: state.live - 1, ..state }),
        Ask::Look => Some(state),
    }
}

/// Looks for an order of the operations of one app, which begins with nothing deployed.
#[must_use]
pub fn check(operations: &[Operation]) -> Verdict {
    let done = vec![0u64; operations.len().div_ceil(64)];
    let mut stack = vec![(done, State { next: 1, live: 0 })];
    let mut tried = HashSet::new();
    for _ in 0..STEPS_MAX {
        let Some((done, state)) = stack.pop() else { return Verdict::Broken };
        let is_done = |index: usize| done[index / 64] & (1 << (index % 64)) != 0;
        let open = || operations.iter().enumerate().filter(|(index, _)| !is_done(*index));
        // Whatever was asked after another one was answered comes after it.
        let first_end = open().filter_map(|(_, each)| Some(each.answer?.0)).min();
        let Some(first_end) = first_end else { return Verdict::Linearizable };
        for (index, each) in open().filter(|(_, each)| each.from <= first_end) {
            let Some(after) = step(state, each.ask) else { continue };
            if each.answer.is_some_and(|(_, live)| live != after.live) {
                continue;
            }
            let mut done = done.clone();
            done[index / 64] |= 1 << (index % 64);
            if tried.insert((done.clone(), after)) {
                stack.push((done, after));
            }
        }
    }
    Verdict::Undecided
}

/// Operations as they happen.
#[derive(Debug)]
pub struct History {
    begin: Instant,
    operations: Mutex<Vec<Operation>>,
}

impl Default for History {
    fn default() -> Self {
        Self { begin: Instant::now(), operations: Mutex::default() }
    }
}

impl History {
    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes an operation: `run` gives the number that is live then, or none if nobody knows whether it was done.
    pub async fn note(&self, ask: Ask, run: impl Future<Output = Option<u64>>) {
        let from = self.now();
        let live = run.await;
        let answer = live.map(|live| (self.now(), live));
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.push(Operation { ask, from, answer });
    }

    /// What was noted.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(ask: Ask, from: u64, until: u64, live: u64) -> Operation {
        Operation { ask, from, answer: Some((until, live)) }
    }

    #[test]
    fn one_after_the_other_is_explained_and_a_stale_answer_is_not() {
        let mut history =
            vec![op(Ask::Deploy, 0, 1, 1), op(Ask::Deploy, 2, 3, 2), op(Ask::Rollback, 4, 5, 1)];
        assert_eq!(check(&history), Verdict::Linearizable);
        history.push(op(Ask::Look, 6, 7, 2));
        assert_eq!(check(&history), Verdict::Broken);
    }

    #[test]
    fn what_overlaps_may_be_in_either_order() {
        let first = op(Ask::Deploy, 0, 1, 1);
        for (deploy, back) in [(2, 1), (2, 0)] {
            let history = [first.clone(), op(Ask::Deploy, 2, 9, deploy), op(Ask::Rollback, 3, 8, back)];
            let fits = if back == 1 { Verdict::Linearizable } else { Verdict::Broken };
            assert_eq!(check(&history), fits);
        }
    }

    #[test]
    fn a_return_to_what_another_deployment_had_overtaken_is_found() {
        // Live is 2; one goes back while another deploys 3. 1 and then 3, or 3 and then 2: never 1 after 3.
        let begin = [op(Ask::Deploy, 0, 1, 1), op(Ask::Deploy, 2, 3, 2)];
        let both = [op(Ask::Rollback, 4, 9, 1), op(Ask::Deploy, 4, 8, 3)];
        let end = |live| [&begin[..], &both, &[op(Ask::Look, 10, 11, live)]].concat();
        assert_eq!(check(&end(3)), Verdict::Linearizable);
        assert_eq!(check(&end(1)), Verdict::Broken);
    }

    #[test]
    fn what_nobody_knows_may_have_happened_at_any_time_or_never() {
        let unknown = Operation { ask: Ask::Deploy, from: 2, answer: None };
        let with = |rest: &[Operation]| [&[op(Ask::Deploy, 0, 1, 1), unknown.clone()], rest].concat();
        assert_eq!(check(&with(&[op(Ask::Look, 5, 6, 1)])), Verdict::Linearizable);
        assert_eq!(check(&with(&[op(Ask::Look, 5, 6, 2)])), Verdict::Linearizable);
        assert_eq!(check(&with(&[op(Ask::Look, 5, 6, 2), op(Ask::Look, 7, 8, 1)])), Verdict::Broken);
        assert_eq!(
            check(&with(&[op(Ask::Deploy, 5, 6, 3), op(Ask::Rollback, 7, 8, 2)])),
            Verdict::Linearizable
        );
    }

    #[test]
    fn a_long_history_is_decided() {
        let ops = |n: u64| op(Ask::Deploy, n * 10, n * 10 + 15, n + 1);
        let mut history: Vec<_> = (0..500).map(ops).collect();
        assert_eq!(check(&history), Verdict::Linearizable);
        history[250].answer = Some((2_515, 260));
        assert_eq!(check(&history), Verdict::Broken);
    }
}
