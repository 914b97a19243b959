//! Functions that tell a test what they got, over a connection that their egress allows: see [`Seen`](crate::Seen).

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::Platform;

/// The body of a Lambda handler in Python: tells the event and its id.
pub const PYTHON: &str = "import socket
with socket.create_connection((os.environ.get('TELL_AT', '127.0.0.1'), int(os.environ['TELL']))) as tell:
    tell.sendall(json.dumps({'event': event, 'id': context.aws_request_id}).encode() + b'\\n')
    tell.recv(1)
return {}";

/// A server in Node: tells each request that it gets.
pub const NODE: &str = "import http from 'node:http';
import net from 'node:net';
http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { method, url, headers } = request;
  const line = JSON.stringify({ method, url, headers, body: Buffer.concat(chunks).toString() });
  const tell = net.connect(Number(process.env.TELL), '127.0.0.1', () => tell.write(line + '\\n'));
  tell.once('data', () => { tell.end(); response.end(); });
}).listen(process.env.PORT);
";

/// The lines of a function's table in `rouse.toml` that let it tell. One instance: a second one, started before there
/// was a history, would be kept as long as its start is worth.
#[must_use]
pub fn lines(port: u16) -> String {
    format!("egress = [\"127.0.0.1:{port}\"]\nenv = {{ TELL = \"{port}\" }}\nconcurrency_max = 1\n")
}

/// The same for [`PYTHON`] and a listener at another address.
#[must_use]
pub fn lines_at(address: Ipv4Addr, port: u16) -> String {
    format!(
        "egress = [\"{address}:{port}\"]\nenv = {{ TELL = \"{port}\", TELL_AT = \"{address}\" }}\nconcurrency_max = 1\n"
    )
}

/// The lines that make the file `server.mjs` a function of the http contract.
#[must_use]
pub fn server(source: &str) -> String {
    format!(
        "source = \"{source}\"\nruntime = \"provided\"\ncontract = \"http\"\ncommand = [\"node\", \"server.mjs\"]\n"
    )
}

/// What the component of the fixture `tells` got, as its log has it: its egress is HTTP, not a line of JSON.
///
/// # Panics
/// When a line of its log is not as it prints it.
pub async fn printed(platform: &Platform, function: &str) -> Vec<Value> {
    let logs = platform.rouse(&["logs", function]).await.out;
    let lines = logs.lines().filter_map(|line| line.find("{\"path\"").map(|at| &line[at..]));
    lines.map(|line| serde_json::from_str(line).expect(line)).collect()
}
