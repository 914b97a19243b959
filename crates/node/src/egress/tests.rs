//! The way out over real sockets: listeners on this machine's own loopback stand in for those of a sandbox.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use rouse_sandbox::Listener;
use rouse_types::Egress;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use super::{
    dial::{Dialer, Names as Resolved},
    names::{Found, Names},
    plan::Plan,
    resolver,
    way::{CONNECTIONS_MAX, Way},
};

/// The way out of a sandbox that is none, with what it says.
struct Sandbox {
    /// The port of every destination, and of the server behind it.
    port: u16,
    server: TcpListener,
    state: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
    way: Arc<Way>,
    tasks: JoinSet<()>,
}

impl Sandbox {
    /// `PORT` in a destination is replaced by the server's. `resolved` is what the names lead to.
    async fn with(destinations: &[&str], resolved: &[(&str, &str)]) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a server");
        let port = server.local_addr().expect("an address").port();
        let text = |one: &&str| one.replace("PORT", &port.to_string()).parse().expect("a destination");
        let egress = Egress::Only(destinations.iter().map(text).collect());
        let plan = Plan::new(&egress, &[]);
        let state = tempfile::tempdir().expect("a folder");
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let resolved =
            resolved.iter().map(|(name, address)| ((*name).to_owned(), vec![ip(address)])).collect();
        let dialer = Arc::new(Dialer::with(state.path(), Resolved::These(resolved)));
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let said = Arc::clone(&lines);
        let say = Box::new(move |line| said.lock().expect("no panic").push(line));
        let way = Arc::new(Way::new(Names::new(egress, plan.targets), dialer, say));
        let mut tasks = JoinSet::new();
        for at in plan.listeners {
            // The server has its port at 127.0.0.1, so a listener at every address cannot be had here too.
            let at = if at.ip().is_unspecified() { SocketAddr::new(ip("127.8.0.1"), at.port()) } else { at };
            let listener = Listener::Tcp(TcpListener::bind(at).await.expect("a listener"));
            tasks.spawn(Arc::clone(&way).serve(listener, at));
        }
        Self { port, server, state, lines, way, tasks }
    }

    /// The operator's names.
    fn operators(&self, text: &str) {
        std::fs::write(self.state.path().join("hosts"), text).expect("a file");
    }

    async fn dial(&self, name: &str) -> TcpStream {
        let Found::At(address) = self.way.find(name) else { panic!("{name} is allowed") };
        TcpStream::connect((address, self.port)).await.expect("the platform listens")
    }

    /// Dials, and gives what the code reads when the platform gives up the connection.
    async fn refused(&self, name: &str) -> std::io::Result<usize> {
        let mut stream = self.dial(name).await;
        timeout(Duration::from_secs(30), stream.read(&mut [0; 16])).await.expect("it is given up")
    }

    fn said(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_an_end_is_passed_on() {
    let sandbox = Sandbox::with(&["db.internal:PORT"], &[]).await;
    sandbox.operators("127.0.0.1 db.internal\n");
    let mut code = sandbox.dial("db.internal").await;
    let (mut there, _) = sandbox.server.accept().await.expect("dialled");
    code.write_all(b"question").await.expect("written");
    code.shutdown().await.expect("ended");
    let mut heard = String::new();
    there.read_to_string(&mut heard).await.expect("until the end");
    assert_eq!(heard, "question");
    // The other half goes on.
    let answer = vec![7; 300_000];
    let (written, read) = tokio::join!(
        async {
            there.write_all(&answer).await.expect("written");
            there.shutdown().await
        },
        async {
            let mut read = Vec::new();
            code.read_to_end(&mut read).await.map(|_| read)
        }
    );
    written.expect("ended");
    assert_eq!(read.expect("until the end"), answer);
    let count = |bytes: &std::sync::atomic::AtomicU64| bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&sandbox.way.bytes.sent), count(&sandbox.way.bytes.received)), (8, 300_000));
    assert_eq!(sandbox.said(), Vec::<String>::new());
}

