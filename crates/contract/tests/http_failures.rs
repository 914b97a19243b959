//! The HTTP contract over real containers: servers that are not there, end, hang, or are hostile.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use http_body_util::BodyExt;
use rouse_contract::http::{BodyError, StartError, Why};
use rouse_sandbox::Exit;
use server::{Function, ask, call, get, has, piece};

#[path = "../../sandbox/tests/support/host.rs"]
mod host;
#[path = "support/server.rs"]
mod server;

fn over_python<F: Future<Output = ()>>(test: &str, program: &str, run: impl FnOnce(Function) -> F + Send) {
    if !has(test, "python3") {
        return;
    }
    let Some(host) = host::Host::new(test) else { return };
    let function = Function::python(&host, program);
    host::as_the_node(|| run(function));
}

/// A server that does, for each connection, what `act` says; it has read a request into `asked`.
fn raw(act: &str) -> String {
    format!(
        "
import os, socket, sys, time
server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
count = 0
while True:
    stream, _ = server.accept()
    while True:
        asked = stream.recv(65536)
        if not asked:
            break
        count += 1
{}
",
        act.lines().map(|line| format!("        {line}")).collect::<Vec<_>>().join("\n")
    )
}

#[test]
fn a_port_that_never_opens_is_told_with_the_next_step_and_where_it_listens_instead() {
    let program = "
import socket, sys, time
print('cannot find the cheese', file=sys.stderr, flush=True)
server = socket.create_server(('127.0.0.1', 5000))
time.sleep(600)
";
    over_python("a_port_that_never_opens_is_told", program, |mut function| async move {
        function.version.limits.init_timeout_ms = 2_000;
        let failed = function.try_start().await.err().expect("it never listens");
        assert!(matches!(failed.error, StartError::NotListening { other: Some(5000), .. }), "{failed:?}");
        assert_eq!(
            failed.to_string(),
            "it did not listen on port 8080 within 2000 ms (something of it listens on port 5000); the last it wrote \
             to standard error: cannot find the cheese"
        );
        assert!(failed.error.hint().unwrap().contains("listen on 0.0.0.0:$PORT or 127.0.0.1:$PORT"));
        assert!(failed.init >= Duration::from_secs(2) && failed.stats.cpu_us > 0, "{failed:?}");
    });
}

#[test]
fn a_server_that_stays_unhealthy_is_told_with_its_last_answer() {
    let program = raw("stream.sendall(b'HTTP/1.1 500 No\\r\\ncontent-length: 0\\r\\n\\r\\n')");
    over_python("a_server_that_stays_unhealthy_is_told", &program, |mut function| async move {
        function.version.limits.init_timeout_ms = 2_000;
        function.version.http.health = Some("/up".into());
        let failed = function.try_start().await.err().expect("it never is healthy");
        let text = failed.to_string();
        assert!(text.starts_with("GET /up did not answer 2xx within 2000 ms: it answered 500"), "{text}");
    });
}

#[test]
fn a_server_that_ends_before_it_is_ready_is_told_at_once_with_its_last_words() {
    let program = "import sys\nprint('no licence', file=sys.stderr)\nsys.exit(3)\n";
    over_python("a_server_that_ends_before_it_is_ready", program, |function| async move {
        let failed = function.try_start().await.err().expect("it ended");
        let text = failed.to_string();
        assert_eq!(
            text,
            "it exited with status 3 before it was ready; the last it wrote to standard error: no licence"
        );
    });
}

#[test]
fn a_server_that_ended_between_calls_has_seen_nothing_of_the_next() {
    let act = "stream.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok')\nos._exit(4)";
    over_python("a_server_that_ended_between_calls", &raw(act), |function| async move {
        let server = function.start().await;
        assert_eq!(ask(&server, get("/")).await.expect("answered").body(), "ok");
        assert_eq!(server.exited().await, Exit::Code(4));
        let failure = ask(&server, get("/")).await.expect_err("it is gone");
        assert!(!failure.sent && failure.is_over(), "{failure:?}");
        assert_eq!(failure.why, Why::Exited(Exit::Code(4)));
    });
}

#[test]
fn a_server_that_ends_in_the_middle_has_seen_the_call() {
    over_python("a_server_that_ends_in_the_middle", &raw("os._exit(5)"), |function| async move {
        let server = function.start().await;
        let failure = ask(&server, get("/")).await.expect_err("it ends");
        assert!(failure.sent && failure.is_over(), "{failure:?}");
        assert_eq!(failure.why, Why::Exited(Exit::Code(5)));
    });
}

