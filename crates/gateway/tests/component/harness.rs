//! A gateway on free ports in a thread of its own, and a small blocking HTTP/1.1 client that shows what is on
//! the wire.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rouse_store::journal::{Cursor, Reader};
use rouse_types::{
    Alias, AppSnapshot, Digest, FunctionRoute, FunctionVersion, Isolation, LIVE, LogLine, Runtime,
    SystemClock, Usage, api_key::TenantKeys,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The component that most tests call.
pub(crate) fn probe() -> Option<Vec<u8>> {
    guest("probe")
}

/// A component of `tests/guests`, built by `cargo xtask test`.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn guest(name: &str) -> Option<Vec<u8>> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests");
    let wasm = std::fs::read(guests.join(format!("{name}/target/wasm32-wasip2/release/{name}.wasm")));
    if wasm.is_err() {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        eprintln!("SKIPPED {test}: tests/guests/{name} is not built; run cargo xtask setup");
    }
    wasm.ok()
}

/// A server that answers each request with 204.
pub(crate) fn one_answer_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        }
    });
    address
}

pub(crate) struct Gateway {
    state: TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// A gateway that serves the component as function `probe` of tenant `t`.
    pub(crate) fn start(wasm: &[u8], change: impl FnOnce(&mut FunctionVersion)) -> Self {
        let state = state();
        let code = Digest::of(wasm);
        let compiled =
            state.path().join(format!("compiled/{}-{}.cwasm", code.hex(), rouse_wasm::engine_tag()));
        std::fs::write(compiled, compiled_once(wasm)).expect("a file");
        Self::start_in(state, code, change)
    }

    /// A gateway whose function `probe` of tenant `t` is a server, which runs in the node.
    pub(crate) fn start_server(change: impl FnOnce(&mut FunctionVersion)) -> Self {
        Self::start_in(state(), Digest::of(b"code"), |version| {
            version.runtime = Runtime::Provided;
            version.contract = rouse_types::Contract::Http;
            version.isolation = Isolation::Container;
            change(version);
        })
    }

