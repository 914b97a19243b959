//! The HTTP contract over real servers in real containers: what passes, both ways.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use rouse_types::Protocol;
use server::{Function, ask, body, call, get, has, piece, post};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

#[path = "../../sandbox/tests/support/host.rs"]
mod host;
#[path = "support/server.rs"]
mod server;

/// What a test of a server in Node.js needs, or it is skipped.
fn over_node<F: Future<Output = ()>>(test: &str, program: &str, run: impl FnOnce(Function) -> F + Send) {
    if !has(test, "node") {
        return;
    }
    let Some(host) = host::Host::new(test) else { return };
    let function = Function::node(&host, program);
    host::as_the_node(|| run(function));
}

/// A body that is sent piece by piece.
fn pieces() -> (mpsc::Sender<Bytes>, rouse_contract::http::RequestBody) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    });
    (sender, StreamBody::new(stream).boxed_unsync())
}

/// Tells what it was asked, as JSON.
const MIRROR: &str = r#"
import http from "node:http";
http.createServer((request, response) => {
  let body = "";
  request.on("data", (data) => (body += data));
  request.on("end", () => {
    response.statusCode = 201;
    response.setHeader("x-two", ["a", "b"]);
    const { method, url, headers } = request;
    const { PORT, K_SERVICE, K_REVISION, HOME } = process.env;
    response.end(JSON.stringify({ method, url, headers, body, env: { PORT, K_SERVICE, K_REVISION, HOME } }));
  });
}).listen(process.env.PORT, "127.0.0.1");
"#;

#[test]
fn a_server_sees_the_request_as_it_was_sent_and_its_answer_comes_back_as_it_is() {
    over_node("a_server_sees_the_request_as_it_was_sent", MIRROR, |function| async move {
        let server = function.start().await;
        let mut request = post("/a/b%20c?d=e&d=f", "{\"x\":1}");
        *request.method_mut() = "PATCH".parse().unwrap();
        request.headers_mut().insert("x-mine", "1".parse().unwrap());
        let answer = ask(&server, request).await.expect("answered");
        assert_eq!(answer.status(), StatusCode::CREATED);
        let two: Vec<_> = answer.headers().get_all("x-two").iter().collect();
        assert_eq!(two, ["a", "b"]);
        assert!(!answer.headers().contains_key("keep-alive"), "{:?}", answer.headers());
        let seen: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
        assert_eq!(seen["method"], "PATCH");
        assert_eq!(seen["url"], "/a/b%20c?d=e&d=f");
        assert_eq!(seen["body"], "{\"x\":1}");
        assert_eq!(seen["headers"]["host"], "shop.example");
        assert_eq!(seen["headers"]["x-mine"], "1");
        assert_eq!(seen["headers"]["x-forwarded-for"], "192.0.2.7");
        assert!(seen["headers"]["traceparent"].as_str().unwrap().starts_with("00-"), "{seen}");
        assert_eq!(seen["env"]["PORT"], "8080");
        assert_eq!(seen["env"]["K_SERVICE"], "hello");
        assert_eq!(seen["env"]["K_REVISION"], "hello-00001");
        assert_eq!(seen["env"]["HOME"], "/tmp");
        let (exit, stats) = server.stop().await;
        assert!(exit.is_some() && stats.cpu_us > 0);
    });
}

#[test]
fn calls_one_after_the_other_share_a_connection() {
    let program = r#"
        import http from "node:http";
        let connections = 0;
        http.createServer((_, response) => response.end(String(connections)))
          .on("connection", () => connections++)
          .listen(process.env.PORT);
    "#;
    over_node("calls_one_after_the_other_share_a_connection", program, |function| async move {
        let server = function.start().await;
        for _ in 0..20 {
            assert_eq!(ask(&server, get("/")).await.expect("answered").body(), "1");
        }
    });
}

#[test]
fn calls_at_once_run_at_once_in_one_instance() {
    let program = r#"
        import http from "node:http";
        const waiting = [];
        http.createServer((_, response) => {
          waiting.push(response);
          if (waiting.length === 5) for (const each of waiting) each.end("together");
        }).listen(process.env.PORT);
    "#;
    over_node("calls_at_once_run_at_once_in_one_instance", program, |function| async move {
        let server = function.start().await;
        let all = futures_util::future::join_all((0..5).map(|_| ask(&server, get("/")))).await;
        assert!(all.into_iter().all(|answer| answer.expect("answered").body() == "together"));
    });
}

