//! Code in containers reaches what its manifest names, by its real name and over TLS, and nothing else.

#[path = "../../../crates/sandbox/tests/support/internet.rs"]
mod internet;

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use internet::Internet;
use rouse_e2e::{App, Platform, free_address, need, skipped, wait_for};

/// A web server with a certificate for names below `rouse.test`; killed when dropped.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SERVE: &str = "
import http.server, ssl, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ('hello from ' + self.headers['host'].split(':')[0]).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Answer)
server.socket = context.wrap_socket(server.socket, server_side=True)
print('READY', flush=True)
server.serve_forever()
";

/// A folder with a certificate and its key; or the reason why the host makes none.
fn certified() -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=rouse.test"])
        .args(["-addext", "subjectAltName=DNS:api.rouse.test,DNS:*.wild.rouse.test,DNS:world.rouse.test"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder.path())
        .output();
    match made {
        Ok(output) if output.status.success() => Ok(folder),
        other => Err(format!("openssl makes no certificate: {other:?}")),
    }
}

impl Server {
    /// None, with the reason, where the host lacks what makes certificates.
    fn start() -> Result<Self, String> {
        let folder = certified()?;
        let port = free_address().port();
        let child = Command::new("python3")
            .args(["-c", SERVE, "127.0.0.1", &port.to_string()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("python3 runs");
        Ok(Self { child, port, folder })
    }

    async fn ready(&self) {
        let at = SocketAddr::from(([127, 0, 0, 1], self.port));
        wait_for("the server listens", Duration::from_secs(30), async || {
            tokio::net::TcpStream::connect(at).await.is_ok()
        })
        .await;
    }

    fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("cert.pem")).expect("a certificate")
    }
}

/// Here the server is on the machine itself.
const ON_THE_MACHINE: &str = "127.0.0.1 api.rouse.test a.wild.rouse.test";

/// Adds to the operator's names. The tests share a platform.
fn operators(state: &Path, line: &str) {
    // Added at the end in one piece: what is there is never missing, for those who read it at this moment.
    let file = std::fs::OpenOptions::new().append(true).create(true).open(state.join("hosts"));
    file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).expect("a file");
}

const FETCH: &str = "
import ssl, urllib.request, socket
name = event['rawPath'].strip('/')
context = ssl.create_default_context(cafile='cert.pem')
try:
    with urllib.request.urlopen(f'https://{name}:PORT/', context=context, timeout=30) as answer:
        return answer.read().decode()
except Exception as error:
    return f'failed: {error}'
";

#[tokio::test]
async fn python_reaches_what_is_named_over_tls_and_nothing_else() {
    const TEST: &str = "python_reaches_what_is_named_over_tls_and_nothing_else";
    let platform = Platform::shared();
    need!(platform, "python_reaches_what_is_named_over_tls_and_nothing_else", "python");
    let server = match Server::start() {
        Ok(server) => server,
        Err(reason) => return skipped(TEST, &reason),
    };
    server.ready().await;
    operators(platform.state(), ON_THE_MACHINE);
    let port = server.port;
    let app = App::new("fetches").file("fetches/cert.pem", server.certificate()).python(
        "fetches",
        FETCH.replace("PORT", &port.to_string()).trim(),
        &format!("egress = [\"api.rouse.test:{port}\", \"*.wild.rouse.test:{port}\"]"),
    );
    platform.deploy(app.path()).await;
    for name in ["api.rouse.test", "a.wild.rouse.test"] {
        let answer = platform.get(&format!("fetches/{name}")).await;
        assert_eq!(answer.text(), format!("hello from {name}"));
    }
    // Names that are not allowed are not there, and the log says what would allow them.
    let refused = platform.get("fetches/other.rouse.test").await;
    assert!(refused.text().starts_with("failed"), "{}", refused.text());
    // An allowed name that leads nowhere is refused, and the machine itself is not reached by its address.
    for name in ["b.wild.rouse.test", "127.0.0.1", "127.0.0.53"] {
        let refused = platform.get(&format!("fetches/{name}")).await;
        assert!(refused.text().starts_with("failed"), "{name}: {}", refused.text());
    }
    wait_for("the refusals are in the log", Duration::from_secs(30), async || {
        let log = platform.rouse(&["logs", "fetches"]).await.out;
        log.contains("add egress = [\"other.rouse.test:443\"]")
            && log.contains(&format!("egress to b.wild.rouse.test:{port} failed"))
    })
    .await;
}