#[tokio::test]
async fn a_connection_that_breaks_on_one_side_breaks_on_the_other() {
    let sandbox = Sandbox::with(&["db.internal:PORT"], &[]).await;
    sandbox.operators("127.0.0.1 db.internal\n");
    let mut code = sandbox.dial("db.internal").await;
    let (there, _) = sandbox.server.accept().await.expect("dialled");
    there.set_zero_linger().expect("set");
    drop(there);
    let read = code.read(&mut [0; 16]).await;
    assert_eq!(read.expect_err("broken").kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_name_below_a_wildcard_is_dialled_by_its_own_name() {
    let sandbox = Sandbox::with(&["*.example.com:PORT"], &[]).await;
    sandbox.operators("127.0.0.1 api.example.com\n");
    let mut code = sandbox.dial("api.example.com").await;
    let (mut there, _) = sandbox.server.accept().await.expect("dialled");
    code.write_all(b"x").await.expect("written");
    assert_eq!(there.read(&mut [0; 16]).await.expect("read"), 1);
}

#[tokio::test]
async fn a_name_that_leads_to_the_machine_or_its_cloud_is_not_followed() {
    let leads = [
        ("loop.example.com", "127.0.0.1"),
        ("mapped.example.com", "::ffff:127.0.0.1"),
        ("cloud.example.com", "169.254.169.254"),
    ];
    for (name, address) in leads {
        let sandbox = Sandbox::with(&[&format!("{name}:PORT")], &[(name, address)]).await;
        let refused = sandbox.refused(name).await;
        assert_eq!(refused.expect_err("reset").kind(), std::io::ErrorKind::ConnectionReset);
        let said = sandbox.said();
        assert!(said[0].contains(&format!("egress to {name}")) && said[0].contains("leads to"), "{said:?}");
        let reached = timeout(Duration::from_millis(50), sandbox.server.accept()).await;
        assert!(reached.is_err(), "{name} reached the machine");
    }
}

#[tokio::test]
async fn what_is_written_as_the_machine_itself_is_meant() {
    // In a sandbox of its own the same port is free; here the dialer alone can show it.
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a server");
    let port = server.local_addr().expect("an address").port();
    let state = tempfile::tempdir().expect("a folder");
    let dialer = Dialer::new(state.path());
    for target in [
        super::plan::Target::Name("localhost".into()),
        super::plan::Target::Address("127.0.0.1".parse().expect("an address")),
    ] {
        dialer.dial(&target, port).await.expect("it is meant");
    }
}

#[tokio::test]
async fn a_name_that_is_not_allowed_does_not_exist_and_the_log_has_the_line_once() {
    let mut sandbox = Sandbox::with(&["*.example.com:PORT"], &[]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let at = socket.local_addr().expect("an address");
    sandbox.tasks.spawn(resolver::serve(socket, Arc::clone(&sandbox.way)));
    let code = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    code.connect(at).await.expect("connected");
    let ask = async |name: &str| {
        let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).expect("short"));
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        code.send(&query).await.expect("asked");
        let mut answer = [0; 512];
        let length = timeout(Duration::from_secs(30), code.recv(&mut answer)).await.expect("answered");
        answer[..length.expect("an answer")].to_vec()
    };
    for _ in 0..3 {
        assert_eq!(ask("api.evil.org").await[3] & 15, 3, "there is no such name");
    }
    assert_eq!(ask("api.example.com").await[7], 1, "one address");
    let said = sandbox.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("add egress = [\"api.evil.org:443\"]"), "{said:?}");
}

#[tokio::test]
async fn refusals_do_not_fill_the_log() {
    let sandbox = Sandbox::with(&[], &[]).await;
    for number in 0..1_000 {
        assert_eq!(sandbox.way.find(&format!("n{number}.example.com")), Found::No);
    }
    assert_eq!(sandbox.said().len(), 64);
}

#[tokio::test]
async fn more_connections_than_one_instance_may_have_wait() {
    let sandbox = Sandbox::with(&["db.internal:PORT"], &[]).await;
    sandbox.operators("127.0.0.1 db.internal\n");
    let mut code = Vec::new();
    let mut there = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        code.push(sandbox.dial("db.internal").await);
        there.push(sandbox.server.accept().await.expect("dialled").0);
    }
    let mut waits = sandbox.dial("db.internal").await;
    let more = timeout(Duration::from_millis(100), sandbox.server.accept()).await;
    assert!(more.is_err(), "one more than may be");
    assert!(sandbox.said()[0].contains("connections are open"), "{:?}", sandbox.said());
    code.pop();
    there.pop();
    let (mut served, _) = timeout(Duration::from_secs(30), sandbox.server.accept())
        .await
        .expect("its turn has come")
        .expect("dialled");
    served.write_all(b"x").await.expect("written");
    assert_eq!(waits.read(&mut [0; 16]).await.expect("read"), 1);
}
