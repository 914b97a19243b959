//! Measures what one append to a journal costs: `cargo run --release -p rouse-store --example append`.

use std::time::Instant;

use rouse_store::journal::{Options, Writer};
use rouse_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread, in nanoseconds: what a busy machine does not distort.
fn cpu_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

const RECORDS: u64 = 500_000;
const PAYLOAD: [u8; 150] = [7; 150];

#[expect(clippy::print_stdout, reason = "it is what this is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()))?;
    let mut writer = Writer::open(dir.path(), Options::new("bench"))?;
    for round in 1..=5 {
        let (begin, cpu) = (Instant::now(), cpu_nanos());
        let mut slowest = std::time::Duration::ZERO;
        for n in 0..RECORDS {
            let one = (n % 16 == 0).then(Instant::now);
            writer.append(Timestamp(n), &PAYLOAD)?;
            slowest = slowest.max(one.map(|one| one.elapsed()).unwrap_or_default());
        }
        let nanos = begin.elapsed().as_nanos() / u128::from(RECORDS);
        let cpu = (cpu_nanos() - cpu) / RECORDS as i64;
        println!(
            "round {round}: {nanos} ns an append of 150 B, {cpu} ns of CPU, slowest sampled {slowest:?}"
        );
    }
    Ok(())
}