#[test]
fn bodies_stream_both_ways_at_the_same_time() {
    let program = r#"
        import http from "node:http";
        http.createServer((request, response) => {
          request.on("data", (data) => response.write(String(data).toUpperCase()));
          request.on("end", () => response.end("END"));
        }).listen(process.env.PORT);
    "#;
    over_node("bodies_stream_both_ways_at_the_same_time", program, |function| async move {
        let server = function.start().await;
        let (sender, body) = pieces();
        let request = Request::post("/").body(body).unwrap();
        sender.send("one".into()).await.unwrap();
        let mut answer = server.call(call(), request).await.expect("answered").into_body();
        assert_eq!(piece(&mut answer).await, "ONE");
        // The next piece is sent only now: nothing was gathered.
        sender.send("two".into()).await.unwrap();
        assert_eq!(piece(&mut answer).await, "TWO");
        drop(sender);
        assert_eq!(piece(&mut answer).await, "END");
        assert!(answer.frame().await.is_none());
    });
}

#[test]
fn events_and_trailers_arrive_as_they_are_sent() {
    let program = r#"
        import http from "node:http";
        let go;
        http.createServer((request, response) => {
          if (request.url === "/go") { go(); return response.end(); }
          response.writeHead(200, { "content-type": "text/event-stream", trailer: "x-sum" });
          response.write("data: 1\n\n");
          go = () => {
            response.addTrailers({ "x-sum": "3" });
            response.end("data: 2\n\n");
          };
        }).listen(process.env.PORT);
    "#;
    over_node("events_and_trailers_arrive_as_they_are_sent", program, |function| async move {
        let server = function.start().await;
        let answer = server.call(call(), get("/events")).await.expect("answered");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = answer.into_body();
        assert_eq!(piece(&mut events).await, "data: 1\n\n");
        // The second event is made by a call that comes after the first was read.
        ask(&server, get("/go")).await.expect("answered");
        assert_eq!(piece(&mut events).await, "data: 2\n\n");
        let trailers = events.frame().await.unwrap().unwrap().into_trailers().expect("trailers");
        assert_eq!(trailers["x-sum"], "3");
    });
}

#[test]
fn an_upgrade_is_a_tunnel_of_bytes() {
    let program = r#"
        import http from "node:http";
        http.createServer((_, response) => response.end("plain"))
          .on("upgrade", (request, socket, head) => {
            socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: " + request.headers.upgrade + "\r\n\r\nhi ");
            socket.on("data", (data) => socket.write(String(data).toUpperCase()));
          })
          .listen(process.env.PORT);
    "#;
    over_node("an_upgrade_is_a_tunnel_of_bytes", program, |function| async move {
        let server = function.start().await;
        let request = Request::get("/").header("connection", "Upgrade").header("upgrade", "chat");
        let mut answer = server.call(call(), request.body(body("")).unwrap()).await.expect("answered");
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()["upgrade"], "chat");
        let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut answer).await.expect("upgraded"));
        tunnel.write_all(b"abc").await.unwrap();
        let mut heard = [0; 6];
        tunnel.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hi ABC");
        // Calls pass beside it.
        assert_eq!(ask(&server, get("/")).await.expect("answered").body(), "plain");
        drop(tunnel);
    });
}

#[test]
fn http2_goes_to_servers_that_ask_for_it_with_trailers_and_all_over_one_connection() {
    let program = r#"
        import http2 from "node:http2";
        let sessions = 0;
        http2.createServer()
          .on("session", () => sessions++)
          .on("stream", (stream, headers) => {
            stream.respond({ ":status": 200, "content-type": "application/grpc", "x-te": headers.te ?? "" }, { waitForTrailers: true });
            stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-own": "1" }));
            stream.on("data", (data) => stream.write(data));
            stream.on("end", () => stream.end(` ${headers[":authority"]} ${headers[":path"]} ${sessions}`));
          })
          .listen(process.env.PORT);
    "#;
    over_node("http2_goes_to_servers_that_ask_for_it", program, |mut function| async move {
        function.version.http.protocol = Protocol::H2c;
        let server = function.start().await;
        for _ in 0..3 {
            let mut request = post("/grpc.Service/Method", "ping");
            request.headers_mut().insert("te", "trailers".parse().unwrap());
            let answer = server.call(call(), request).await.expect("answered");
            assert_eq!(answer.headers()["x-te"], "trailers");
            let all = answer.into_body().collect().await.expect("whole");
            let trailers = all.trailers().cloned().expect("trailers");
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-own"]),
                (&"0".parse().unwrap(), &"1".parse().unwrap())
            );
            assert_eq!(all.to_bytes(), "ping shop.example /grpc.Service/Method 1");
        }
    });
}

