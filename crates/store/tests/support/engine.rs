//! Looking into the engine and meddling with it, past the store.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::nats::{Engine, READY_MAX};

impl Engine {
    async fn ask(&self, subject: String, question: Value) -> Value {
        let client = async_nats::connect(format!("127.0.0.1:{}", self.port(0))).await.unwrap();
        let answer = client.request(subject, question.to_string().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// The first message that a stream holds.
    pub(crate) async fn first(&self, stream: &str) -> u64 {
        let info = self.ask(format!("$JS.API.STREAM.INFO.{stream}"), json!({})).await;
        info["state"]["first_seq"].as_u64().unwrap()
    }

    /// Removes all messages of a stream.
    pub(crate) async fn purge(&self, stream: &str) {
        let answer = self.ask(format!("$JS.API.STREAM.PURGE.{stream}"), json!({})).await;
        assert_eq!(answer["success"], true, "{answer}");
    }

    /// Writes a message.
    pub(crate) async fn publish(&self, subject: String, text: &str) {
        let answer = self.ask(subject, json!(text)).await;
        assert!(answer["seq"].is_u64(), "{answer}");
    }

    /// Waits until a server says that it has all that it should have.
    pub(crate) async fn whole(&self, number: usize) {
        let healthy = || -> Option<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.monitor(number))).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer.starts_with("HTTP/1.0 200"))
        };
        let end = Instant::now() + READY_MAX;
        while healthy() != Some(true) {
            assert!(Instant::now() < end, "the server {number} does not become whole");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
