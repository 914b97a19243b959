//! A function that no one calls is nothing: no process; and it wakes when it is called.

use rouse_e2e::{App, Platform, need};

/// Calls in quick succession are a history that says that no more will come after a pause.
const CALLS: usize = 12;

#[tokio::test]
async fn an_idle_function_vanishes_and_wakes_when_called() {
    let platform = Platform::start();
    need!(platform, "an_idle_function_vanishes_and_wakes_when_called", "python");
    let app = App::new("sleepy").python("sleepy", "return {'pid': os.getpid()}", "");
    platform.deploy(app.path()).await;
    assert_eq!(platform.functions(), [], "a function that was never called has no process");

    let first = platform.get("sleepy").await;
    assert_eq!(first.status, 200, "{}", first.text());
    let [_, start, init, _, _] = first.timing_us();
    assert!(start > 0 && init > 0, "the first call starts an instance: {first:?}");
    assert_eq!(platform.json(&["ps"]).await.as_array().map(Vec::len), Some(1));
    assert!(!platform.functions().is_empty());
    for _ in 1..CALLS {
        let answer = platform.get("sleepy").await;
        let [_, start, init, _, _] = answer.timing_us();
        assert_eq!((start, init), (0, 0), "a warm call starts nothing: {answer:?}");
    }

    platform.goes_to_nothing().await;
    assert_eq!(platform.json(&["ps"]).await, serde_json::json!([]));

    let woken = platform.get("sleepy").await;
    assert_eq!(woken.status, 200, "{}", woken.text());
    let [_, start, _, _, _] = woken.timing_us();
    assert!(start > 0, "it was started again: {woken:?}");
}
