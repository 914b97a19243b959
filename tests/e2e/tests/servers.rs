//! Functions that are servers, through the whole platform: Functions Framework, a chat over WebSockets, events as they
//! are sent, gRPC's trailers.

use std::{process::Command, time::Duration};

use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rouse_e2e::{App, Platform, example, need};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn a_google_cloud_function_in_python_answers_unmodified() {
    let platform = Platform::shared();
    need!(platform, "a_google_cloud_function_in_python_answers_unmodified", "python");
    let framework = format!("functions-framework-{}", rouse_e2e::python().expect("a Python"));
    let installed = platform.rouse(&["runtime", "install", &framework]).await;
    assert!(installed.ok, "{installed:?}");
    platform.deploy_once(&example("hello-gcf-python")).await;
    let answer = platform.get("hello-gcf-python/?name=Ada").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), json!({ "greeting": "Hello, Ada!", "from": "functions-framework" }));
    assert_eq!(answer.header("x-rouse-invocation-id").len(), 36);
    let answer = platform.post("hello-gcf-python/", "Abba".to_owned()).await;
    assert_eq!(answer.json(), json!({ "from": "functions-framework", "letters": { "a": 2, "b": 2 } }));
}

/// A client of a few frames: RFC 6455, texts below 126 bytes.
struct Chatter(TcpStream);

impl Chatter {
    async fn join(platform: &Platform) -> Self {
        let mut stream = TcpStream::connect(platform.gateway).await.expect("a connection");
        let head = "GET /fn/default/chat-websocket/ HTTP/1.1\r\nhost: chat\r\nconnection: Upgrade\r\n\
                    upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("the head is sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("an answer"));
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self(stream)
    }

    async fn say(&mut self, text: &str) {
        let length = u8::try_from(text.len()).expect("a short text");
        // A mask of zeroes leaves the text as it is.
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).await.expect("said");
    }

    async fn hear(&mut self) -> String {
        assert_eq!(self.0.read_u8().await.expect("a frame"), 0x81);
        let mut text = vec![0; usize::from(self.0.read_u8().await.expect("a length"))];
        self.0.read_exact(&mut text).await.expect("a text");
        String::from_utf8(text).expect("text")
    }
}

#[tokio::test]
async fn two_who_chat_over_websockets_hear_each_other() {
    let platform = Platform::shared();
    need!(platform, "two_who_chat_over_websockets_hear_each_other", "node");
    let folder = example("chat-websocket");
    let mut npm = Command::new("npm");
    let install = npm
        .args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"])
        .current_dir(&folder);
    assert!(install.status().expect("npm runs").success(), "npm install failed");
    platform.deploy_once(&folder).await;
    let (mut ada, mut grace) = (Chatter::join(&platform).await, Chatter::join(&platform).await);
    // Beside the tunnels, and in the same instance.
    assert_eq!(platform.get("chat-websocket/").await.text(), "2 in the room\n");
    ada.say("hello?").await;
    assert_eq!((ada.hear().await, grace.hear().await), ("hello?".to_owned(), "hello?".to_owned()));
    // Longer than an instance that idles would be left running.
    tokio::time::sleep(Duration::from_secs(2)).await;
    grace.say("hi Ada").await;
    assert_eq!((ada.hear().await, grace.hear().await), ("hi Ada".to_owned(), "hi Ada".to_owned()));
    drop(grace);
}

#[tokio::test]
async fn events_come_as_they_are_sent_and_http2_carries_trailers_to_and_from_the_code() {
    let platform = Platform::shared();
    need!(platform, "events_come_as_they_are_sent_and_http2_carries_trailers", "node");
    let code = "import http2 from 'node:http2';\n\
        let next;\n\
        http2.createServer().on('stream', (stream, headers) => {\n\
          if (headers[':path'] === '/next') { next(); stream.respond({ ':status': 204 }, { endStream: true }); return; }\n\
          stream.respond({ ':status': 200, 'content-type': 'text/event-stream' }, { waitForTrailers: true });\n\
          stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));\n\
          stream.write('data: 1\\n\\n');\n\
          next = () => stream.end('data: 2\\n\\n');\n\
        }).listen(process.env.PORT);\n";
    let lines = "source = \"events\"\nruntime = \"provided\"\ncontract = \"http\"\nprotocol = \"h2c\"\n\
                 command = [\"node\", \"server.mjs\"]\nconcurrency_per_instance = 4";
    let app = App::new("events").file("events/server.mjs", code).function("events", lines);
    platform.deploy(app.path()).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let uri = format!("http://{}/fn/default/events/", platform.gateway);
    let request = http::Request::get(uri).header("te", "trailers");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
    let mut body = client.request(request).await.expect("an answer").into_body();
    let first = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
    assert_eq!(first, "data: 1\n\n");
    assert_eq!(platform.get("events/next").await.status, 204);
    let rest = body.collect().await.expect("the rest");
    let trailers = rest.trailers().cloned().expect("trailers");
    assert_eq!(rest.to_bytes(), "data: 2\n\n");
    assert_eq!(trailers["grpc-status"], "0");
    assert!(trailers.contains_key("x-rouse-billed-ms"), "{trailers:?}");
}
