//! Measures how fast the ledger takes records: `cargo run --release -p rouse-metering --example ingest [folder]`.

use std::time::Instant;

use rouse_metering::{Ledger, PriceSheet, ledger::Query};
use rouse_store::journal::{Options, Writer};
use rouse_types::{InvocationId, Outcome, Timestamp, Timing, Usage};

const RECORDS: u64 = 500_000;
const FUNCTIONS: u64 = 1_000;

#[expect(clippy::print_stdout, reason = "it is what this is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()))?;
    let journal = dir.path().join("journal");
    let mut writer = Writer::open(&journal, Options::new("bench"))?;
    let mut usage = Usage {
        id: InvocationId::new(),
        tenant: "acme".parse()?,
        app: "shop".parse()?,
        function: "thumbnail".parse()?,
        version: 3,
        started: Timestamp(1_800_000_000_000_000),
        timing: Timing { queue_us: 15, start_us: 0, init_us: 0, run_us: 900 },
        billed_ms: 1,
        memory_mib: 128,
        cpu_us: 800,
        cold: false,
        bytes_in: 512,
        bytes_out: 2_048,
        outcome: Outcome::Ok,
        caller: None,
    };
    let begin = Instant::now();
    let mut buffer = [0; Usage::BYTES_MAX];
    for n in 0..RECORDS {
        usage.version = n % FUNCTIONS;
        usage.started.0 += 20;
        writer.append(usage.started, usage.write(&mut buffer)?)?;
    }
    let nanos = begin.elapsed().as_nanos() / u128::from(RECORDS);
    let bytes = usage.write(&mut buffer)?.len();
    println!("encode and append: {nanos} ns a record of {bytes} B");
    let mut ledger = Ledger::open(&dir.path().join("usage.db"), PriceSheet::default())?;
    let begin = Instant::now();
    while !ledger.ingest(&journal)?.caught_up {}
    println!("ingest: {:.0} records a second", RECORDS as f64 / begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let report = ledger.query(&Query::default())?;
    println!("query of {} invocations: {:?}", report.total.invocations, begin.elapsed());
    let begin = Instant::now();
    let found = ledger.reconcile(&journal)?;
    println!("reconcile: {:?}, exact: {}", begin.elapsed(), found.is_exact());
    Ok(())
}
