//! What strangers send: each gets a clear error in time, and no one else waits for it.

use std::time::{Duration, Instant};

use rouse_e2e::{Platform, example, fixture, need};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn an_unknown_function_is_not_found_and_says_what_was_asked_for() {
    let platform = Platform::shared();
    let answer = platform.get("nobody/x").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (404, "function-not-found"));
    assert!(answer.json()["message"].as_str().expect("a message").contains("nobody"));
    assert_eq!(answer.header("x-rouse-invocation-id").len(), 36);
    for path in
        ["/", "/fn", "/fn/", "/fn/default", "/fn/default/", "/fn/%00/%ff", "/fn/default/a@b@c", "/..//fn"]
    {
        let answer = platform.send(platform.request(path, None)).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused() {
    let platform = Platform::shared();
    need!(platform, "a_payload_over_the_limit_is_refused", "component");
    platform.deploy_once(&fixture("misbehave")).await;
    assert_eq!(platform.post("misbehave", vec![b'x'; 60 << 10]).await.status, 200);
    let answer = platform.post("misbehave", vec![b'x'; 65 << 10]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, "payload-too-large"));
}

/// Sends bytes as they are, and reads what comes until the connection ends.
async fn raw(platform: &Platform, bytes: &[u8], limit: Duration) -> String {
    let mut stream = TcpStream::connect(platform.gateway).await.expect("connect");
    // It may have heard enough before the end: then the rest finds no reader.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(limit, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "nothing ended it within {limit:?}");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let platform = Platform::shared();
    let limit = Duration::from_secs(30);
    let answer = raw(&platform, b"\x16\x03\x01\x02\x00\x01\r\n\r\n", limit).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let huge = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(200 << 10));
    let answer = raw(&platform, huge.as_bytes(), limit).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_a_byte_a_second_is_cut_off_while_others_are_answered() {
    let platform = Platform::shared();
    need!(platform, "a_client_that_sends_a_byte_a_second_is_cut_off_while_others_are_answered", "component");
    platform.deploy_once(&example("hello-rust")).await;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(platform.gateway).await.expect("connect");
        slow.spawn(async move {
            let begun = Instant::now();
            for byte in b"GET /fn/default/hello-rust HTTP/1.1\r\nhost: a\r\n".iter().cycle().take(60) {
                // A platform that has had enough closes: then there is something to read, if only the end.
                let pause = Duration::from_secs(1);
                let mut answer = [0; 256];
                if stream.write_all(std::slice::from_ref(byte)).await.is_err()
                    || tokio::time::timeout(pause, stream.read(&mut answer)).await.is_ok()
                {
                    break;
                }
            }
            begun.elapsed()
        });
    }
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(platform.get("hello-rust").await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(5), "others wait for the slow: {:?}", begun.elapsed());
    }
    for lasted in slow.join_all().await {
        assert!(lasted < Duration::from_secs(40), "a slow client was served for {lasted:?}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_greeting_is_cut_off() {
    let platform = Platform::shared();
    let limit = Duration::from_secs(40);
    // The second could yet become HTTP/2.
    let (silent, half) = tokio::join!(raw(&platform, b"", limit), raw(&platform, b"PRI * HT", limit));
    for answer in [silent, half] {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_with_who_begins_with_it() {
    let platform = Platform::shared();
    need!(platform, "http_2_is_spoken_with_who_begins_with_it", "component");
    platform.deploy_once(&example("hello-rust")).await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http();
    // Tasks of one connection: many streams at once.
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..50 {
        let request = platform.request(&format!("/fn/default/hello-rust?name=n{number}"), None);
        let client = client.clone();
        calls.spawn(async move { (number, rouse_e2e::call_on(&client, request).await.expect("an answer")) });
    }
    for (number, answer) in calls.join_all().await {
        assert_eq!(answer.json()["greeting"], format!("Hello, n{number}!"));
        assert_eq!(answer.header("x-rouse-invocation-id").len(), 36);
    }
}

#[tokio::test]
async fn many_calls_at_once_are_held_and_answered() {
    let platform = Platform::shared();
    need!(platform, "many_calls_at_once_are_held_and_answered", "component");
    platform.deploy_once(&example("hello-rust")).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let platform = std::sync::Arc::clone(&platform);
        calls.spawn(async move { platform.get("hello-rust").await.status.as_u16() });
    }
    let statuses = calls.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}