#[test]
fn a_connection_that_the_server_closed_between_calls_is_replaced() {
    // It promises to keep the connection and closes it at once.
    let act = "stream.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 1\\r\\n\\r\\n%d' % count)\nbreak";
    let program = close(&raw(act));
    over_python("a_connection_that_the_server_closed_is_replaced", &program, |function| async move {
        let server = function.start().await;
        for count in 1..=9 {
            assert_eq!(ask(&server, get("/")).await.expect("answered").body(), &count.to_string());
            // Its end has arrived by then, or is found when the next call takes the connection.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn a_connection_that_is_closed_in_place_of_an_answer_is_told_and_the_server_serves_on() {
    let act = "if count == 1: break\nstream.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 1\\r\\n\\r\\n%d' % count)";
    over_python(
        "a_connection_that_is_closed_in_place_of_an_answer",
        &close(&raw(act)),
        |function| async move {
            let server = function.start().await;
            let failure = ask(&server, get("/")).await.expect_err("it closes");
            assert_eq!((&failure.why, failure.sent, failure.is_over()), (&Why::Closed, true, false));
            assert_eq!(ask(&server, get("/")).await.expect("answered").body(), "2");
        },
    );
}

/// Closes a connection once it is done with it.
fn close(program: &str) -> String {
    format!("{program}    stream.close()\n")
}

#[test]
fn a_call_that_runs_over_its_time_ends_before_or_within_its_answer() {
    let act = "if b'/begin' in asked: stream.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 9\\r\\n\\r\\nbegun')\ntime.sleep(600)";
    over_python("a_call_that_runs_over_its_time_ends", &raw(act), |function| async move {
        let server = function.start().await;
        let short =
            |timeout| rouse_contract::http::Call { timeout: Duration::from_millis(timeout), ..call() };
        let mut answer = server.call(short(2_000), get("/begin")).await.expect("answered").into_body();
        assert_eq!(piece(&mut answer).await, "begun");
        assert_eq!(answer.frame().await.unwrap().unwrap_err(), BodyError::Timeout);
        let failure = server.call(short(300), get("/")).await.expect_err("it sleeps");
        assert_eq!((&failure.why, failure.sent, failure.is_over()), (&Why::Timeout, true, true));
    });
}

#[test]
fn an_answer_that_is_too_large_is_refused_if_it_says_so_and_broken_off_if_not() {
    let act = "
if b'/said' in asked: stream.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 5000\\r\\n\\r\\n' + b'x' * 5000)
else: stream.sendall(b'HTTP/1.1 200 OK\\r\\nconnection: close\\r\\n\\r\\n' + b'x' * 5000)
break";
    over_python("an_answer_that_is_too_large_is_refused", &close(&raw(act)), |mut function| async move {
        function.version.limits.response_body_bytes = 4_096;
        let server = function.start().await;
        let failure = server.call(call(), get("/said")).await.expect_err("too large");
        assert_eq!((&failure.why, failure.sent), (&Why::TooLarge(4_096), true));
        let answer = server.call(call(), get("/unsaid")).await.expect("it has begun");
        let error = answer.into_body().collect().await.expect_err("too large");
        assert_eq!(error, BodyError::TooLarge(4_096));
    });
}

#[test]
fn what_is_no_http_is_refused_and_an_endless_head_is_bounded() {
    let act = "
if b'/endless' in asked:
    stream.sendall(b'HTTP/1.1 200 OK\\r\\n')
    try:
        while True: stream.sendall(b'x-more: ' + b'y' * 60000 + b'\\r\\n')
    except OSError: break
stream.sendall(b'hello, who is there?\\r\\n\\r\\n')
break";
    over_python("what_is_no_http_is_refused", &close(&raw(act)), |function| async move {
        let server = function.start().await;
        for path in ["/", "/endless"] {
            let failure = ask(&server, get(path)).await.expect_err("no HTTP");
            assert!(matches!(failure.why, Why::Invalid(_)) && failure.sent, "{path}: {failure:?}");
        }
    });
}

#[test]
fn a_broken_off_answer_is_never_taken_for_a_whole_one() {
    let act = "stream.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 10\\r\\n\\r\\nhalf')\nbreak";
    over_python("a_broken_off_answer_is_never_taken_for_whole", &close(&raw(act)), |function| async move {
        let server = function.start().await;
        let answer = server.call(call(), get("/")).await.expect("it has begun");
        assert_eq!(answer.into_body().collect().await.expect_err("broken"), BodyError::Broken);
    });
}
