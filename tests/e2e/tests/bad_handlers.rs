//! Handlers that do what handlers do wrong: the caller learns it, it is metered, and no other call is hurt.

use std::time::{Duration, Instant};

use rouse_e2e::{App, Platform, example, need, skipped, wait_for};

/// Calls a function, which fails with this status and code; meanwhile and afterwards others are answered.
async fn fails(platform: &Platform, function: &str, status: u16, code: &str) -> String {
    platform.deploy_once(&example("hello-node")).await;
    let (answer, other) = tokio::join!(platform.get(function), platform.get("hello-node/?name=other"));
    assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{}", answer.text());
    assert!(answer.json()["message"].as_str().expect("a message").contains(function), "{}", answer.text());
    assert_eq!(other.status, 200, "another function was hurt: {}", other.text());
    answer.text()
}

async fn deploy(platform: &Platform, name: &str, body: &str, lines: &str) {
    platform.deploy(App::new(name).python(name, body, lines).path()).await;
}

#[tokio::test]
async fn a_handler_that_raises_is_a_function_error_and_answers_the_next_call() {
    let platform = Platform::shared();
    need!(platform, "a_handler_that_raises_is_a_function_error_and_answers_the_next_call", "python");
    let body = "if event.get('rawPath') == '/ok': return 'fine'\nraise ValueError('no good')";
    deploy(&platform, "raises", body, "").await;
    fails(&platform, "raises", 502, "function-error").await;
    assert_eq!(platform.get("raises/ok").await.status, 200);
    let cli = platform.rouse(&["invoke", "raises", "{}"]).await;
    assert!(!cli.ok && (cli.out + &cli.err).contains("no good"), "who invokes by hand sees the error");
}

#[tokio::test]
async fn a_handler_that_exits_is_a_function_error_and_is_started_again() {
    let platform = Platform::shared();
    need!(platform, "a_handler_that_exits_is_a_function_error_and_is_started_again", "python");
    let body = "if event.get('rawPath') == '/ok': return 'fine'\nos._exit(3)";
    deploy(&platform, "exits", body, "").await;
    for _ in 0..2 {
        fails(&platform, "exits", 502, "function-error").await;
        assert_eq!(platform.get("exits/ok").await.status, 200);
    }
}

#[tokio::test]
async fn code_that_cannot_be_loaded_fails_to_start_and_says_why() {
    let platform = Platform::shared();
    need!(platform, "code_that_cannot_be_loaded_fails_to_start_and_says_why", "python");
    let app = App::new("unloadable")
        .file("f/app.py", "import no_such_module\n")
        .function("unloadable", "source = \"f\"\nhandler = \"app.handler\"");
    platform.deploy(app.path()).await;
    let answer = platform.get("unloadable").await;
    assert!(
        answer.status == 502 && ["start-failed", "function-error"].contains(&answer.code()),
        "{}",
        answer.text()
    );
    wait_for("the reason is in the logs", Duration::from_secs(10), async || {
        platform.rouse(&["logs", "unloadable"]).await.out.contains("no_such_module")
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_never_answers_is_stopped_at_its_time() {
    let platform = Platform::shared();
    need!(platform, "a_handler_that_never_answers_is_stopped_at_its_time", "python");
    deploy(&platform, "never", "while True: time.sleep(60)", "timeout = \"1s\"").await;
    let begun = Instant::now();
    fails(&platform, "never", 504, "function-timeout").await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handler_that_eats_memory_is_stopped_at_its_limit() {
    let platform = Platform::shared();
    need!(platform, "a_handler_that_eats_memory_is_stopped_at_its_limit", "python");
    let body = "import mmap\neaten = mmap.mmap(-1, 1 << 30)\n\
                for page in range(0, 1 << 30, 4096): eaten[page] = 1";
    deploy(&platform, "eats", body, "memory = \"64MiB\"\ntimeout = \"60s\"").await;
    let doctor = platform.rouse(&["doctor"]).await.out;
    let limited = doctor.lines().any(|line| line.contains("limit of memory") && line.contains(" ok "));
    if !limited {
        return skipped("a_handler_that_eats_memory_is_stopped_at_its_limit", "this host limits no memory");
    }
    let answer = platform.get("eats").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "out-of-memory"), "{}", answer.text());
    assert!(answer.text().contains("MiB at its peak"), "{}", answer.text());
    platform.deploy_once(&example("hello-node")).await;
    assert_eq!(platform.get("hello-node").await.status, 200);
}

#[tokio::test]
async fn a_handler_that_forks_without_end_is_held_to_its_processes() {
    let platform = Platform::shared();
    need!(platform, "a_handler_that_forks_without_end_is_held_to_its_processes", "python");
    let body = "while True:\n    try:\n        if os.fork() == 0: time.sleep(600)\n    except OSError: time.sleep(0.1)";
    deploy(&platform, "forks", body, "timeout = \"3s\"\nprocesses_max = 20").await;
    fails(&platform, "forks", 504, "function-timeout").await;
    wait_for("its processes are gone", Duration::from_secs(20), async || {
        let all = platform.functions();
        // Those of the other functions of this file may go on.
        all.len() < 20
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_fills_its_disk_hurts_itself_alone() {
    let platform = Platform::shared();
    need!(platform, "a_handler_that_fills_its_disk_hurts_itself_alone", "python");
    let body = "with open('/tmp/full', 'wb') as full:\n    while True: full.write(b'x' * (1 << 20))";
    deploy(&platform, "fills", body, "tmp = \"16MiB\"\ntimeout = \"20s\"").await;
    let answer = platform.get("fills").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    platform.deploy_once(&example("hello-node")).await;
    assert_eq!(platform.get("hello-node").await.status, 200);
}

#[tokio::test]
async fn a_handler_that_writes_logs_without_end_is_cut_short_and_counted() {
    let platform = Platform::shared();
    need!(platform, "a_handler_that_writes_logs_without_end_is_cut_short_and_counted", "python");
    let body = "for i in range(200000): print('0123456789' * 5)\nreturn 'done'";
    deploy(&platform, "shouts", body, "log_max = \"64KiB\"").await;
    let answer = platform.get("shouts").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for("what was kept is in the logs", Duration::from_secs(10), async || {
        let logs = platform.rouse(&["logs", "shouts"]).await.out;
        logs.contains("0123456789") && logs.len() < 1 << 20
    })
    .await;
}

#[tokio::test]
async fn a_huge_answer_is_refused() {
    let platform = Platform::shared();
    need!(platform, "a_huge_answer_is_refused", "python");
    deploy(&platform, "huge", "return 'x' * (2 << 20)", "response_body_max = \"1MiB\"").await;
    fails(&platform, "huge", 502, "response-too-large").await;
}
