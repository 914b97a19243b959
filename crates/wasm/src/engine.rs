//! The engine's settings: one set, used by the process that compiles and by those that run.

use std::{
    hash::{Hash, Hasher},
    path::Path,
    sync::Arc,
};

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker,
    error::Context as _,
};

use crate::{epoch::Ticker, state::State, turns::Turns, way_out::Outside};

/// How much one process may run at once. Everything is reserved as address space at start, not as memory.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Component instances that live at once.
    pub instances: u32,
    /// Slots that stay resident after use, for the next instance of the same component.
    pub warm_slots: u32,
}

impl Default for Pool {
    fn default() -> Self {
        // A thousand instances are 4 TiB of addresses of the 128 that a process has.
        Self { instances: 1_000, warm_slots: 64 }
    }
}

/// A linear memory's addresses: all that 32 bits reach. What may be used of it is the function's limit.
const MEMORY_BYTES_MAX: usize = 4 << 30;
/// Core instances, memories and tables per component: Python and JavaScript guests link a dozen of each.
const PARTS_PER_COMPONENT: u32 = 20;

/// A wasmtime engine with its linker and the ticker that interrupts what runs long.
#[derive(Clone)]
pub struct Engine {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) linker: Arc<Linker<State>>,
    pub(crate) ticker: Ticker,
    pub(crate) turns: Turns,
    pub(crate) outside: Arc<Outside>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that runs components from a pool of this size. Names of the operator's, in a file `hosts` of this
    /// folder, are found before any other by what components ask for.
    pub fn new(pool: Pool, state: &Path) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(&config(pool))?;
        let mut linker = Linker::new(&engine);
        // Nearly every component that has a standard library imports more of WASI than wasi:http. What it
        // imports and was not given (files, sockets) answers with an error, it does not fail to link.
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).context("link WASI 0.2")?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).context("link wasi:http 0.2")?;
        wasmtime_wasi::p3::add_to_linker(&mut linker).context("link WASI 0.3")?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker).context("link wasi:http 0.3")?;
        let ticker = Ticker::start(engine.weak());
        let outside = Arc::new(Outside::new(state).context("set TLS up")?);
        Ok(Self { engine, linker: Arc::new(linker), ticker, turns: Turns::default(), outside })
    }
}

/// Settings that shape compiled code, and the pool that runs it.
pub(crate) fn config(pool: Pool) -> Config {
    let memories = pool.instances.saturating_mul(2);
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(pool.instances)
        .total_core_instances(pool.instances.saturating_mul(PARTS_PER_COMPONENT))
        .max_core_instances_per_component(PARTS_PER_COMPONENT * 5)
        .total_memories(memories)
        .max_memories_per_component(PARTS_PER_COMPONENT)
        .total_tables(pool.instances.saturating_mul(PARTS_PER_COMPONENT))
        .max_tables_per_component(PARTS_PER_COMPONENT * 5)
        .table_elements(100_000)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        .total_stacks(pool.instances)
        .max_memory_size(MEMORY_BYTES_MAX)
        .max_unused_warm_slots(pool.warm_slots)
        // Measured: resetting by memset below these sizes beats giving pages back, and the kernel's list of
        // written pages (Linux 6.7) beats both. With these, create + call + drop takes half the time.
        .linear_memory_keep_resident(10 << 20)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling))
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        // Epochs cost less than fuel on calls, and a tick is all that an endless loop needs to be stopped.
        .epoch_interruption(true);
    config
}

/// Names what compiled code fits: the version of the engine and a digest of its settings and of this CPU.
#[must_use]
pub fn engine_tag() -> String {
    // The hash must be the same in each of our processes; the default hasher's keys are fixed.
    let mut hasher = std::hash::DefaultHasher::new();
    if let Ok(engine) = wasmtime::Engine::new(&config(Pool { instances: 1, warm_slots: 0 })) {
        engine.precompile_compatibility_hash().hash(&mut hasher);
    }
    format!("wasmtime48-{:016x}", hasher.finish())
}
