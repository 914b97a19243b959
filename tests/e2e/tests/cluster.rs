//! Several nodes: what is deployed on one answers on all, what one accepts runs once, and neither a node nor the engine is
//! missed by callers of the others.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use rouse_e2e::{Answer, App, Engine, Platform, Seen, need, program, state_folder, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(180);

fn greeter(text: &str) -> App {
    App::new("greet").python("greet", &format!("return {{'statusCode': 200, 'body': '{text}'}}"), "")
}

async fn asynchronous(platform: &Platform, rest: &str, n: usize) -> Answer {
    let path = format!("/fn/default/{rest}");
    let mut request = platform.request(&path, Some(Bytes::from(n.to_string())));
    request.headers_mut().insert("x-rouse-async", "true".parse().expect("a header"));
    platform.send(request).await
}

async fn answers(platform: &Platform, text: &str) -> bool {
    let answer = platform.get("greet").await;
    answer.status == 200 && answer.text() == text
}

/// How many calls of a function are on the bill that this node shows.
async fn billed(platform: &Platform, function: &str) -> u64 {
    let cli = platform.rouse(&["usage", "--json"]).await;
    let usage: serde_json::Value = serde_json::from_str(&cli.out).unwrap_or_default();
    let rows = usage["rows"].as_array().into_iter().flatten();
    let of = rows.filter(|row| row["function"] == function);
    of.filter_map(|row| row["sums"]["invocations"].as_u64()).sum()
}

async fn members(platform: &Platform) -> Vec<String> {
    let status = platform.json(&["cluster", "status"]).await;
    let members = status["members"].as_array().expect("members").iter();
    members.map(|member| member["node"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn what_is_deployed_on_one_node_answers_on_all_and_goes_on_when_a_node_or_the_engine_is_gone() {
    const TEST: &str =
        "what_is_deployed_on_one_node_answers_on_all_and_goes_on_when_a_node_or_the_engine_is_gone";
    let Some(mut engine) = Engine::start(TEST, 1) else { return };
    let (folder_a, folder_b) = (state_folder(), state_folder());
    let a = Platform::start_with(folder_a.path(), &engine.join("a", "one"));
    need!(a, TEST, "python");
    let mut b = Some(Platform::start_with(folder_b.path(), &engine.join("b", "two")));
    let other = b.as_ref().expect("it runs");
    need!(other, TEST, "python");
    wait_for("both see both", LIMIT, async || {
        members(&a).await == ["a", "b"] && members(other).await == ["a", "b"]
    })
    .await;

    // Deployed on either, it answers on both.
    a.deploy(greeter("one").path()).await;
    assert!(answers(&a, "one").await);
    wait_for("the other node answers", LIMIT, async || answers(other, "one").await).await;
    other.deploy(greeter("two").path()).await;
    assert!(answers(other, "two").await);
    wait_for("the first node answers anew", LIMIT, async || answers(&a, "two").await).await;
    assert!(other.rouse(&["rollback", "greet"]).await.ok);
    wait_for("the first node goes back, too", LIMIT, async || answers(&a, "one").await).await;

    // What either accepts runs, once.
    let seen = Seen::listen().await;
    let app = App::new("later").python("later", tell::PYTHON, &tell::lines(seen.port()));
    a.deploy(app.path()).await;
    wait_for("the other node has it", LIMIT, async || asynchronous(other, "later", 0).await.status == 202)
        .await;
    let mut accepted = 1;
    for n in 1..20 {
        let node = if n % 2 == 0 { &a } else { other };
        assert_eq!(asynchronous(node, "later", n).await.status, 202);
        accepted += 1;
    }
    wait_for("all have run", LIMIT, async || seen.count() >= accepted).await;
    let ids: BTreeSet<_> = seen.lines().iter().map(|line| line["id"].to_string()).collect();
    assert_eq!((ids.len(), seen.count()), (accepted, accepted), "each once");

    // One bill, by whichever node: each call once, with those of the node that dies below.
    let all = u64::try_from(accepted).expect("a few");
    for node in [&a, other] {
        wait_for("all are on the bill", LIMIT, async || billed(node, "later").await == all).await;
    }
    let month = a.json(&["budget", "show"]).await["month"].as_str().expect("a month").to_owned();
    let invoice = async |node: &Platform| node.rouse(&["invoice", "--month", &month]).await;
    let (one, two) = (invoice(&a).await, invoice(other).await);
    assert!(one.ok && one.out == two.out && one.out.contains("later"), "{one:?}\n{two:?}");

    // One log, by whichever node.
    let line = "said-by-the-first";
    let says = format!("print('{line}')\nreturn {{'statusCode': 200}}");
    a.deploy(App::new("says").python("says", &says, "").path()).await;
    assert_eq!(a.get("says").await.status, 200);
    for node in [&a, other] {
        wait_for("the line is shown", LIMIT, async || {
            let logs = node.rouse(&["logs", "says"]).await.out;
            logs.lines().filter(|shown| shown.contains(line)).count() == 1
        })
        .await;
    }

    // A node that dies is missed, and the other goes on.
    other.kill_supervisor();
    wait_for("it is missed", LIMIT, async || members(&a).await == ["a"]).await;
    drop(b.take());
    assert!(answers(&a, "one").await);
    a.deploy(greeter("three").path()).await;
    assert!(answers(&a, "three").await);
    assert_eq!(asynchronous(&a, "later", 20).await.status, 202);
    wait_for("it has run", LIMIT, async || seen.count() > accepted).await;
    wait_for("it is on the bill", LIMIT, async || billed(&a, "later").await == all + 1).await;

    // Without the engine, calls go on; deploys and events are refused with the reason, and nothing pretends.
    engine.kill(0);
    assert!(answers(&a, "three").await);
    let refused = a.rouse(&["deploy", &greeter("four").path().display().to_string()]).await;
    assert!(!refused.ok && refused.err.contains("cluster"), "{}{}", refused.out, refused.err);
    let refused = asynchronous(&a, "later", 21).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["code"], "cluster-unavailable");
    assert!(answers(&a, "three").await);
    engine.start_again(0);
    let folder = greeter("five");
    wait_for("it can be deployed again", LIMIT, async || {
        a.rouse(&["deploy", &folder.path().display().to_string()]).await.ok
    })
    .await;
    assert!(answers(&a, "five").await);

    // A node that was away has what it missed.
    let b = Platform::start_with(folder_b.path(), &engine.join("b", "two"));
    wait_for("it answers as the others", LIMIT, async || answers(&b, "five").await).await;
    wait_for("it shows their bill", LIMIT, async || billed(&b, "later").await > all).await;
    let (one, two) = (billed(&a, "greet").await, billed(&b, "greet").await);
    assert!(one > 0 && two >= one, "{one} {two}");
}

#[tokio::test]
async fn a_node_with_a_name_that_is_taken_is_refused_and_says_why() {
    const TEST: &str = "a_node_with_a_name_that_is_taken_is_refused_and_says_why";
    let Some(engine) = Engine::start(TEST, 1) else { return };
    let (folder, other) = (state_folder(), state_folder());
    let _a = Platform::start_with(folder.path(), &engine.join("a", "one"));
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--aws", "off"]);
    command.arg("--state").arg(other.path()).args(engine.join("a", "two"));
    let refused =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("run rouse");
    let [out, err] =
        [&refused.stdout, &refused.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    let text = out + &err;
    assert!(!refused.status.success(), "{text}");
    assert!(text.contains("there is a node a already") && text.contains("--node"), "{text}");
}
