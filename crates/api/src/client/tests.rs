//! What users are told when there is no platform, or something else answers in its place.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn told_by(answer: &'static [u8]) -> Refusal {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let client = Client::new(&url, Some("token".to_owned())).expect("a client");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = [0; 1_024];
        let read = stream.read(&mut head).await.expect("a request");
        let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
        assert!(head.starts_with("get /v1/info http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: bearer token") && head.contains("host: 127.0.0.1:"), "{head}");
        stream.write_all(answer).await.expect("sent");
    };
    tokio::join!(client.info(), serve).0.expect_err("no info")
}

#[tokio::test]
async fn a_platform_that_is_not_there_is_told_with_the_next_step() {
    for url in ["http://127.0.0.1:1", "unix:/nonexistent.sock"] {
        let client = Client::new(url, None).expect("a client");
        let refusal = client.info().await.expect_err("no one is there");
        assert_eq!(refusal.code, Code::ControlUnavailable);
        assert!(refusal.message.contains(url), "{refusal}");
        assert!(refusal.hint.expect("a hint").contains("rouse serve"));
    }
    for url in ["", "127.0.0.1:8081", "https://example.com", "http://", "ftp://x"] {
        assert!(Client::new(url, None).is_err(), "{url}");
    }
}

#[tokio::test]
async fn what_another_server_answers_is_never_taken_for_the_platforms() {
    let html = told_by(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>").await;
    assert_eq!(html.code, Code::Internal);
    assert!(html.message.contains("502") && html.hint.is_some(), "{html}");
    let other = told_by(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(other.code, Code::InvalidResponse);
    let refusal = br#"HTTP/1.1 401 Unauthorized
content-length: 53

{"code":"unauthorized","message":"no","hint":"token"}"#;
    assert_eq!(told_by(refusal).await.hint.as_deref(), Some("token"));
    assert_eq!(
        told_by(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await.code,
        Code::ControlUnavailable
    );
    assert_eq!(told_by(b"SSH-2.0-OpenSSH_9.2\r\n").await.code, Code::ControlUnavailable);
}
