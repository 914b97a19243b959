//! Functions that are servers: what passes between the client and the node, whose place a small server takes here.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use harness::Gateway;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rouse_types::{
    Contract, Outcome, OutcomeHead, Protocol, Runtime, Timing,
    invocation::{INVOCATION_HEADER, OUTCOME_HEADER},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    task::JoinSet,
};

#[path = "component/harness.rs"]
mod harness;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Stands where the node would, for as long as the test runs.
fn node(socket: &Path) {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener).unwrap();
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
                });
            }
        });
    });
}

async fn answer(mut request: Request<Incoming>) -> Response<Body> {
    assert!(request.headers().contains_key(INVOCATION_HEADER), "it is a call");
    let outcome = serde_json::to_string(&OutcomeHead {
        outcome: Outcome::Ok,
        timing: Timing { run_us: 1_500, ..Timing::default() },
        billed_ms: 2,
        cost_nanos: Some(41),
        cold: false,
    });
    let outcome: http::HeaderValue = outcome.unwrap().try_into().unwrap();
    if request.uri().path() == "/switch" {
        let upgrade = hyper::upgrade::on(&mut request);
        hyper::rt::Executor::execute(&TokioExecutor::new(), async move {
            let mut tunnel = TokioIo::new(upgrade.await.unwrap());
            let mut heard = [0; 16];
            while let Ok(bytes @ 1..) = tunnel.read(&mut heard).await {
                tunnel.write_all(&heard[..bytes].to_ascii_uppercase()).await.unwrap();
            }
        });
        let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        let asked = request.headers();
        response.headers_mut().insert("connection", asked["connection"].clone());
        response.headers_mut().insert("upgrade", asked["upgrade"].clone());
        return response;
    }
    if request.uri().path() == "/seen" {
        let seen = format!("{:?} {:?}", request.version(), request.headers());
        let body = Full::new(Bytes::from(seen)).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        response.headers_mut().insert(OUTCOME_HEADER, outcome);
        return response;
    }
    // An echo, with a trailer of its own.
    let mut body = request.into_body();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-own", "1".parse().unwrap());
    trailers.insert(OUTCOME_HEADER, outcome);
    let mut trailers = Some(trailers);
    let stream = futures_util::stream::poll_fn(move |cx| {
        use hyper::body::Body as _;
        std::pin::Pin::new(&mut body)
            .poll_frame(cx)
            .map(|frame| frame.or_else(|| trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))))
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert("trailer", "x-own".parse().unwrap());
    response.headers_mut().append("trailer", OUTCOME_HEADER.parse().unwrap());
    *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
    response
}

fn dial(gateway: &Gateway, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    stream
}

/// Reads until this text has come.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let mut byte = [0; 1];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

#[test]
fn a_conversation_passes_piece_by_piece_and_ends_with_the_bill_and_the_codes_own_trailers() {
    let gateway = Gateway::start_server(|_| {});
    node(&gateway.node_socket());
    let head = "POST /fn/t/probe/echo HTTP/1.1\nhost: a\nte: trailers\ntransfer-encoding: chunked\n\n";
    let mut stream = dial(&gateway, head);
    stream.write_all(b"3\r\none\r\n").unwrap();
    let answer = read_until(&mut stream, "3\r\none\r\n");
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    assert!(!answer.contains(OUTCOME_HEADER), "{answer}");
    stream.write_all(b"3\r\ntwo\r\n").unwrap();
    read_until(&mut stream, "3\r\ntwo\r\n");
    stream.write_all(b"0\r\n\r\n").unwrap();
    let end = read_until(&mut stream, "\r\n\r\n");
    assert!(end.contains("x-own: 1") && end.contains("x-rouse-billed-ms: 2"), "{end}");
    assert!(end.contains("run;dur=1.500") && !end.contains(OUTCOME_HEADER), "{end}");
}

#[test]
fn an_upgrade_makes_a_tunnel_from_the_client_to_the_code() {
    let gateway = Gateway::start_server(|_| {});
    node(&gateway.node_socket());
    let head =
        "GET /fn/t/probe/switch HTTP/1.1\nhost: a\nconnection: keep-alive, Upgrade\nupgrade: websocket\n\n";
    let mut stream = dial(&gateway, head);
    let answer = read_until(&mut stream, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
    assert!(answer.contains("x-rouse-invocation-id: "), "{answer}");
    for text in ["one", "two"] {
        stream.write_all(text.as_bytes()).unwrap();
        read_until(&mut stream, &text.to_uppercase());
    }
    // The client's end ends the code's, whose end comes back.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_request_to_switch_may_be_answered_like_any_other_and_lambda_functions_never_hear_of_it() {
    let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("x-mine", "1")];
    for (contract, hears) in [(Contract::Http, true), (Contract::Lambda, false)] {
        let gateway = Gateway::start_server(|version| {
            version.runtime = Runtime::Node { major: 20 };
            version.contract = contract;
        });
        node(&gateway.node_socket());
        // The harness says `connection: close` itself.
        let mut stream = dial(
            &gateway,
            &headers
                .iter()
                .fold("GET /fn/t/probe/seen HTTP/1.1\nhost: a\n".to_owned(), |head, (name, value)| {
                    format!("{head}{name}: {value}\n")
                })
                .replace("x-mine: 1\n", "x-mine: 1\n\n"),
        );
        let answer = read_until(&mut stream, "\"x-mine\"");
        let rest = read_until(&mut stream, "}");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("x-rouse-billed-ms: 2"), "{answer}");
        assert_eq!((answer + &rest).contains("websocket"), hears, "{contract}");
    }
}

#[test]
fn grpc_keeps_its_trailers_over_http2_all_the_way() {
    let gateway = Gateway::start_server(|version| version.http.protocol = Protocol::H2c);
    node(&gateway.node_socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        let address = gateway.address();
        let request = |path: &str| {
            let uri = format!("http://{address}/fn/t/probe{path}");
            let builder =
                Request::post(uri).header("te", "trailers").header("content-type", "application/grpc");
            builder.body(Full::new(Bytes::from("ping"))).unwrap()
        };
        let seen = client.send_request(request("/seen")).await.unwrap();
        let seen = String::from_utf8(seen.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(seen.starts_with("HTTP/2.0") && seen.contains("\"te\": \"trailers\""), "{seen}");
        let answer = client.send_request(request("/echo")).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap();
        let trailers = answer.trailers().cloned().expect("trailers");
        assert_eq!(answer.to_bytes(), "ping");
        assert_eq!(
            (&trailers["x-own"], &trailers["x-rouse-billed-ms"]),
            (&"1".parse().unwrap(), &"2".parse().unwrap())
        );
        assert!(!trailers.contains_key(OUTCOME_HEADER));
    });
}