    fn start_in(state: TempDir, code: Digest, change: impl FnOnce(&mut FunctionVersion)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let mut gateway = Self { state, address, stop: stop.clone(), thread: None };
        gateway.write("t", "app", "probe", code, change);
        let config = rouse_gateway::Config {
            state: gateway.state.path().to_owned(),
            index: 0,
            gateways: 1,
            domain: "localhost".to_owned(),
            pool: rouse_wasm::Pool { instances: 50, warm_slots: 4 },
            clock: Arc::new(SystemClock),
            pricing: rouse_types::Pricing::new(|usage| Some(usage.billed_ms * 7)),
            metering: true,
        };
        let (ready, is_ready) = std::sync::mpsc::channel();
        gateway.thread = Some(std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            ready.send(()).expect("the test waits");
            runtime.block_on(rouse_gateway::serve(config, listener, None, stop)).expect("the gateway serves");
        }));
        is_ready.recv().expect("the thread runs");
        let socket = gateway.socket();
        while UnixStream::connect(&socket).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        gateway
    }

    fn write(
        &self,
        tenant: &str,
        app: &str,
        function: &str,
        code: Digest,
        change: impl FnOnce(&mut FunctionVersion),
    ) {
        let mut version = FunctionVersion {
            tenant: tenant.parse().expect("a name"),
            app: app.parse().expect("a name"),
            function: function.parse().expect("a name"),
            number: 1,
            digest: code,
            code,
            image: None,
            runtime: Runtime::Component,
            contract: rouse_types::Contract::Component,
            http: rouse_types::HttpSettings::default(),
            handler: None,
            isolation: Isolation::Wasm,
            env: [("GREETING".to_owned(), "hello from the manifest".to_owned())].into(),
            secrets: Default::default(),
            limits: rouse_types::Limits { memory_mib: 64, timeout_ms: 2_000, ..Default::default() },
            scaling: Default::default(),
            egress: rouse_types::Egress::default(),
            invoke: rouse_types::InvokePolicy::Public,
            triggers: Vec::new(),
            events: rouse_types::EventSettings::default(),
            lambda: None,
        };
        change(&mut version);
        let snapshot = AppSnapshot {
            tenant: version.tenant.clone(),
            app: version.app.clone(),
            revision: 1,
            functions: vec![FunctionRoute {
                function: version.function.clone(),
                slot: 1,
                domains: Vec::new(),
                aliases: [(LIVE.parse().expect("a name"), Alias::of(1))].into(),
                latest: 1,
                versions: [(1, Arc::new(version))].into(),
            }],
        };
        let path = self.state.path().join(format!("apps/{tenant}/{app}.json"));
        std::fs::write(path, serde_json::to_vec(&snapshot).expect("JSON")).expect("a file");
    }

    /// Puts another app live, of the same component.
    pub(crate) fn deploy(
        &self,
        tenant: &str,
        app: &str,
        function: &str,
        change: impl FnOnce(&mut FunctionVersion),
    ) {
        let compiled = std::fs::read_dir(self.state.path().join("compiled")).expect("a folder").next();
        let name = compiled.expect("a file").expect("a file").file_name().into_string().expect("text");
        let code = format!("sha256:{}", &name[..64]).parse().expect("a digest");
        self.write(tenant, app, function, code, change);
        assert_eq!(self.internal("PUT", &format!("/apps/{tenant}/{app}"), b"").status, 204);
    }

    /// Takes an app away.
    pub(crate) fn remove(&self, tenant: &str, app: &str) {
        std::fs::remove_file(self.state.path().join(format!("apps/{tenant}/{app}.json"))).expect("a file");
        assert_eq!(self.internal("PUT", &format!("/apps/{tenant}/{app}"), b"").status, 204);
    }

    /// Gives a tenant these keys, and no others.
    pub(crate) fn keys(&self, tenant: &str, keys: &TenantKeys) {
        std::fs::create_dir_all(self.state.path().join("keys")).expect("a folder");
        let path = self.state.path().join(format!("keys/{tenant}.json"));
        std::fs::write(path, serde_json::to_vec(keys).expect("JSON")).expect("a file");
        assert_eq!(self.internal("PUT", &format!("/keys/{tenant}"), b"").status, 204);
    }

    /// Where it expects the node.
    pub(crate) fn node_socket(&self) -> PathBuf {
        self.state.path().join("run/node.sock")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn socket(&self) -> PathBuf {
        self.state.path().join("run/gateway-0.sock")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).expect("a connection");
        let length = format!("content-length: {}\r\n", body.len());
        exchange(stream, method, path, headers, &length, body)
    }

    /// Posts a body without saying its length.
    pub(crate) fn request_chunked(&self, path: &str, body: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).expect("a connection");
        let mut chunks = Vec::new();
        for chunk in body.chunks(100) {
            chunks.extend(
                format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"),
            );
        }
        chunks.extend(b"0\r\n\r\n");
        exchange(stream, "POST", path, &[], "transfer-encoding: chunked\r\n", &chunks)
    }

    /// A request of another of our processes.
    pub(crate) fn internal(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let stream = UnixStream::connect(self.socket()).expect("a connection");
        let length = format!("content-length: {}\r\n", body.len());
        exchange(stream, method, path, &[], &length, body)
    }

    /// Sends a request and leaves the answer to be read bit by bit.
    pub(crate) fn open(&self, path: &str, headers: &[(&str, &str)]) -> Wire {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        stream.write_all(head("GET", path, headers, "").as_bytes()).expect("the request is sent");
        Wire(stream)
    }

    /// All usage records so far.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        self.read("usage", Usage::read)
    }

    /// All log lines so far.
    pub(crate) fn log(&self) -> Vec<LogLine> {
        self.read("log", LogLine::read)
    }

    /// Usage records, once there are this many.
    pub(crate) fn wait_for_usage(&self, count: usize) -> Vec<Usage> {
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            let usage = self.usage();
            if usage.len() >= count || Instant::now() > give_up {
                assert_eq!(usage.len(), count);
                return usage;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the code has written this line.
    pub(crate) fn wait_for_log(&self, text: &str) {
        let give_up = Instant::now() + Duration::from_secs(10);
        while !self.log().iter().any(|line| line.text == text) {
            assert!(Instant::now() < give_up, "{text:?} was not written");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn read<T>(
        &self,
        kind: &str,
        read: fn(&[u8]) -> Result<T, rouse_types::journalled::RecordError>,
    ) -> Vec<T> {
        let mut reader = Reader::open(&self.state.path().join("journal").join(kind), Cursor::default());
        let batch = reader.read(100_000).expect("the journal");
        assert!(batch.corruptions.is_empty());
        batch.records.iter().map(|record| read(&record.payload).expect("a record")).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "the gateway panicked");
    }
}

fn state() -> TempDir {
    let state = tempfile::tempdir().expect("a folder");
    for folder in ["run", "apps/t", "compiled", "journal/usage", "journal/log"] {
        std::fs::create_dir_all(state.path().join(folder)).expect("a folder");
    }
    rouse_gateway::Counters::create(&state.path().join("run/counters")).expect("counters");
    rouse_quota::Table::create(&state.path().join("run/quotas")).expect("quotas");
    state
}

/// Compiles a component once for all tests of this process: in debug builds it takes a while.
fn compiled_once(wasm: &[u8]) -> Vec<u8> {
    static COMPILED: Mutex<BTreeMap<Vec<u8>, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().expect("no test panics in here");
    compiled.entry(wasm.to_owned()).or_insert_with(|| rouse_wasm::compile(wasm).expect("it compiles")).clone()
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], framing: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\n{framing}");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: 127.0.0.1\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

trait Socket: Read + Write {
    fn patience(&self);
}

impl Socket for TcpStream {
    fn patience(&self) {
        self.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    }
}

impl Socket for UnixStream {
    fn patience(&self) {
        self.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    }
}

fn exchange(
    mut stream: impl Socket,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    framing: &str,
    body: &[u8],
) -> Answer {
    stream.patience();
    let framing = format!("connection: close\r\n{framing}");
    stream.write_all(head(method, path, headers, &framing).as_bytes()).expect("the head is sent");
    // A server that refuses early may close before it has read all.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    Answer::parse(&bytes)
}

/// An answer as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the connection ended before the body did.
    pub(crate) broken: bool,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("an answer without a head: {:?}", String::from_utf8_lossy(bytes));
        });
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).expect("a status");
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let rest = &bytes[end + 4..];
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let (body, broken) = if chunked { unchunk(rest) } else { (rest.to_vec(), false) };
        Self { status, headers, body, broken }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = bytes.windows(2).position(|w| w == b"\r\n") else { return (body, true) };
        let size =
            usize::from_str_radix(&String::from_utf8_lossy(&bytes[..line]), 16).expect("a chunk's size");
        if size == 0 {
            return (body, false);
        }
        let from = line + 2;
        let Some(chunk) = bytes.get(from..from + size) else { return (body, true) };
        body.extend_from_slice(chunk);
        bytes = bytes.get(from + size + 2..).unwrap_or_default();
    }
}

/// An answer that is read as it comes.
pub(crate) struct Wire(TcpStream);

impl Wire {
    /// Reads until these bytes have come.
    pub(crate) fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(end) {
            assert_eq!(self.0.read(&mut byte).expect("more"), 1, "{:?}", String::from_utf8_lossy(&bytes));
            bytes.push(byte[0]);
        }
        bytes
    }

    /// Reads to the end of a chunked body with trailers.
    pub(crate) fn read_to_end_of_chunks(&mut self) -> Vec<u8> {
        let mut bytes = self.read_until(b"\r\n0\r\n");
        bytes.extend(self.read_until(b"\r\n\r\n"));
        bytes
    }
}
