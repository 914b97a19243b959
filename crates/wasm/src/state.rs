//! What one instance holds on the host's side: its WASI context, its bounds, and the way out.

use std::sync::Arc;

use rouse_types::FunctionVersion;
use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    log::{LogSink, Output, Stream},
    way_out::{Outside, WayOut},
};

/// Tables of one instance, in elements: what the engine's pool takes.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// The data of a store.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    pub(crate) limiter: Limiter,
    way_out: WayOut,
    outputs: [Output; 2],
}

impl State {
    pub(crate) fn new(version: &FunctionVersion, outside: &Arc<Outside>, sink: &LogSink) -> Self {
        let outputs = [Stream::Stdout, Stream::Stderr]
            .map(|stream| Output::new(stream, sink.clone(), version.limits.log_bytes));
        let mut wasi = WasiCtx::builder();
        wasi.stdout(outputs[0].clone()).stderr(outputs[1].clone());
        for (name, value) in &version.env {
            wasi.env(name, value);
        }
        Self {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            limiter: Limiter::new(u64::from(version.limits.memory_mib) << 20),
            way_out: WayOut::new(version.egress.clone(), Arc::clone(outside), sink.clone()),
            outputs,
        }
    }

    /// Turns an instance that has answered before to its next call.
    pub(crate) fn begin(&mut self, version: &FunctionVersion, sink: &LogSink) {
        for output in &self.outputs {
            output.begin(sink.clone(), version.limits.log_bytes);
        }
        self.way_out.sink = sink.clone();
        self.limiter.refused = false;
    }

    /// Passes on what the call wrote and did not end with a line.
    pub(crate) fn finish_output(&self) {
        self.outputs.iter().for_each(Output::finish);
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.way_out }
    }
}

/// Bounds the sum of all memories of an instance, not each of them.
#[derive(Debug)]
pub(crate) struct Limiter {
    bytes: u64,
    bytes_max: u64,
    /// Set when a growth was refused: what fails afterwards fails for want of memory.
    pub(crate) refused: bool,
}

impl Limiter {
    fn new(bytes_max: u64) -> Self {
        Self { bytes: 0, bytes_max, refused: false }
    }

    /// Bytes of linear memory now: memories never shrink, so this is the most there was.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.bytes + desired.saturating_sub(current) as u64;
        let beyond_own_maximum = maximum.is_some_and(|maximum| desired > maximum);
        if grown > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        if !beyond_own_maximum {
            self.bytes = grown;
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_all_memories_is_bounded() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).expect("an answer"));
        assert!(!limiter.memory_growing(0, 60, None).expect("an answer"));
        assert!(limiter.refused);
        assert!(limiter.memory_growing(60, 100, None).expect("an answer"));
        assert_eq!(limiter.bytes(), 100);
    }
}
