//! Sandboxes with a network of their own: what they reach in the world, what they never reach, and that nothing of it
//! stays. The world is a network namespace with real servers.

#[path = "support/host.rs"]
mod host;
#[path = "support/internet.rs"]
mod internet;

use std::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use host::{Host, as_the_node, skipped, spec, text};
use internet::{Internet, ip, rules};
use rouse_sandbox::{Driver, Network, Sandbox, Spec, Started, container::Container};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Interfaces, routes and rules are the host's: these tests look at all of them.
static ALONE: Mutex<()> = Mutex::new(());

/// A host and an internet, or a word about the lack of them.
macro_rules! network {
    ($test:expr, $pool:expr, |$host:ident, $internet:ident| $body:block) => {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let $internet = match Internet::new() {
            Ok(internet) => internet,
            Err(reason) => return skipped($test, &reason),
        };
        let Some(mut $host) = Host::with_pool($test, $pool) else { return };
        let _ = &mut $host;
        $body
    };
}

fn full(program: &str, args: &[&str]) -> Spec {
    let argv = [&["/usr/bin/python3", "-S", "-c", program], args].concat();
    Spec { network: Network::Full, ..spec(&argv) }
}

async fn said(host: &Host, program: &str, args: &[&str]) -> String {
    let started = host.driver().start(full(program, args)).await.expect("started");
    let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
    started.sandbox.exited().await;
    out + &err
}

const WORLD: &str = r#"
import socket, sys
server = sys.argv[1]
with socket.create_connection((server, 8080), 30) as tcp:
    file = tcp.makefile("rb")
    print("seen as", file.readline().decode().strip())
    sent = bytes(range(256)) * 4096
    import threading
    threading.Thread(target=tcp.sendall, args=(sent,)).start()
    print("echoed", file.read(len(sent)) == sent)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.settimeout(30)
    udp.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1", (server, 53))
    print("answered", socket.inet_ntoa(udp.recv(512)[-4:]))
"#;

#[test]
fn a_full_network_reaches_the_world_by_tcp_and_udp_as_the_host() {
    // With and without one that was built ahead.
    for pool in [0, 1] {
        network!("full_network::world", pool, |host, internet| {
            let server = internet.server.to_string();
            as_the_node(async || {
                let told = said(&host, WORLD, &[&server]).await;
                let expected = format!("seen as {}\nechoed True\nanswered 198.51.100.7\n", internet.host);
                assert_eq!(told, expected);
                let told = said(&host, WORLD, &[&server]).await;
                assert_eq!(told, expected, "a second time");
            });
        });
    }
}

/// Dials everything at once, and says whom it reached.
const DIAL: &str = r#"
import concurrent.futures, socket, sys
def dial(place):
    host, port = place.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), 4):
            return "reached"
    except ConnectionRefusedError:
        return "refused from afar"
    except OSError:
        return "not reached"
with open("/proc/net/route") as routes:
    words = [line.split() for line in routes][1:]
gateway = next(socket.inet_ntoa(bytes.fromhex(one[2])[::-1]) for one in words if one[1] == "00000000")
places = [place.replace("GATEWAY", gateway) for place in sys.argv[1:]]
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    for place, came in zip(sys.argv[1:], pool.map(dial, places)):
        print(place, came)
"#;

/// Says its address and serves at every address.
const LISTEN: &str = r#"
import socket
server = socket.create_server(("0.0.0.0", 7777))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.connect(("198.18.0.1", 9))
    print(udp.getsockname()[0], flush=True)
while True:
    server.accept()[0].sendall(b"hello")
"#;

async fn listening(host: &Host) -> (Started<Container>, String) {
    let mut started = host.driver().start(full(LISTEN, &[])).await.expect("started");
    let mut line = String::new();
    BufReader::new(&mut started.stdout).read_line(&mut line).await.expect("its word");
    (started, line.trim().to_owned())
}

