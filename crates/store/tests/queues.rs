//! The contract of queues, over each engine that implements it: the embedded one, and a cluster of two nodes.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

#[path = "support/each_engine.rs"]
mod each_engine;
#[path = "support/nats.rs"]
mod nats;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use rouse_store::{
    Error, Queues,
    queues::{Depth, End, Lease, Leased, NewMessage, Room, State, Take},
};
use rouse_types::{Clock as _, ManualClock, Timestamp};

use self::each_engine::on_each_engine;

const VISIBILITY: Duration = Duration::from_secs(30);
pub(crate) const WINDOW: Duration = Duration::from_secs(300);

fn message(text: &str) -> NewMessage {
    NewMessage::new(text.as_bytes().to_vec())
}

async fn depth(queues: &Queues) -> [u64; 4] {
    let Depth { ready, delayed, blocked, leased, dead } = queues.depth("q").await.unwrap();
    [ready, delayed + blocked, leased, dead]
}

#[test]
fn a_message_is_leased_in_order_finished_once_and_gone() {
    on_each_engine(|queues, _| async move {
        queues.enqueue("q", vec![message("1"), message("2"), message("3")]).await.unwrap();
        queues.enqueue("other", vec![message("x")]).await.unwrap();
        let leased = queues.lease("q", 2, VISIBILITY).await.unwrap();
        assert_eq!(leased.iter().map(|m| m.payload.as_slice()).collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(depth(&queues).await, [1, 0, 2, 0]);
        let leases: Vec<_> = leased.iter().map(|m| m.lease).collect();
        assert_eq!(queues.ack(leases.clone()).await.unwrap(), [true, true]);
        assert_eq!(queues.ack(leases).await.unwrap(), [false, false]);
        assert_eq!(queues.lease("q", 9, VISIBILITY).await.unwrap().len(), 1);
        assert!(queues.lease("q", 9, VISIBILITY).await.unwrap().is_empty());
    });
}

#[test]
fn queues_that_share_a_room_never_hold_more_than_it_has_however_many_send_at_once() {
    on_each_engine(|queues, _| async move {
        let room = |most| Room {
            name: "shop".to_owned(),
            prefixes: vec!["fn/shop/".to_owned(), "q/shop/".to_owned()],
            most,
        };
        queues.enqueue("q/other/q", vec![message("x"); 20]).await.unwrap();
        queues.enqueue("fn/shop/cart", vec![message("x"); 3]).await.unwrap();
        let sends = (0..40).map(|n| {
            let queue = if n % 2 == 0 { "q/shop/a" } else { "fn/shop/b" };
            queues.send_within(vec![(queue.to_owned(), message("1"))], room(10))
        });
        let sent = futures_util::future::join_all(sends).await;
        let refused = |error: &Error| matches!(error, Error::TooDeep { queue, messages: 10, granted: Some(10) } if queue == "shop");
        assert!(sent.iter().all(|sent| sent.as_ref().err().is_none_or(refused)));
        assert_eq!(sent.iter().filter(|sent| sent.is_ok()).count(), 7, "all that fit, and no more");
        // All or none; and what is gone makes room.
        let two = || vec![("q/shop/a".to_owned(), message("2")), ("q/shop/a".to_owned(), message("3"))];
        let leased = queues.lease("fn/shop/cart", 1, VISIBILITY).await.unwrap();
        queues.ack(vec![leased[0].lease]).await.unwrap();
        assert!(queues.send_within(two(), room(10)).await.is_err());
        assert!(queues.send_within(two()[..1].to_vec(), room(10)).await.is_ok());
        // What was taken before is answered again, full or not.
        let again = NewMessage { deduplication: Some("d".to_owned()), ..message("d") };
        let again = || vec![("q/shop/a".to_owned(), again.clone())];
        assert!(queues.send_within(again(), room(10)).await.is_err());
        assert!(!queues.send_within(again(), room(11)).await.unwrap()[0].duplicate);
        assert!(queues.send_within(again(), room(1)).await.unwrap()[0].duplicate);
    });
}

#[test]
fn a_lease_that_runs_out_is_given_again_and_the_old_one_finishes_nothing() {
    on_each_engine(|queues, clock| async move {
        queues.enqueue("q", vec![message("1")]).await.unwrap();
        let first = queues.lease("q", 1, VISIBILITY).await.unwrap()[0].lease;
        clock.advance(VISIBILITY);
        let second = queues.lease("q", 1, VISIBILITY).await.unwrap()[0].lease;
        assert_eq!((first.attempt, second.attempt), (1, 2));
        assert_eq!(queues.ack(vec![first]).await.unwrap(), [false]);
        assert!(!queues.nack(first, Duration::ZERO, "late").await.unwrap());
        assert!(!queues.extend(first, VISIBILITY).await.unwrap());
        clock.advance(VISIBILITY / 2);
        assert!(queues.extend(second, VISIBILITY).await.unwrap());
        clock.advance(VISIBILITY / 2);
        assert!(queues.lease("q", 1, VISIBILITY).await.unwrap().is_empty(), "it was extended");
        assert_eq!(queues.ack(vec![second]).await.unwrap(), [true]);
        assert_eq!(depth(&queues).await, [0; 4]);
    });
}

#[test]
fn a_message_that_fails_comes_back_after_its_delay_and_is_dead_after_its_last_attempt() {
    on_each_engine(|queues, clock| async move {
        queues.enqueue("q", vec![NewMessage { attempts_max: 2, ..message("1") }]).await.unwrap();
        let first = &queues.lease("q", 1, VISIBILITY).await.unwrap()[0];
        assert!(!first.last);
        assert!(queues.nack(first.lease, Duration::from_secs(5), "boom").await.unwrap());
        assert_eq!(depth(&queues).await, [0, 1, 0, 0]);
        assert!(queues.lease("q", 1, VISIBILITY).await.unwrap().is_empty());
        let ready = queues.next_ready("q").await.unwrap().unwrap();
        clock.set(ready);
        let second = &queues.lease("q", 1, VISIBILITY).await.unwrap()[0];
        assert!(second.last);
        assert!(queues.nack(second.lease, Duration::from_secs(5), "boom again").await.unwrap());
        assert_eq!(depth(&queues).await, [0, 0, 0, 1]);
        let dead = queues.dead("q", None, 10).await.unwrap();
        assert_eq!((dead[0].attempts, dead[0].reason.as_str()), (2, "boom again"));
        assert_eq!(queues.redrive("q", vec![dead[0].id]).await.unwrap(), 1);
        let third = &queues.lease("q", 1, VISIBILITY).await.unwrap()[0];
        assert_eq!((third.lease.attempt, third.payload.as_slice()), (1, &b"1"[..]));
    });
}

#[test]
fn a_message_whose_last_attempt_vanishes_is_dead_and_not_nowhere() {
    on_each_engine(|queues, clock| async move {
        queues.enqueue("q", vec![NewMessage { attempts_max: 1, ..message("1") }]).await.unwrap();
        assert!(queues.lease("q", 1, VISIBILITY).await.unwrap()[0].last);
        clock.advance(VISIBILITY);
        assert!(queues.lease("q", 1, VISIBILITY).await.unwrap().is_empty());
        assert_eq!(depth(&queues).await, [0, 0, 0, 1]);
        let id = queues.dead("q", None, 1).await.unwrap()[0].id;
        assert_eq!(queues.bury("q", vec![id]).await.unwrap(), 1);
        assert_eq!(depth(&queues).await, [0; 4]);
    });
}

#[test]
fn an_id_is_taken_once_within_the_window_even_after_its_message_is_gone() {
    on_each_engine(|queues, clock| async move {
        let same = || NewMessage { deduplication: Some("id".to_owned()), ..message("1") };
        let sent = queues.enqueue("q", vec![same(), same()]).await.unwrap();
        assert_eq!((sent[0].duplicate, sent[1].duplicate, sent[0].id), (false, true, sent[1].id));
        assert!(!queues.enqueue("other", vec![same()]).await.unwrap()[0].duplicate);
        let lease = queues.lease("q", 9, VISIBILITY).await.unwrap()[0].lease;
        queues.ack(vec![lease]).await.unwrap();
        clock.advance(WINDOW - Duration::from_micros(1));
        assert!(queues.enqueue("q", vec![same()]).await.unwrap()[0].duplicate);
        clock.advance(Duration::from_micros(1));
        assert!(!queues.enqueue("q", vec![same()]).await.unwrap()[0].duplicate);
        assert_eq!(depth(&queues).await, [1, 0, 0, 0]);
    });
}

#[test]
fn a_delayed_message_waits() {
    on_each_engine(|queues, clock| async move {
        let late = NewMessage { delay: Duration::from_secs(60), ..message("late") };
        queues.enqueue("q", vec![late, message("now")]).await.unwrap();
        assert_eq!(queues.lease("q", 9, VISIBILITY).await.unwrap()[0].payload, b"now");
        clock.advance(Duration::from_secs(60));
        let payloads: Vec<_> =
            queues.lease("q", 9, VISIBILITY).await.unwrap().into_iter().map(|m| m.payload).collect();
        assert!(payloads.contains(&b"late".to_vec()));
    });
}

#[test]
fn a_waiting_consumer_is_woken_by_a_message_and_by_nothing_else() {
    on_each_engine(|queues, _| async move {
        let mut changes = queues.changes();
        changes.borrow_and_update();
        assert!(queues.lease("q", 1, VISIBILITY).await.unwrap().is_empty());
        assert!(!changes.has_changed().unwrap(), "an empty lease is no change");
        queues.enqueue("q", vec![message("1")]).await.unwrap();
        changes.changed().await.unwrap();
        assert_eq!(queues.lease("q", 1, VISIBILITY).await.unwrap().len(), 1);
    });
}

#[test]
fn what_is_out_of_bounds_is_refused_and_an_unknown_lease_is_no_error() {
    on_each_engine(|queues, _| async move {
        let refused = [
            queues.enqueue("", vec![message("1")]).await,
            queues.enqueue("a b", vec![message("1")]).await,
            queues.enqueue("q", vec![message("1"); 1_001]).await,
            queues.enqueue("q", vec![NewMessage::new(vec![0; (8 << 20) + 1])]).await,
            queues.enqueue("q", vec![NewMessage::new(vec![0; 8 << 20]); 9]).await,
            queues.enqueue("q", vec![NewMessage { attempts_max: 0, ..message("1") }]).await,
            queues
                .enqueue("q", vec![NewMessage { deduplication: Some(String::new()), ..message("1") }])
                .await,
        ];
        assert!(refused.iter().all(|result| matches!(result, Err(Error::Invalid(_)))));
        let unknown = Lease { id: rouse_store::queues::MessageId(99), number: 1, attempt: 1 };
        assert_eq!(queues.ack(vec![unknown]).await.unwrap(), [false]);
        assert!(!queues.nack(unknown, Duration::ZERO, "").await.unwrap());
    });
}

fn grouped(text: &str, group: &str) -> NewMessage {
    NewMessage { group: Some(group.to_owned()), name: text.to_owned(), ..message(text) }
}

async fn names(queues: &Queues, count: usize) -> Vec<(Lease, String)> {
    let leased = queues.lease("q", count, VISIBILITY).await.unwrap();
    leased.into_iter().map(|leased| (leased.lease, leased.name)).collect()
}

#[test]
fn of_a_group_one_is_given_at_a_time_in_order_and_other_groups_go_on() {
    on_each_engine(|queues, clock| async move {
        let sent = vec![grouped("a1", "a"), grouped("a2", "a"), grouped("b1", "b"), grouped("a3", "a")];
        queues.enqueue("q", sent).await.unwrap();
        let first = names(&queues, 9).await;
        assert_eq!(first.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["a1", "b1"]);
        assert!(names(&queues, 9).await.is_empty());
        // One that failed holds up its group until its time has come.
        queues.nack(first[0].0, Duration::from_secs(5), "not now").await.unwrap();
        assert!(names(&queues, 9).await.is_empty());
        clock.advance(Duration::from_secs(5));
        let again = names(&queues, 9).await;
        assert_eq!(again[0].1, "a1");
        // One that is given up does not.
        queues.end(again[0].0, End::Dead { reason: "no".to_owned() }, Vec::new()).await.unwrap();
        let second = names(&queues, 9).await;
        assert_eq!(second[0].1, "a2");
        // Redriven, it takes its old place: before what has not begun.
        let dead = queues.dead("q", None, 9).await.unwrap()[0].id;
        queues.redrive("q", vec![dead]).await.unwrap();
        assert!(names(&queues, 9).await.is_empty());
        queues.ack(vec![second[0].0]).await.unwrap();
        assert_eq!(names(&queues, 9).await[0].1, "a1");
    });
}

#[test]
fn what_is_released_has_not_been_tried_and_what_a_dead_consumer_held_is_ready_at_once() {
    on_each_engine(|queues, _| async move {
        queues.enqueue("q", vec![NewMessage { attempts_max: 1, ..message("1") }]).await.unwrap();
        for _ in 0..3 {
            let leased = queues.lease("q", 1, VISIBILITY).await.unwrap().remove(0);
            assert_eq!((leased.lease.attempt, leased.last), (1, true));
            let end = End::Released { delay: Duration::ZERO };
            assert!(queues.end(leased.lease, end.clone(), Vec::new()).await.unwrap());
            assert!(!queues.end(leased.lease, end, Vec::new()).await.unwrap(), "it is over");
        }
        let lost = queues.lease("q", 1, VISIBILITY).await.unwrap()[0].lease;
        queues.enqueue("other", vec![message("x")]).await.unwrap();
        queues.lease("other", 1, VISIBILITY).await.unwrap();
        assert_eq!(queues.reclaim("q").await.unwrap(), 1);
        assert_eq!(queues.depth("other").await.unwrap().leased, 1, "another's is left");
        assert_eq!(queues.ack(vec![lost]).await.unwrap(), [false]);
        let again = queues.lease("q", 1, VISIBILITY).await.unwrap()[0].lease;
        assert_eq!(again.attempt, 1);
    });
}

#[test]
fn what_follows_from_an_end_is_sent_with_it_and_only_once() {
    on_each_engine(|queues, _| async move {
        queues.enqueue("q", vec![message("1")]).await.unwrap();
        let lease = queues.lease("q", 1, VISIBILITY).await.unwrap()[0].lease;
        let then = || vec![("next".to_owned(), message("2"))];
        assert!(queues.end(lease, End::Done, then()).await.unwrap());
        assert!(!queues.end(lease, End::Done, then()).await.unwrap());
        assert_eq!(queues.depth("next").await.unwrap().ready, 1);
    });
}

#[test]
fn messages_are_listed_page_by_page_found_by_name_cancelled_and_purged() {
    on_each_engine(|queues, _| async move {
        let sent = (0..5).map(|n| NewMessage { name: format!("m{n}"), head: vec![n], ..message("body") });
        queues.enqueue("t/q", sent.collect()).await.unwrap();
        queues.enqueue("u/q", vec![message("x")]).await.unwrap();
        let lease = queues.lease("t/q", 1, VISIBILITY).await.unwrap()[0].lease;
        let first = queues.list("t/q", false, None, 3).await.unwrap();
        let states: Vec<_> = first.iter().map(|listed| (listed.name.as_str(), listed.state)).collect();
        assert_eq!(states, [("m0", State::Leased), ("m1", State::Waiting), ("m2", State::Waiting)]);
        let rest = queues.list("t/q", false, Some(first[2].id), 9).await.unwrap();
        assert_eq!(rest.iter().map(|listed| listed.head[0]).collect::<Vec<_>>(), [3, 4]);
        queues.end(lease, End::Dead { reason: "poison".to_owned() }, Vec::new()).await.unwrap();
        let (dead, payload) = queues.find("m0").await.unwrap().unwrap();
        assert_eq!(
            (dead.state, dead.reason.as_str(), payload.as_slice()),
            (State::Dead, "poison", &b"body"[..])
        );
        assert_eq!(queues.list("t/q", true, None, 9).await.unwrap(), [dead]);
        let (waiting, _) = queues.find("m1").await.unwrap().unwrap();
        assert!(queues.cancel(waiting.id).await.unwrap() && !queues.cancel(waiting.id).await.unwrap());
        assert_eq!(queues.find("m1").await.unwrap(), None);
        let info = queues.queues("t/", None, 9).await.unwrap();
        assert_eq!((info.len(), info[0].messages, info[0].dead, info[0].bytes), (1, 3, 1, 12));
        assert_eq!(queues.purge("t/q", false).await.unwrap(), 3);
        assert_eq!(queues.queues("", None, 9).await.unwrap().len(), 2);
        queues.bury("t/q", vec![queues.dead("t/q", None, 1).await.unwrap()[0].id]).await.unwrap();
        assert_eq!(queues.queues("", None, 9).await.unwrap().len(), 1, "an empty queue is none");
    });
}

#[test]
fn a_queue_for_dead_messages_takes_what_has_used_up_its_attempts() {
    on_each_engine(|queues, clock| async move {
        queues.dead_to("q", Some("failed")).await.unwrap();
        queues
            .enqueue("q", vec![NewMessage { name: "n".to_owned(), attempts_max: 1, ..message("1") }])
            .await
            .unwrap();
        queues.lease("q", 1, VISIBILITY).await.unwrap();
        clock.advance(VISIBILITY);
        assert!(queues.lease("q", 1, VISIBILITY).await.unwrap().is_empty());
        assert_eq!(depth(&queues).await, [0; 4]);
        let moved = &queues.lease("failed", 1, VISIBILITY).await.unwrap()[0];
        assert_eq!((moved.name.as_str(), moved.lease.attempt), ("n", 1));
    });
}

#[test]
fn a_group_comes_together_where_that_is_asked_and_keeps_its_order_when_part_of_it_fails() {
    on_each_engine(|queues, clock| async move {
        let grouped = |text: &str, group: &str| NewMessage { group: Some(group.to_owned()), ..message(text) };
        let sent = ["a1", "b1", "a2", "a3"].map(|text| grouped(text, &text[..1]));
        queues.enqueue("q", sent.into()).await.unwrap();
        let take = async |count| {
            let how = Take { together: true, ..Take::new(count, VISIBILITY) };
            let leased = queues.take("q", how).await.unwrap().leased;
            let text = |leased: &Leased| String::from_utf8(leased.payload.clone()).unwrap();
            (leased.iter().map(text).collect::<Vec<_>>(), leased)
        };
        let (texts, leased) = take(3).await;
        assert_eq!(texts, ["a1", "a2", "a3"]);
        assert_eq!(take(9).await.0, ["b1"]);
        // The first is done, the second fails, the third is never finished: neither overtakes the other.
        assert_eq!(queues.ack(vec![leased[0].lease]).await.unwrap(), [true]);
        queues.nack(leased[1].lease, VISIBILITY * 3, "no").await.unwrap();
        clock.advance(VISIBILITY * 2);
        let (texts, leased) = take(9).await;
        assert_eq!(texts, ["b1"], "what waits for an earlier one is not given out");
        assert_eq!(queues.ack(vec![leased[0].lease]).await.unwrap(), [true]);
        clock.advance(VISIBILITY);
        let (texts, leased) = take(1).await;
        assert_eq!(texts, ["a2"]);
        assert_eq!(queues.ack(vec![leased[0].lease]).await.unwrap(), [true]);
        assert_eq!(take(1).await.0, ["a3"]);
    });
}

#[test]
fn a_queue_has_settings_until_it_is_deleted_and_its_dead_messages_go_back_where_they_came_from() {
    on_each_engine(|queues, clock| async move {
        queues.configure("q", "{}", Some("failed")).await.unwrap();
        assert_eq!(queues.settings("q").await.unwrap().as_deref(), Some("{}"));
        queues.enqueue("q", vec![NewMessage { attempts_max: u32::MAX, ..message("1") }]).await.unwrap();
        let twice = Take { attempts_max: Some(2), ..Take::new(1, VISIBILITY) };
        for attempt in 1..=2 {
            let taken = queues.take("q", twice.clone()).await.unwrap();
            assert_eq!((taken.leased[0].lease.attempt, taken.died), (attempt, 0));
            clock.advance(VISIBILITY);
        }
        assert_eq!(queues.take("q", twice).await.unwrap().died, 1);
        let newest = queues.newest("failed").await.unwrap();
        let moved = queues.transfer("failed", None, newest, 10).await.unwrap();
        assert_eq!((moved.count, moved.queues), (1, vec!["q".to_owned()]));
        let back = queues.lease("q", 1, VISIBILITY).await.unwrap();
        assert_eq!((back[0].lease.attempt, back[0].first), (1, clock.now()));
        // A lease of one queue's message ends nothing in another.
        assert_eq!(queues.ack_in("failed", vec![back[0].lease]).await.unwrap(), [false]);
        assert_eq!(queues.extend_in("q", vec![(back[0].lease, Duration::ZERO)]).await.unwrap(), [true]);
        let old = Take { age_max: Some(VISIBILITY), ..Take::new(1, VISIBILITY) };
        clock.advance(VISIBILITY);
        assert!(queues.take("q", old).await.unwrap().leased.is_empty(), "it was too old");
        assert_eq!(queues.queues("", None, 9).await.unwrap()[0].settings.as_deref(), Some("{}"));
        queues.delete("q").await.unwrap();
        assert!(queues.queues("", None, 9).await.unwrap().is_empty());
    });
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue { attempts_max: u32, delay_s: u64, group: u8 },
    Lease { count: usize },
    Ack { nth: usize },
    Nack { nth: usize, delay_s: u64 },
    Release { nth: usize },
    Reclaim,
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..4_u32, 0..40_u64, 0..4_u8).prop_map(|(attempts_max, delay_s, group)| Step::Enqueue {
            attempts_max,
            delay_s,
            group
        }),
        (1..4_usize).prop_map(|count| Step::Lease { count }),
        (0..20_usize).prop_map(|nth| Step::Ack { nth }),
        (0..20_usize, 0..40_u64).prop_map(|(nth, delay_s)| Step::Nack { nth, delay_s }),
        (0..20_usize).prop_map(|nth| Step::Release { nth }),
        Just(Step::Reclaim),
        (1..40_u64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    prop::collection::vec(step, 1..80)
}

/// What must hold of a queue after each step: every message is in exactly one place, no lease is given twice, no
/// attempt beyond the bound, no message is held by two, of a group only the oldest is given, and finished ones never
/// come back.
async fn conserves(queues: Queues, clock: Arc<ManualClock>, steps: Vec<Step>) {
    let mut bounds = BTreeMap::new();
    let mut groups = BTreeMap::new();
    let mut finished = BTreeSet::new();
    let mut leases: Vec<(Lease, Timestamp)> = Vec::new();
    let mut numbers = BTreeSet::new();
    for step in steps {
        let now = rouse_types::Clock::now(&*clock);
        match step {
            Step::Enqueue { attempts_max: bound, delay_s, group } => {
                let delay = Duration::from_secs(delay_s);
                // Zero is none.
                let group = (group > 0).then(|| group.to_string());
                let sent = NewMessage { attempts_max: bound, delay, group: group.clone(), ..message("m") };
                let id = queues.enqueue("q", vec![sent]).await.unwrap()[0].id;
                assert!(bounds.insert(id, bound).is_none());
                groups.extend(group.map(|group| (id, group)));
            }
            Step::Lease { count } => {
                let leased = queues.lease("q", count, VISIBILITY).await.unwrap();
                let dead: BTreeSet<_> =
                    queues.dead("q", None, 1_000).await.unwrap().into_iter().map(|dead| dead.id).collect();
                for leased in leased {
                    let lease = leased.lease;
                    assert!(numbers.insert((lease.id, lease.number)), "{lease:?} was given twice");
                    assert!(lease.attempt <= bounds[&lease.id] && !finished.contains(&lease.id));
                    assert_eq!(leased.last, lease.attempt == bounds[&lease.id]);
                    let held = leases.iter().any(|(other, until)| other.id == lease.id && *until > now);
                    assert!(!held, "{lease:?} is held already");
                    let gone = |id| finished.contains(id) || dead.contains(id);
                    let before = groups.iter().find(|(id, group)| {
                        **id < lease.id && groups.get(&lease.id) == Some(*group) && !gone(*id)
                    });
                    assert_eq!(before, None, "{lease:?} is not the oldest of its group");
                    leases.push((lease, now + VISIBILITY));
                }
            }
            Step::Ack { nth } if nth < leases.len() => {
                let (lease, until) = leases.remove(nth);
                let held = queues.ack(vec![lease]).await.unwrap()[0];
                assert!(held || until <= now, "a lease that holds can be finished");
                if held {
                    assert!(finished.insert(lease.id));
                }
            }
            Step::Nack { nth, delay_s } if nth < leases.len() => {
                let (lease, until) = leases.remove(nth);
                let held = queues.nack(lease, Duration::from_secs(delay_s), "no").await.unwrap();
                assert!(held || until <= now);
            }
            Step::Release { nth } if nth < leases.len() => {
                let (lease, until) = leases.remove(nth);
                let end = End::Released { delay: Duration::ZERO };
                assert!(queues.end(lease, end, Vec::new()).await.unwrap() || until <= now);
            }
            Step::Reclaim => {
                queues.reclaim("q").await.unwrap();
                leases.clear();
            }
            Step::Wait { seconds } => clock.advance(Duration::from_secs(seconds)),
            Step::Ack { .. } | Step::Nack { .. } | Step::Release { .. } => {}
        }
        let [ready, delayed, leased, dead] = depth(&queues).await;
        assert_eq!(ready + delayed + leased + dead + finished.len() as u64, bounds.len() as u64);
        let info = queues.queues("q", None, 9).await.unwrap();
        let counted = info.first().map_or([0; 2], |info| [info.messages, info.dead]);
        assert_eq!(counted, [ready + delayed + leased, dead], "the counts are kept with the messages");
    }
    // Whatever happened, each message can still come to its end.
    for _ in 0..200 {
        clock.advance(VISIBILITY * 2);
        for leased in queues.lease("q", 100, VISIBILITY).await.unwrap() {
            queues.ack(vec![leased.lease]).await.unwrap();
        }
    }
    assert_eq!(depth(&queues).await[..3], [0; 3], "a message is stuck");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_message_is_lost_doubled_or_given_too_often(steps in steps()) {
        on_each_engine(|queues, clock| conserves(queues, clock, steps.clone()));
    }
}
