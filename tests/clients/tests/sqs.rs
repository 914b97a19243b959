//! Amazon's own clients of SQS against the whole platform, and the functions that their messages rouse.

use std::{collections::BTreeSet, process::Command, time::Duration};

use rouse_clients::{environment, run, script, tool};
use rouse_e2e::{App, Platform, Seen, need, skipped, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(90);
/// Calls in quick succession are a history that says that no more will come after a pause.
const CALLS: usize = 12;

/// Runs a part of the script for boto3; nothing if the machine lacks it.
async fn boto3(test: &str, platform: &Platform, args: &[&str]) -> Option<String> {
    let Some(python) = tool("ROUSE_AWS_CLIENTS_PYTHON") else {
        skipped(test, "boto3 is not there: run `cargo xtask setup`");
        return None;
    };
    let mut command = Command::new(python.join("bin/python"));
    command.arg(script("sqs.py")).args(args);
    Some(run(command, environment(platform).await).await)
}

/// Runs one test of the script.
macro_rules! boto3 {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let platform = Platform::shared();
            need!(platform, stringify!($name), "python");
            boto3(stringify!($name), &platform, &[stringify!($name)]).await;
        }
    )*};
}

boto3! {
    a_queue_is_made_found_changed_listed_tagged_and_deleted
    a_message_is_sent_received_held_and_deleted_with_what_is_attached_to_it
    batches_tell_of_each_message_what_came_of_it
    what_is_wrong_with_queues_is_told_as_aws_tells_it
    a_receiver_waits_for_a_message_and_two_receivers_share_them
    a_fifo_queue_keeps_order_and_takes_a_repeated_message_once
    poison_goes_to_the_dead_letter_queue_and_is_moved_back
    what_is_wrong_with_a_request_is_told_as_sqs_tells_it
    an_event_source_mapping_drains_a_queue_while_it_is_enabled
}

fn ids(json: &str) -> BTreeSet<String> {
    serde_json::from_str(json.trim()).expect("ids")
}

#[tokio::test]
async fn an_asynchronous_calls_outcome_goes_to_its_destinations_and_rouse_events_shows_it() {
    let test = "an_asynchronous_calls_outcome_goes_to_its_destinations_and_rouse_events_shows_it";
    let platform = Platform::shared();
    need!(platform, test, "python");
    let args = ["an_asynchronous_calls_outcome_goes_to_its_destinations_and_dead_letters"];
    let Some(request) = boto3(test, &platform, &args).await else { return };
    let event = platform.json(&["events", "show", request.trim()]).await;
    assert_eq!(
        (&event["event"]["state"], &event["event"]["attempts"]),
        (&"failed".into(), &2.into()),
        "{event}"
    );
}