#[test]
fn a_server_is_ready_when_its_health_path_says_so() {
    let program = r#"
        import http from "node:http";
        let checks = 0;
        http.createServer((request, response) => {
          if (request.url === "/healthz") { response.statusCode = ++checks < 4 ? 503 : 204; return response.end(); }
          response.end(String(checks));
        }).listen(process.env.PORT);
    "#;
    over_node("a_server_is_ready_when_its_health_path_says_so", program, |mut function| async move {
        function.version.http.health = Some("/healthz".into());
        let server = function.start().await;
        assert_eq!(ask(&server, get("/")).await.expect("answered").body(), "4");
    });
}

#[test]
fn what_a_call_prints_is_its_own_and_what_is_printed_before_is_no_calls() {
    let program = r#"
        import http from "node:http";
        console.log("starting");
        http.createServer((request, response) => {
          console.log("called " + request.url);
          console.error("and more");
          response.end();
        }).listen(process.env.PORT);
    "#;
    over_node("what_a_call_prints_is_its_own", program, |function| async move {
        let server = function.start().await;
        let call = call();
        let id = call.id;
        server.call(call, get("/x")).await.expect("answered");
        let lines = function.logged("and more").await;
        server.end_log(id);
        let of = |text: &str| lines.iter().find(|line| line.text == text).expect("logged").invocation;
        assert_eq!((of("starting"), of("called /x"), of("and more")), (None, Some(id), Some(id)));
    });
}

#[test]
fn a_caller_who_leaves_is_told_to_the_code_and_the_instance_serves_on() {
    let program = r#"
        import http from "node:http";
        http.createServer((request, response) => {
          if (request.url === "/") return response.end("here");
          console.log("waiting");
          response.on("close", () => console.log("left"));
          if (request.url === "/begin") response.write("begun");
        }).listen(process.env.PORT);
    "#;
    over_node("a_caller_who_leaves_is_told_to_the_code", program, |function| async move {
        let server = function.start().await;
        {
            // Before the head of the answer.
            let waiting = server.call(call(), get("/never"));
            tokio::select! {
                _ = waiting => panic!("nobody answers"),
                _ = function.logged("waiting") => {}
            }
        }
        function.logged("left").await;
        function.lines.lock().unwrap().clear();
        // And in its body.
        let mut answer = server.call(call(), get("/begin")).await.expect("answered").into_body();
        assert_eq!(piece(&mut answer).await, "begun");
        drop(answer);
        function.logged("left").await;
        assert_eq!(ask(&server, get("/")).await.expect("answered").body(), "here");
    });
}

#[test]
fn a_server_for_one_connection_at_a_time_is_served_too() {
    let test = "a_server_for_one_connection_at_a_time_is_served_too";
    // Single-threaded, HTTP/1.0: each answer ends its connection.
    let program = "
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())
http.server.HTTPServer(('', int(os.environ['PORT'])), Handler).serve_forever()
";
    if !has(test, "python3") {
        return;
    }
    let Some(host) = host::Host::new(test) else { return };
    let function = Function::python(&host, program);
    host::as_the_node(|| async move {
        let server = function.start().await;
        let all =
            futures_util::future::join_all(["/a", "/b", "/c"].map(|path| ask(&server, get(path)))).await;
        let all: Vec<_> = all.into_iter().map(|answer| answer.expect("answered").into_body()).collect();
        assert_eq!(all, ["/a", "/b", "/c"]);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(ask(&server, get("/d")).await.expect("answered").body(), "/d");
    });
}
