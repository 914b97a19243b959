//! Measures durable writes: `cargo run --release -p rouse-store --example store [folder]`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rouse_store::{
    Queues, Records,
    queues::{DEDUPLICATION_WINDOW_DEFAULT, NewMessage},
};
use rouse_types::SystemClock;

const TASKS: u64 = 64;
const EACH: u64 = 400;
const BATCH: usize = 32;

#[expect(clippy::print_stdout, reason = "it is what this is for")]
fn tell(what: &str, count: u64, begin: Instant) {
    println!("{what}: {:.0} a second", count as f64 / begin.elapsed().as_secs_f64());
}

async fn records(records: Records) -> Result<(), rouse_store::Error> {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let records = records.clone();
        tasks.spawn(async move {
            for n in 0..EACH {
                records.put("bench", &format!("k/{task}/{n}"), vec![7; 512]).await?;
            }
            Ok::<_, rouse_store::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|_| rouse_store::Error::Closed)??;
    }
    tell("records, 64 tasks, puts of 512 B", TASKS * EACH, begin);
    Ok(())
}

async fn queues(queues: Queues) -> Result<(), rouse_store::Error> {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let queues = queues.clone();
        tasks.spawn(async move {
            for _ in 0..EACH {
                queues.enqueue("q", vec![NewMessage::new(vec![7; 1_024])]).await?;
            }
            Ok::<_, rouse_store::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|_| rouse_store::Error::Closed)??;
    }
    tell("queues, 64 tasks, enqueues of 1 KiB", TASKS * EACH, begin);
    let begin = Instant::now();
    for _ in 0..EACH {
        queues.enqueue("q", vec![NewMessage::new(vec![7; 512]); BATCH]).await?;
    }
    tell("queues, 1 task, enqueues in batches of 32", EACH * BATCH as u64, begin);
    let begin = Instant::now();
    let mut finished = 0;
    loop {
        let leased = queues.lease("q", BATCH, Duration::from_secs(60)).await?;
        if leased.is_empty() {
            break;
        }
        finished += leased.len() as u64;
        queues.ack(leased.into_iter().map(|message| message.lease).collect()).await?;
    }
    tell("queues, 1 task, lease and ack in batches of 32", finished, begin);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(records(Records::open(&dir.path().join("records.db"))?))?;
    let clock = Arc::new(SystemClock);
    let window = DEDUPLICATION_WINDOW_DEFAULT;
    runtime.block_on(queues(Queues::open(&dir.path().join("queues.db"), clock, window)?))?;
    Ok(())
}