#[test]
fn a_full_network_reaches_neither_the_host_nor_a_neighbour_nor_the_cloud() {
    network!("full_network::never", 0, |host, internet| {
        let own = TcpListener::bind("0.0.0.0:0").expect("a server of the host's");
        let port = own.local_addr().expect("an address").port();
        let addresses = ip("-4 -o addr show");
        let addresses = addresses.lines().filter_map(|line| line.split_whitespace().nth(3)?.split_once('/'));
        // A loopback is everybody's own.
        let addresses =
            addresses.map(|(address, _)| address.to_owned()).filter(|one| !one.starts_with("127."));
        let addresses: Vec<String> = addresses.collect();
        assert!(addresses.contains(&internet.host.to_string()), "{addresses:?}");
        host::block_on(async {
            let (neighbour, at) = listening(&host).await;
            let mut never: Vec<String> =
                addresses.iter().map(|address| format!("{address}:{port}")).collect();
            never.push(format!("GATEWAY:{port}"));
            never.push(format!("{at}:7777"));
            for cloud in ["169.254.169.254:80", "100.100.100.200:80", "168.63.129.16:80", "192.0.0.192:80"] {
                never.push(cloud.to_owned());
            }
            for other in ["255.255.255.255:80", "240.0.0.1:80", "fd00:ec2::254:80", "2001:db8::1:80"] {
                never.push(other.to_owned());
            }
            let world = format!("{}:8080", internet.server);
            let mut args: Vec<&str> = never.iter().map(String::as_str).collect();
            args.push(&world);
            let told = said(&host, DIAL, &args).await;
            let mut expected: String = never.iter().map(|place| format!("{place} not reached\n")).collect();
            expected += &format!("{world} reached\n");
            assert_eq!(told, expected);
            // Nor does anybody reach in: not the host's own programs, nor those outside who know a way.
            internet.learn_the_way_to_sandboxes();
            let dialled = format!("{at}:7777").parse().expect("an address");
            assert!(TcpStream::connect_timeout(&dialled, Duration::from_secs(2)).is_err());
            let dial = "import socket, sys; socket.create_connection((sys.argv[1], 7777), 2)";
            let outside = internet.command(&["python3", "-c", dial, &at]).output().expect("python3 runs");
            assert!(!outside.status.success(), "reached from outside");
            neighbour.sandbox.kill();
            neighbour.sandbox.exited().await;
        });
        drop(own);
    });
}

/// The control of the test above: without the rules the same places are reached.
#[test]
fn without_its_rules_a_full_network_reaches_the_host() {
    network!("full_network::control", 0, |host, internet| {
        let own = TcpListener::bind("0.0.0.0:0").expect("a server of the host's");
        let port = own.local_addr().expect("an address").port();
        let table = format!("inet rouse-{}", host.instance);
        host::block_on(async {
            // The rules come with the first.
            let (first, at) = listening(&host).await;
            assert!(at.starts_with("100.96."), "{at}");
            first.sandbox.kill();
            first.sandbox.exited().await;
        });
        let flushed =
            std::process::Command::new("nft").args(["flush", "table"]).args(table.split(' ')).status();
        assert!(flushed.expect("nft runs").success());
        as_the_node(async || {
            let places = [format!("{}:{port}", internet.host), format!("GATEWAY:{port}")];
            let told = said(&host, DIAL, &[&places[0], &places[1]]).await;
            assert_eq!(told, format!("{} reached\n{} reached\n", places[0], places[1]));
        });
    });
}

fn interfaces() -> Vec<String> {
    let names = std::fs::read_dir("/sys/class/net").expect("interfaces").flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The interface of the sandbox at this address.
fn interface_of(address: &str) -> String {
    let routed = ip(&format!("route get {address}"));
    let mut words = routed.split_whitespace().skip_while(|word| *word != "dev");
    words.nth(1).expect("an interface").to_owned()
}

fn forwarding(link: &str) -> bool {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/forwarding"));
    text.expect("it is told").trim() == "1"
}

#[test]
fn nothing_of_a_full_network_stays_behind() {
    network!("full_network::nothing_stays", 0, |host, internet| {
        let table = format!("rouse-{}", host.instance);
        let all = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("it is told");
        assert!(!rules().contains(&table), "nobody has asked yet");
        let was_on = forwarding(&internet.link);
        host::block_on(async {
            let (started, at) = listening(&host).await;
            let interface = interface_of(&at);
            assert!(interface.starts_with("rouse-"), "{interface}");
            assert!(rules().contains(&table));
            assert!(forwarding(&internet.link));
            started.sandbox.kill();
            started.sandbox.exited().await;
            assert!(!interfaces().contains(&interface), "{interface} goes with its sandbox");
        });
        // Killed with a network in use, the next start removes what stayed.
        let mut crashed = String::new();
        host::block_on(async {
            let (_started, at) = listening(&host).await;
            crashed = interface_of(&at);
            host.crash();
        });
        assert!(rules().contains(&table), "a crash leaves its rules");
        host.start_again();
        assert!(!rules().contains(&table));
        assert!(!interfaces().contains(&crashed), "{crashed}");
        assert_eq!(forwarding(&internet.link), was_on);
        // And so does an ordinary end.
        host::block_on(async {
            assert!(said(&host, WORLD, &[&internet.server.to_string()]).await.contains("answered"));
        });
        assert!(rules().contains(&table));
        drop(host);
        assert!(!rules().contains(&table));
        assert_eq!(forwarding(&internet.link), was_on);
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("it is told"), all);
    });
}

