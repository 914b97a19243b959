//! Ticks the engine's epoch while something runs, so that a loop yields the thread once a tick.
//!
//! ```text
//!  ticking ──[nothing ran for PARK_AFTER ticks]──▶ parked ──[a call begins]──▶ ticking
//! ```
//! A parked ticker costs nothing: no timer, no wake-up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use wasmtime::EngineWeak;

/// How long code runs before it lets others of the same thread have a turn.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call before the ticker parks: long enough that steady traffic never pays a wake-up.
const PARK_AFTER: u32 = 200;

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
}

/// A handle to the ticker's thread, which ends with the engine.
#[derive(Debug, Clone)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

/// Keeps the ticker going while it lives.
#[derive(Debug)]
pub(crate) struct Ticking(Arc<Shared>);

impl Ticker {
    pub(crate) fn start(engine: EngineWeak) -> Self {
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .spawn(move || tick(&ours, &engine))
            .expect("a thread can be started when the process starts");
        Self { shared, thread: handle.thread().clone() }
    }

    /// Call before code runs; drop when it no longer does.
    pub(crate) fn begin(&self) -> Ticking {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(Arc::clone(&self.shared))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    let mut quiet = 0;
    loop {
        thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        drop(engine);
        quiet = if shared.running.load(Ordering::SeqCst) == 0 { quiet + 1 } else { 0 };
        if quiet < PARK_AFTER {
            continue;
        }
        shared.parked.store(true, Ordering::SeqCst);
        // A call that began before the store above was seen did not unpark us: look again before parking.
        if shared.running.load(Ordering::SeqCst) == 0 {
            thread::park();
        }
        shared.parked.store(false, Ordering::SeqCst);
        quiet = 0;
    }
}
