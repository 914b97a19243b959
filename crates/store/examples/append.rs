//! Measures what one append to a journal costs: `cargo run --release -p rouse-store --example append`.

use std::time::Instant;

use rouse_store::journal::{Options, Writer};
use rouse_types::Timestamp;

const RECORDS: u64 = 500_000;
const PAYLOAD: [u8; 150] = [7; 150];

#[expect(clippy::print_stdout, reason = "it is what this is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()))?;
    let mut writer = Writer::open(dir.path(), Options::new("bench"))?;
    for round in 1..=5 {
        let begin = Instant::now();
        let mut slowest = std::time::Duration::ZERO;
        for n in 0..RECORDS {
            let one = (n % 16 == 0).then(Instant::now);
            writer.append(Timestamp(n), &PAYLOAD)?;
            slowest = slowest.max(one.map(|one| one.elapsed()).unwrap_or_default());
        }
        let nanos = begin.elapsed().as_nanos() / u128::from(RECORDS);
        println!("round {round}: {nanos} ns an append of 150 B, slowest sampled {slowest:?}");
    }
    Ok(())
}