#[test]
fn one_sandbox_cannot_fill_the_hosts_table_of_connections() {
    const FLOOD: &str = r#"
import resource, socket, sys
server = (sys.argv[1], 9)
sent = 0
sockets = []
for _ in range(1500):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.sendto(b"x", server)
    sockets.append(udp)
print("sent")
"#;
    network!("full_network::flows", 0, |host, internet| {
        let count = || {
            let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
            text.expect("it is told").trim().parse::<u32>().expect("a number")
        };
        as_the_node(async || {
            let mut spec = full(FLOOD, &[&internet.server.to_string()]);
            spec.limits.open_files = 2_048;
            let before = count();
            let started = host.driver().start(spec).await.expect("started");
            let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
            assert_eq!((out.as_str(), err.as_str()), ("sent\n", ""));
            let after = count();
            started.sandbox.exited().await;
            // Others of the host's may come meanwhile.
            assert!(after < before + 1_400, "{before} and then {after}");
            assert!(after > before + 900, "{before} and then {after}: it sent nothing");
        });
    });
}

/// Sends to the world as who it is, and then as somebody else.
const SPOOF: &str = r#"
import socket, sys
for name, address in [("own", sys.argv[2]), ("spoofed", sys.argv[3])]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((address, 0))
        udp.sendto(name.encode(), (sys.argv[1], 9999))
"#;

/// Says what it hears, until nothing more comes.
const HEAR: &str = r#"
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], 9999))
print("READY", flush=True)
heard = set()
udp.settimeout(30)
try:
    while True:
        heard.add(udp.recv(64).decode())
        udp.settimeout(2)
except TimeoutError:
    pass
print(" ".join(sorted(heard)))
"#;

#[test]
fn a_neighbours_address_does_not_leave_even_where_somebody_got_to_be_root_inside() {
    network!("full_network::spoofing", 0, |host, internet| {
        let server = internet.server.to_string();
        host::block_on(async {
            let (started, at) = listening(&host).await;
            let (neighbour, taken) = listening(&host).await;
            let inside = host.with_command("7777").first().expect("the code").as_raw_nonzero().to_string();
            let enter = |argv: &[&str]| {
                let mut command = std::process::Command::new("nsenter");
                let output = command.args(["--net", "--target", &inside]).args(argv).output();
                let output = output.expect("nsenter runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            };
            let addresses = ip_inside(&inside);
            assert!(addresses.contains(&at), "{addresses}");
            enter(&["ip", "addr", "add", &format!("{taken}/32"), "dev", "eth0"]);
            let mut hears = internet
                .command(&["python3", "-c", HEAR, &server])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("python3 runs");
            let mut heard = std::io::BufReader::new(hears.stdout.take().expect("its output"));
            let mut line = String::new();
            std::io::BufRead::read_line(&mut heard, &mut line).expect("its word");
            enter(&["python3", "-c", SPOOF, &server, &at, &taken]);
            line.clear();
            std::io::BufRead::read_line(&mut heard, &mut line).expect("its word");
            assert_eq!(line, "own\n");
            hears.wait().expect("it ends");
            for one in [started, neighbour] {
                one.sandbox.kill();
                one.sandbox.exited().await;
            }
        });
    });
}

/// The addresses in the network of a process.
fn ip_inside(pid: &str) -> String {
    let output =
        std::process::Command::new("nsenter").args(["--net", "--target", pid, "ip", "addr"]).output();
    String::from_utf8_lossy(&output.expect("nsenter runs").stdout).into_owned()
}
