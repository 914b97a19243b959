//! Moving messages from one queue to others, some at a time: what died goes back where it came from.
//!
//! What is moved is on the disk in one queue or the other at each moment. That a move is under way is remembered in
//! memory: after a restart what is left stays where it is until it is moved again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rouse_api::queues::{Move, MoveState, Moving};
use rouse_store::queues::MessageId;
use rouse_types::{Code, InvocationId, Refusal};

use crate::{accept::store, dispatch::Events, queue};

/// Moves of one queue that are remembered.
const REMEMBERED: usize = 10;
/// Messages that move in one transaction.
const STEP: usize = 100;

/// Moves by queue, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Moves(Mutex<HashMap<String, VecDeque<Moving>>>);

impl Moves {
    fn all(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Moving>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, queue: &str) -> Vec<Moving> {
        self.all().get(queue).into_iter().flatten().cloned().collect()
    }

    /// Stops a move that goes on.
    pub(crate) fn stop(&self, queue: &str, id: &str) -> Option<Moving> {
        let mut all = self.all();
        let mut moves = all.get_mut(queue)?.iter_mut();
        let moving = moves.find(|moving| moving.id == id && moving.state == MoveState::Running)?;
        moving.state = MoveState::Cancelled;
        Some(moving.clone())
    }

    /// Notes how a move stands. Tells whether it goes on.
    fn note(&self, queue: &str, id: &str, note: impl FnOnce(&mut Moving)) -> bool {
        let mut all = self.all();
        let moving = all.get_mut(queue).and_then(|moves| moves.iter_mut().find(|moving| moving.id == id));
        let Some(moving) = moving.filter(|moving| moving.state == MoveState::Running) else { return false };
        note(moving);
        moving.state == MoveState::Running
    }
}

impl Events {
    /// Begins to move all messages that are in a queue now.
    pub(crate) async fn start_move(self: &Arc<Self>, queue: &str, how: Move) -> Result<Moving, Refusal> {
        let depth = self.queues.depth(queue).await.map_err(|error| store(&error))?;
        let newest = self.queues.newest(queue).await.map_err(|error| store(&error))?;
        let to = match (&how.to, queue::of_people(queue)) {
            (Some(to), Some((tenant, _))) => {
                self.expect_queue(&tenant, to).await?;
                Some(queue::named(&tenant, to))
            }
            _ => None,
        };
        let moving = Moving {
            id: InvocationId::new().to_string(),
            to: how.to,
            per_second: how.per_second,
            started: self.config.clock.now(),
            wanted: depth.ready + depth.delayed + depth.blocked,
            moved: 0,
            state: MoveState::Running,
            reason: None,
        };
        {
            let mut all = self.moves.all();
            let moves = all.entry(queue.to_owned()).or_default();
            if moves.iter().any(|moving| moving.state == MoveState::Running) {
                return Err(Refusal::new(Code::NameTaken, "messages of this queue are being moved already"));
            }
            moves.push_front(moving.clone());
            moves.truncate(REMEMBERED);
        }
        let (events, queue, id) = (Arc::clone(self), queue.to_owned(), moving.id.clone());
        self.tasks
            .spawn(async move { events.go_on(&queue, &id, to.as_deref(), newest, how.per_second).await });
        Ok(moving)
    }

    async fn go_on(
        self: &Arc<Self>,
        queue: &str,
        id: &str,
        to: Option<&str>,
        upto: MessageId,
        per_second: Option<u32>,
    ) {
        let step = per_second.map_or(STEP, |most| STEP.min(most.max(1) as usize));
        while !self.stop.is_cancelled() {
            let moved = match self.queues.transfer(queue, to, upto, step).await {
                Ok(moved) => moved,
                Err(error) => {
                    tracing::warn!(queue, %error, "messages could not be moved");
                    self.moves.note(queue, id, |moving| {
                        moving.state = MoveState::Failed;
                        moving.reason = Some(error.to_string());
                    });
                    return;
                }
            };
            moved.queues.iter().for_each(|queue| self.poke(queue));
            let goes_on = self.moves.note(queue, id, |moving| {
                moving.moved += moved.count as u64;
                if moved.count < step {
                    moving.state = MoveState::Completed;
                }
            });
            if !goes_on {
                return;
            }
            if per_second.is_some() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