#[tokio::test]
async fn a_message_that_boto3_sends_rouses_the_function_whose_trigger_names_the_queue() {
    let test = "a_message_that_boto3_sends_rouses_the_function_whose_trigger_names_the_queue";
    let platform = Platform::start();
    need!(platform, test, "python");
    let seen = Seen::listen().await;
    let lines = format!(
        "{}[[functions.handle.triggers]]\nqueue = {{ name = \"orders\", batch_size = 1 }}",
        tell::lines(seen.port())
    );
    platform.deploy(App::new("handle").python("handle", tell::PYTHON, &lines).path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first message");
    let Some(sent) = boto3(test, &platform, &["sends", "orders", &CALLS.to_string()]).await else { return };
    wait_for("the messages are handled", LIMIT, async || seen.count() >= CALLS).await;
    let got = seen
        .lines()
        .into_iter()
        .map(|line| line["event"]["Records"][0]["messageId"].as_str().expect("an id").to_owned());
    assert_eq!(got.collect::<BTreeSet<_>>(), ids(&sent));
    platform.goes_to_nothing().await;
}

#[tokio::test]
async fn a_message_that_boto3_sends_rouses_the_function_that_a_mapping_names() {
    let test = "a_message_that_boto3_sends_rouses_the_function_that_a_mapping_names";
    let platform = Platform::start();
    need!(platform, test, "python");
    if boto3(test, &platform, &["maps"]).await.is_none() {
        return;
    }
    assert_eq!(platform.functions(), [], "nothing runs before the first message");
    let count = CALLS.to_string();
    let sent = boto3(test, &platform, &["sends", "mapped", &count]).await.expect("boto3");
    let got = boto3(test, &platform, &["handled", &count]).await.expect("boto3");
    assert_eq!(ids(&got), ids(&sent));
    platform.goes_to_nothing().await;
}

#[tokio::test]
async fn what_was_sent_is_received_though_the_process_that_keeps_it_is_killed() {
    let test = "what_was_sent_is_received_though_the_process_that_keeps_it_is_killed";
    let platform = Platform::start();
    need!(platform, test, "python");
    let Some(sent) = boto3(test, &platform, &["sends", "kept", "20"]).await else { return };
    let before = platform.role("events");
    platform.kill("events");
    wait_for("it is there again", LIMIT, async || {
        let now = platform.role("events");
        !now.is_empty()
            && now.iter().all(|new| before.iter().all(|old| old.pid != new.pid))
            && platform.rouse(&["queue", "attributes", "kept"]).await.ok
    })
    .await;
    let got = boto3(test, &platform, &["receives", "kept", "20"]).await.expect("boto3");
    assert_eq!(ids(&got), ids(&sent));
}

#[tokio::test]
async fn rouse_queue_and_boto3_use_the_same_queues() {
    let test = "rouse_queue_and_boto3_use_the_same_queues";
    let platform = Platform::start();
    platform.json(&["queue", "create", "failed"]).await;
    let made =
        ["queue", "create", "both", "--visibility", "1m", "--dead-letters", "failed", "--receives", "5"];
    assert_eq!(platform.json(&made).await["settings"]["dead_letters"]["receives_max"], 5);
    let Some(sent) = boto3(test, &platform, &["sends", "both", "2"]).await else { return };
    let got = platform.json(&["queue", "receive", "both", "--limit", "10"]).await;
    let got = got.as_array().expect("messages").iter().map(|message| message["id"].as_str().expect("an id"));
    assert_eq!(got.map(str::to_owned).collect::<BTreeSet<_>>(), ids(&sent));
    let id = platform.json(&["queue", "send", "both", "hello"]).await["id"].clone();
    let got = boto3(test, &platform, &["receives", "both", "1"]).await.expect("boto3");
    assert_eq!(ids(&got), BTreeSet::from([id.as_str().expect("an id").to_owned()]));
    let changed = platform.json(&["queue", "attributes", "both", "--no-dead-letters", "--wait", "5s"]).await;
    assert_eq!(
        (&changed["settings"]["dead_letters"], &changed["settings"]["wait_ms"]),
        (&().into(), &5_000.into())
    );
    platform.json(&["queue", "delete", "both"]).await;
    let gone = platform.rouse(&["queue", "attributes", "both"]).await;
    assert!(!gone.ok && gone.err.contains("queue-not-found"), "{}", gone.err);
}

#[tokio::test]
async fn the_aws_command_line_makes_and_uses_a_queue() {
    let platform = Platform::shared();
    let Some(python) = tool("ROUSE_AWS_CLIENTS_PYTHON") else {
        skipped("the_aws_command_line_makes_and_uses_a_queue", "no awscli: run `cargo xtask setup`");
        return;
    };
    let mut command = Command::new("sh");
    command.arg(script("sqs.sh")).arg(python.join("bin"));
    let out = run(command, environment(&platform).await).await;
    assert!(out.ends_with("done\n"), "{out}");
}

#[tokio::test]
async fn the_javascript_sdk_makes_and_uses_a_queue() {
    let platform = Platform::shared();
    let Some(node) = tool("ROUSE_AWS_CLIENT_SQS_NODE") else {
        skipped("the_javascript_sdk_makes_and_uses_a_queue", "no SDK: run `cargo xtask setup`");
        return;
    };
    let mut command = Command::new("node");
    command.arg(script("sqs.mjs")).arg(node.join("node_modules"));
    let out = run(command, environment(&platform).await).await;
    assert!(out.contains("received hello two {\"a\":\"b\"}"), "{out}");
}