#[tokio::test]
async fn node_reaches_what_is_named_over_tls() {
    const TEST: &str = "node_reaches_what_is_named_over_tls";
    let platform = Platform::shared();
    need!(platform, "node_reaches_what_is_named_over_tls", "node");
    let server = match Server::start() {
        Ok(server) => server,
        Err(reason) => return skipped(TEST, &reason),
    };
    server.ready().await;
    operators(platform.state(), ON_THE_MACHINE);
    let port = server.port;
    let code = "
import { readFileSync } from 'node:fs';
import { get } from 'node:https';
import { promises as dns } from 'node:dns';
const ca = readFileSync('cert.pem');
export const handler = (event) => new Promise((resolve) => {
  const name = event.rawPath.slice(1);
  get(`https://${name}:PORT/`, { ca }, (answer) => {
    let text = '';
    answer.on('data', (chunk) => { text += chunk; });
    answer.on('end', async () => resolve(text + ' ' + (await dns.resolve4(name)).length));
  }).on('error', (error) => resolve('failed: ' + error.code));
});
";
    let app = App::new("node-fetches")
        .file("f/cert.pem", server.certificate())
        .file("f/index.mjs", code.replace("PORT", &port.to_string()))
        .function(
            "node-fetches",
            &format!(
                "source = \"f\"\nhandler = \"index.handler\"\n\
                 egress = [\"api.rouse.test:{port}\", \"*.wild.rouse.test:{port}\"]"
            ),
        );
    platform.deploy(app.path()).await;
    for name in ["api.rouse.test", "a.wild.rouse.test"] {
        let answer = platform.get(&format!("node-fetches/{name}")).await;
        assert_eq!(answer.text(), format!("hello from {name} 1"));
    }
    let refused = platform.get("node-fetches/other.rouse.test").await;
    assert_eq!(refused.text(), "failed: ENOTFOUND");
}

#[tokio::test]
async fn a_connection_that_is_open_outlives_a_freeze() {
    let platform = Platform::shared();
    need!(platform, "a_connection_that_is_open_outlives_a_freeze", "python");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a server");
    let port = listener.local_addr().expect("an address").port();
    let body = format!(
        "import socket\nheld = globals().setdefault('held', [])\n\
         if not held: held.append(socket.create_connection(('localhost', {port}), 30))\n\
         held[0].sendall(b'x')\nreturn held[0].recv(1).decode()"
    );
    let app = App::new("holds").python("holds", &body, &format!("egress = [\"localhost:{port}\"]"));
    platform.deploy(app.path()).await;
    let echo = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.expect("dialled");
        let mut byte = [0];
        while stream.read(&mut byte).await.expect("read") == 1 {
            stream.write_all(b"y").await.expect("written");
        }
    };
    let calls = async {
        assert_eq!(platform.get("holds").await.text(), "y");
        wait_for("the instance is frozen", Duration::from_secs(30), async || {
            let instances = platform.json(&["ps"]).await;
            let all = instances.as_array().expect("a list");
            all.iter().any(|one| one["function"] == "holds" && one["state"] == "frozen")
        })
        .await;
        assert_eq!(platform.get("holds").await.text(), "y");
    };
    tokio::select! {
        () = echo => panic!("the connection ended"),
        () = calls => {}
    }
}

const ALL: &str = "
import socket, ssl, urllib.request
what = event['rawPath'].strip('/')
try:
    if what == 'tls':
        context = ssl.create_default_context(cafile='cert.pem')
        with urllib.request.urlopen('https://world.rouse.test:8443/', context=context, timeout=30) as answer:
            return answer.read().decode()
    if what == 'udp':
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(30)
            question = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7example\\3com\\0\\0\\1\\0\\1'
            udp.sendto(question, ('SERVER', 53))
            return socket.inet_ntoa(udp.recv(512)[-4:])
    host, port = what.split('-')
    with socket.create_connection((host, int(port)), 4):
        return 'reached'
except Exception as error:
    return f'failed: {error}'
";

#[tokio::test]
async fn a_star_is_the_world_by_tls_tcp_and_udp_but_not_the_machine() {
    const TEST: &str = "a_star_is_the_world_by_tls_tcp_and_udp_but_not_the_machine";
    let platform = Platform::shared();
    need!(platform, "a_star_is_the_world_by_tls_tcp_and_udp_but_not_the_machine", "python");
    let (mut internet, folder) = match (Internet::new(), certified()) {
        (Ok(internet), Ok(folder)) => (internet, folder),
        (Err(reason), _) | (_, Err(reason)) => return skipped(TEST, &reason),
    };
    internet.serve(SERVE, &["8443"], folder.path());
    let server = internet.server.to_string();
    operators(platform.state(), &format!("{server} world.rouse.test"));
    let own = TcpListener::bind("0.0.0.0:0").expect("a server of the machine's");
    let port = own.local_addr().expect("an address").port();
    let app = App::new("star")
        .file("star/cert.pem", std::fs::read(folder.path().join("cert.pem")).expect("a certificate"))
        .python("star", ALL.replace("SERVER", &server).trim(), "egress = \"*\"");
    platform.deploy(app.path()).await;
    assert_eq!(platform.get("star/tls").await.text(), "hello from world.rouse.test");
    assert_eq!(platform.get("star/udp").await.text(), "198.51.100.7");
    assert_eq!(platform.get(&format!("star/{server}-8080")).await.text(), "reached");
    // The machine listens there, and the cloud would.
    for never in [format!("{}-{port}", internet.host), "169.254.169.254-80".to_owned()] {
        let refused = platform.get(&format!("star/{never}")).await;
        assert!(refused.text().starts_with("failed"), "{never}: {}", refused.text());
    }
}
