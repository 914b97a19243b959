//! What one instance holds on the host's side: its WASI context, its bounds, and the way out.

use http::uri::Scheme;
use http_body_util::BodyExt;
use rouse_types::{Egress, FunctionVersion};
use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, Result, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::log::{LogSink, Output, Stream};

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
    pub(crate) fn new(version: &FunctionVersion, sink: &LogSink) -> Self {
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
            way_out: WayOut { allowed: version.egress.clone(), sink: sink.clone() },
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

/// Lets requests out to the destinations that the function was given, and to no other.
pub(crate) struct WayOut {
    allowed: Egress,
    sink: LogSink,
}

impl WayOut {
    /// Whether a request may go where it wants to; if not, the log has the line that would allow it.
    fn check(&self, uri: &http::Uri) -> Result<()> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let default_port = if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default_port);
        if self.allowed.allows(host, port) {
            return Ok(());
        }
        let hint =
            format!("a request to {host}:{port} was refused; to allow it, add egress = [\"{host}:{port}\"]");
        (self.sink)(Stream::Platform, &hint);
        Err(Error::HttpRequestDenied)
    }
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>;

impl WasiHttpHooks for WayOut {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let checked = self.check(request.uri());
        Box::new(async move {
            checked?;
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let response: http::Response<WasiBody> = response.map(BodyExt::boxed_unsync);
            let io: Box<dyn Future<Output = Result<()>> + Send> = Box::new(io);
            Ok((response, io))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

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

    #[test]
    fn a_request_to_elsewhere_is_refused_with_the_line_that_allows_it() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&lines);
        let way_out = WayOut {
            allowed: Egress::Only(
                ["api.example.com:443", "*.example.org:443"]
                    .map(|one| one.parse().expect("a destination"))
                    .to_vec(),
            ),
            sink: Arc::new(move |_, line: &str| ours.lock().expect("lines").push(line.to_owned())),
        };
        assert!(way_out.check(&"https://API.example.com/x".parse().expect("a uri")).is_ok());
        assert!(way_out.check(&"https://a.b.example.org/x".parse().expect("a uri")).is_ok());
        assert!(way_out.check(&"https://example.org/x".parse().expect("a uri")).is_err());
        lines.lock().expect("lines").clear();
        assert!(way_out.check(&"http://api.example.com/x".parse().expect("a uri")).is_err());
        assert!(lines.lock().expect("lines")[0].contains("egress = [\"api.example.com:80\"]"));
    }
}
