//! Deploys: atomic, without a lost request, and taken back; calls shared among versions by weight.

use rouse_e2e::{App, Load, Platform, need};

fn versions(name: &str, text: &str) -> App {
    App::new(name).python(name, &format!("return '{text}'"), "")
}

#[tokio::test]
async fn a_redeploy_under_load_loses_no_request() {
    let platform = Platform::shared();
    need!(platform, "a_redeploy_under_load_loses_no_request", "python");
    platform.deploy(versions("moving", "v1").path()).await;
    let load = Load::start(&platform, 4, "/fn/default/moving", |answer| {
        answer.status == 200 && answer.text().contains('v')
    });
    load.answer_more(20).await;
    for number in 2..5 {
        platform.deploy(versions("moving", &format!("v{number}")).path()).await;
        // From the moment that the deploy says so, every new call is answered by what was deployed.
        assert!(platform.get("moving").await.text().contains(&format!("v{number}")));
        load.answer_more(20).await;
    }
    let (answered, failures) = load.stop().await;
    assert_eq!(failures, [] as [String; 0], "of {answered} calls");
}

#[tokio::test]
async fn a_rollback_brings_the_version_before_back() {
    let platform = Platform::shared();
    need!(platform, "a_rollback_brings_the_version_before_back", "python");
    platform.deploy(versions("back", "old").path()).await;
    platform.deploy(versions("back", "new").path()).await;
    assert!(platform.get("back").await.text().contains("new"));
    let cli = platform.rouse(&["rollback", "back"]).await;
    assert!(cli.ok, "{cli:?}");
    assert!(platform.get("back").await.text().contains("old"));
    let versions = platform.json(&["versions", "back"]).await;
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "a rollback makes no version: {versions}");
}

#[tokio::test]
async fn a_deploy_of_the_same_makes_no_new_version() {
    let platform = Platform::shared();
    need!(platform, "a_deploy_of_the_same_makes_no_new_version", "python");
    let app = versions("same", "same");
    platform.deploy(app.path()).await;
    platform.deploy(app.path()).await;
    assert_eq!(platform.json(&["versions", "same"]).await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_alias_shares_calls_by_weight_and_names_one_version_exactly() {
    let platform = Platform::shared();
    need!(platform, "an_alias_shares_calls_by_weight_and_names_one_version_exactly", "python");
    platform.deploy(versions("shared", "first").path()).await;
    platform.deploy(versions("shared", "second").path()).await;
    let cli = platform.rouse(&["alias", "set", "shared", "canary", "1=70", "2=30"]).await;
    assert!(cli.ok, "{cli:?}");
    let mut first = 0;
    for _ in 0..200 {
        let answer = platform.get("shared@canary").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        first += usize::from(answer.text().contains("first"));
    }
    // 140 are expected, with a deviation of 6.5: five of those to either side.
    assert!((107..=173).contains(&first), "{first} of 200 calls with a weight of 70 %");
    assert!(platform.get("shared@1").await.text().contains("first"), "a number names its version");
    assert!(platform.get("shared@2").await.text().contains("second"));
    let unknown = platform.get("shared@nothing").await;
    assert_eq!((unknown.status.as_u16(), unknown.code()), (404, "alias-not-found"));
}

#[tokio::test]
async fn a_caller_with_an_affinity_stays_with_one_version() {
    let platform = Platform::shared();
    need!(platform, "a_caller_with_an_affinity_stays_with_one_version", "python");
    platform.deploy(versions("sticky", "first").path()).await;
    platform.deploy(versions("sticky", "second").path()).await;
    assert!(platform.rouse(&["alias", "set", "sticky", "canary", "1=50", "2=50"]).await.ok);
    let mut seen = std::collections::BTreeSet::new();
    for caller in 0..16 {
        let mut answers = std::collections::BTreeSet::new();
        // Each on a connection of its own, so that both gateways are asked.
        for _ in 0..6 {
            let mut request = platform.request("/fn/default/sticky@canary", None);
            let key = format!("caller-{caller}").parse().expect("a header's value");
            request.headers_mut().insert("x-rouse-affinity", key);
            let answer = platform.send(request).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answers.insert(answer.text());
        }
        assert_eq!(answers.len(), 1, "caller {caller} was answered by more than one version: {answers:?}");
        seen.extend(answers);
    }
    assert_eq!(seen.len(), 2, "the callers are spread over the versions: {seen:?}");
}

#[tokio::test]
async fn an_app_goes_live_whole_or_not_at_all() {
    let platform = Platform::shared();
    need!(platform, "an_app_goes_live_whole_or_not_at_all", "python");
    let good = versions("whole", "before");
    platform.deploy(good.path()).await;
    let bad = versions("whole", "after")
        .file("broken.wasm", b"\0asm\x01\0\0\0 not a component")
        .function("broken", "source = \"broken.wasm\"\nruntime = \"component\"");
    let cli = platform.rouse(&["deploy", &bad.path().display().to_string()]).await;
    assert!(!cli.ok, "{cli:?}");
    assert!(platform.get("whole").await.text().contains("before"), "what was live stays live");
    assert_eq!(platform.get("broken").await.status, 404, "nothing of the deploy is live");
}

#[tokio::test]
async fn a_deleted_app_stops_answering_and_frees_its_names() {
    let platform = Platform::shared();
    need!(platform, "a_deleted_app_stops_answering_and_frees_its_names", "python");
    platform.deploy(versions("gone", "here").path()).await;
    let other = App::new("other").python("gone", "return 'mine'", "");
    let taken = platform.rouse(&["deploy", &other.path().display().to_string()]).await;
    assert!(!taken.ok && taken.err.contains("gone"), "a name belongs to one app: {taken:?}");
    assert!(platform.rouse(&["delete", "gone", "--yes"]).await.ok);
    assert_eq!(platform.get("gone").await.status, 404);
    platform.deploy(other.path()).await;
    assert_eq!(platform.get("gone").await.text(), "mine");
}
