//! What every driver must do, whatever it confines with: one suite, run over each of them.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{net::SocketAddr, time::Duration};

use rouse_sandbox::{
    Driver, Error, Exit, Output, Sandbox, Spec,
    sim::{Inside, SimDriver},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

#[path = "support/host.rs"]
mod host;

const LISTENER: &str = "127.0.0.1:9001";
/// Where code that serves listens.
const PORT: &str = "127.0.0.1:8080";

/// Code that the suite needs, in a form for each driver.
#[derive(Debug, Clone, Copy)]
enum Code {
    /// Says `hello` on its output and `oops` on its error, and ends well.
    Hello,
    /// Ends with 7.
    Seven,
    /// Dials the listener, says `ping`, and prints what it hears.
    Dial,
    /// Listens on [`PORT`] after a while and sends back what it hears, in upper case.
    Serve,
    /// Prints ticks and works, for ever.
    Tick,
}

trait Subject {
    type Driver: Driver;
    fn driver(&self) -> Self::Driver;
    fn spec(&self, code: Code) -> Spec;
    /// How many sandboxes the host holds.
    fn living(&self) -> usize;
    /// A spec that cannot be started.
    fn impossible(&self) -> Spec;
}

struct Simulated(SimDriver);

impl Simulated {
    fn new() -> Self {
        Self(SimDriver::new(|mut inside: Inside| async move {
            match inside.spec().argv[0].as_str() {
                "Hello" => {
                    inside.print("hello\n").await;
                    inside.print_error("oops\n").await;
                    Exit::Code(0)
                }
                "Seven" => Exit::Code(7),
                "Dial" => {
                    let mut stream = inside.dial(LISTENER.parse().unwrap()).await.unwrap();
                    stream.write_all(b"ping").await.unwrap();
                    let mut answer = [0; 4];
                    stream.read_exact(&mut answer).await.unwrap();
                    inside.print(std::str::from_utf8(&answer).unwrap()).await;
                    Exit::Code(0)
                }
                "Serve" => {
                    sleep(Duration::from_millis(50)).await;
                    let mut listener = inside.listen(PORT.parse().unwrap());
                    loop {
                        let mut stream = listener.accept().await.unwrap();
                        let mut heard = [0; 4];
                        stream.read_exact(&mut heard).await.unwrap();
                        stream.write_all(&heard.to_ascii_uppercase()).await.unwrap();
                    }
                }
                _ => loop {
                    inside.print("tick\n").await;
                    inside.use_cpu_us(100);
                    inside.use_memory_bytes(4_096);
                    sleep(Duration::from_millis(1)).await;
                },
            }
        }))
    }
}

impl Subject for Simulated {
    type Driver = SimDriver;
    fn driver(&self) -> SimDriver {
        self.0.clone()
    }
    fn spec(&self, code: Code) -> Spec {
        host::spec(&[&format!("{code:?}")])
    }
    fn living(&self) -> usize {
        usize::try_from(self.0.living()).unwrap()
    }
    fn impossible(&self) -> Spec {
        self.0.fail_starts(1);
        self.spec(Code::Hello)
    }
}

impl Subject for host::Host {
    type Driver = rouse_sandbox::container::ContainerDriver;
    fn driver(&self) -> Self::Driver {
        host::Host::driver(self)
    }
    fn spec(&self, code: Code) -> Spec {
        let dial = "import socket\ns = socket.create_connection(('127.0.0.1', 9001))\ns.sendall(b'ping')\nprint(s.recv(4).decode(), end='')";
        let serve = "import socket, time\ntime.sleep(0.05)\ns = socket.create_server(('127.0.0.1', 8080))\nwhile 1:\n    c, _ = s.accept()\n    c.sendall(c.recv(4).upper())";
        match code {
            Code::Hello => host::spec(&["/bin/sh", "-c", "echo hello; echo oops >&2"]),
            Code::Seven => host::spec(&["/bin/sh", "-c", "exit 7"]),
            Code::Dial => host::spec(&["/usr/bin/python3", "-c", dial]),
            Code::Serve => host::spec(&["/usr/bin/python3", "-c", serve]),
            Code::Tick => host::spec(&["/bin/sh", "-c", "while :; do echo tick; done"]),
        }
    }
    fn living(&self) -> usize {
        // Those that wait have groups, and processes that have not become code yet.
        self.running() + self.sandboxes().saturating_sub(self.pool)
    }
    fn impossible(&self) -> Spec {
        host::spec(&["/no/such/program"])
    }
}

async fn text(output: Output) -> String {
    host::text(output).await
}

/// Reads until nothing has come for a while: gives how much came.
async fn drain(output: &mut Output) -> usize {
    let mut bytes = vec![0; 65_536];
    let mut sum = 0;
    while let Ok(read) = timeout(Duration::from_millis(300), output.read(&mut bytes)).await {
        let read = read.expect("the output is read");
        assert_ne!(read, 0, "the code has ended");
        sum += read;
    }
    sum
}

async fn started_code_is_heard<S: Subject>(subject: &S) {
    let started = subject.driver().start(subject.spec(Code::Hello)).await.expect("started");
    let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
    assert_eq!((out.as_str(), err.as_str()), ("hello\n", "oops\n"));
    assert_eq!(started.sandbox.exited().await, Exit::Code(0));
}

async fn how_it_ended_is_told_and_nothing_is_left<S: Subject>(subject: &S) {
    let started = subject.driver().start(subject.spec(Code::Seven)).await.expect("started");
    let (one, other) = tokio::join!(started.sandbox.exited(), started.sandbox.exited());
    assert_eq!((one, other), (Exit::Code(7), Exit::Code(7)));
    assert_eq!(subject.living(), 0);
    assert!(matches!(started.sandbox.freeze().await, Err(Error::Gone)));
    // Its last figures can still be asked for, and killing what is gone is nothing.
    let last = started.sandbox.stats();
    started.sandbox.kill();
    assert_eq!(started.sandbox.stats(), last);
}

async fn the_code_reaches_the_listener_that_was_put_there<S: Subject>(subject: &S) {
    let address: SocketAddr = LISTENER.parse().unwrap();
    let spec = Spec { listeners: vec![address], ..subject.spec(Code::Dial) };
    let mut started = subject.driver().start(spec).await.expect("started");
    let mut stream = started.listeners[0].accept().await.expect("accepted");
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).await.expect("heard");
    assert_eq!(&heard, b"ping");
    stream.write_all(b"pong").await.expect("answered");
    assert_eq!(text(started.stdout).await, "pong");
}

