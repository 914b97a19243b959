//! Processes of the platform that are killed: calls go on, and nothing that was answered is forgotten.

use std::time::Duration;

use rouse_e2e::{Load, Platform, example, need, wait_for};

// Each test has a platform of its own: what one kills, another would miss.

const RIGHT: u16 = 200;

async fn invocations(platform: &Platform) -> u64 {
    platform.json(&["usage"]).await["total"]["invocations"].as_u64().expect("a sum")
}

async fn control_is_back(platform: &Platform) {
    wait_for("control answers again", Duration::from_secs(30), async || {
        platform.rouse(&["list", "--json"]).await.ok
    })
    .await;
}

#[tokio::test]
async fn calls_go_on_without_one_failing_while_control_is_killed() {
    let platform = std::sync::Arc::new(Platform::start());
    need!(platform, "calls_go_on_without_one_failing_while_control_is_killed", "component");
    need!(platform, "calls_go_on_without_one_failing_while_control_is_killed", "node");
    platform.deploy_once(&example("hello-rust")).await;
    platform.deploy_once(&example("hello-node")).await;
    let right = |answer: &rouse_e2e::Answer| answer.status == RIGHT;
    let component = Load::start(&platform, 2, "/fn/default/hello-rust", right);
    let handler = Load::start(&platform, 2, "/fn/default/hello-node", right);
    component.answer_more(10).await;
    handler.answer_more(10).await;
    for _ in 0..3 {
        platform.kill("control");
        component.answer_more(30).await;
        handler.answer_more(30).await;
        control_is_back(&platform).await;
    }
    for load in [component, handler] {
        let (answered, failures) = load.stop().await;
        assert_eq!(failures, [] as [String; 0], "of {answered} calls");
    }
}

#[tokio::test]
async fn no_usage_record_of_an_answered_call_is_lost_when_a_gateway_is_killed() {
    let platform = std::sync::Arc::new(Platform::start());
    need!(platform, "no_usage_record_of_an_answered_call_is_lost_when_a_gateway_is_killed", "component");
    platform.deploy(&example("hello-rust")).await;
    let mut answered = 0;
    let mut failed = 0;
    for _ in 0..3 {
        let load = Load::start(&platform, 4, "/fn/default/hello-rust", |answer| answer.status == RIGHT);
        load.answer_more(200).await;
        platform.kill("gateway");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (ok, failures) = load.stop().await;
        answered += ok as u64;
        failed += failures.len() as u64;
        wait_for("a gateway answers again", Duration::from_secs(30), async || {
            let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build_http();
            rouse_e2e::call_on(&client, platform.request("/fn/default/nobody", None)).await.is_ok()
        })
        .await;
    }
    // A call whose answer was on its way when the gateway was killed may be on the bill as well.
    wait_for("all answered calls are on the bill", Duration::from_secs(30), async || {
        invocations(&platform).await >= answered
    })
    .await;
    let billed = invocations(&platform).await;
    assert!(billed <= answered + failed, "{billed} billed, {answered} answered, {failed} failed");
}

#[tokio::test]
async fn what_is_deployed_outlives_the_death_of_every_process() {
    let platform = std::sync::Arc::new(Platform::start());
    need!(platform, "what_is_deployed_outlives_the_death_of_every_process", "component");
    platform.deploy_once(&example("hello-rust")).await;
    for role in ["control", "gateway", "node", "spawner"] {
        platform.kill(role);
    }
    control_is_back(&platform).await;
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    wait_for("the function answers again", Duration::from_secs(30), async || {
        let call = rouse_e2e::call_on(&client, platform.request("/fn/default/hello-rust", None));
        call.await.is_ok_and(|answer| answer.status == RIGHT)
    })
    .await;
    assert!(platform.rouse(&["list"]).await.out.contains("hello-rust"));
}