async fn it_is_dialled_once_its_code_listens_and_again_and_again<S: Subject>(subject: &S) {
    let address: SocketAddr = PORT.parse().unwrap();
    let started = subject.driver().start(subject.spec(Code::Serve)).await.expect("started");
    let first = loop {
        match started.sandbox.dial(address).await {
            Err(Error::NotListening(at)) => assert_eq!(at, address),
            dialled => break dialled.expect("it listens"),
        }
        sleep(Duration::from_millis(1)).await;
    };
    let elsewhere: SocketAddr = "127.0.0.1:8081".parse().unwrap();
    let refused = started.sandbox.dial(elsewhere).await;
    assert!(matches!(&refused, Err(Error::NotListening(at)) if *at == elsewhere), "{refused:?}");
    let mut streams = vec![first];
    // More than a driver may have ready.
    for _ in 0..9 {
        streams.push(started.sandbox.dial(address).await.expect("dialled"));
    }
    for stream in &mut streams {
        stream.write_all(b"ping").await.expect("sent");
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.expect("heard");
        assert_eq!(&heard, b"PING");
    }
    started.sandbox.kill();
    started.sandbox.exited().await;
    let gone = started.sandbox.dial(address).await;
    assert!(matches!(gone, Err(Error::Gone)), "{gone:?}");
    assert_eq!(subject.living(), 0);
}

async fn a_frozen_sandbox_stands_still_and_a_thawed_one_goes_on<S: Subject>(subject: &S) {
    let mut started = subject.driver().start(subject.spec(Code::Tick)).await.expect("started");
    assert_ne!(started.stdout.read(&mut [0; 64]).await.expect("ticks"), 0);
    for _ in 0..2 {
        started.sandbox.freeze().await.expect("frozen");
        started.sandbox.freeze().await.expect("frozen already");
        drain(&mut started.stdout).await;
        let before = started.sandbox.stats();
        assert!(timeout(Duration::from_millis(300), started.stdout.read(&mut [0; 64])).await.is_err());
        assert_eq!(started.sandbox.stats().cpu_us, before.cpu_us);
        started.sandbox.thaw().await.expect("thawed");
        started.sandbox.thaw().await.expect("thawed already");
        assert_ne!(started.stdout.read(&mut [0; 64]).await.expect("ticks"), 0);
    }
}

async fn what_it_uses_is_counted<S: Subject>(subject: &S) {
    let mut started = subject.driver().start(subject.spec(Code::Tick)).await.expect("started");
    let before = started.sandbox.stats();
    while started.sandbox.stats().cpu_us < before.cpu_us + 5_000 {
        assert_ne!(started.stdout.read(&mut [0; 65_536]).await.expect("ticks"), 0);
    }
    started.sandbox.kill();
    started.sandbox.exited().await;
    let last = started.sandbox.stats();
    assert!(last.cpu_us >= before.cpu_us + 5_000 && last.memory_peak_bytes > 0, "{last:?}");
}

async fn killing_ends_it_at_once_also_frozen_also_twice<S: Subject>(subject: &S) {
    for frozen in [false, true] {
        let started = subject.driver().start(subject.spec(Code::Tick)).await.expect("started");
        if frozen {
            started.sandbox.freeze().await.expect("frozen");
        }
        started.sandbox.kill();
        started.sandbox.kill();
        assert_eq!(started.sandbox.exited().await, Exit::Signal(9));
        assert_eq!(subject.living(), 0);
    }
}

async fn dropping_it_kills_it<S: Subject>(subject: &S) {
    let started = subject.driver().start(subject.spec(Code::Tick)).await.expect("started");
    assert_ne!(subject.living(), 0);
    drop(started);
    while subject.living() != 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn a_start_that_fails_leaves_nothing<S: Subject>(subject: &S) {
    assert!(subject.driver().start(subject.impossible()).await.is_err(), "it cannot start");
    assert_eq!(subject.living(), 0);
}

async fn a_start_that_is_given_up_leaves_nothing<S: Subject>(subject: &S) {
    let driver = subject.driver();
    for wait_us in [0, 200, 1_000, 3_000] {
        let _ = timeout(Duration::from_micros(wait_us), driver.start(subject.spec(Code::Tick))).await;
        while subject.living() != 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

macro_rules! suite {
    ($($test:ident)*) => {
        mod sim {
            $(#[test] fn $test() {
                crate::host::block_on(async { super::$test(&super::Simulated::new()).await });
            })*
        }
        mod container {
            $(#[test] fn $test() {
                let Some(host) = crate::host::Host::new(stringify!($test)) else { return };
                crate::host::as_the_node(|| super::$test(&host));
            })*
        }
        mod container_with_a_pool {
            $(#[test] fn $test() {
                let Some(host) = crate::host::Host::with_pool(stringify!($test), 3) else { return };
                crate::host::as_the_node(|| super::$test(&host));
            })*
        }
    };
}

suite! {
    started_code_is_heard
    how_it_ended_is_told_and_nothing_is_left
    the_code_reaches_the_listener_that_was_put_there
    it_is_dialled_once_its_code_listens_and_again_and_again
    a_frozen_sandbox_stands_still_and_a_thawed_one_goes_on
    what_it_uses_is_counted
    killing_ends_it_at_once_also_frozen_also_twice
    dropping_it_kills_it
    a_start_that_fails_leaves_nothing
    a_start_that_is_given_up_leaves_nothing
}

#[test]
fn simulated_memory_over_the_limit_ends_the_sandbox() {
    host::block_on(async {
        let driver = SimDriver::new(|inside| async move {
            inside.use_memory_bytes(inside.spec().limits.memory_bytes + 1);
            Exit::Code(0)
        });
        let started = driver.start(host::spec(&["/x"])).await.expect("started");
        assert_eq!(started.sandbox.exited().await, Exit::OutOfMemory);
    });
}

#[test]
fn a_simulated_start_takes_as_long_as_told_under_paused_time() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let driver = SimDriver::new(|_| async { Exit::Code(0) }).start_delay(Duration::from_secs(3_600));
        let before = tokio::time::Instant::now();
        let started = driver.start(host::spec(&["/x"])).await.expect("started");
        assert_eq!(before.elapsed().as_secs(), 3_600);
        assert_eq!(started.sandbox.exited().await, Exit::Code(0));
    });
}
