//! Each kind of trigger rouses a function that has no process, delivers its event, and lets it go to nothing again.

use std::time::Duration;

use rouse_e2e::{App, Platform, Seen, need, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
/// Calls in quick succession are a history that says that no more will come after a pause.
const CALLS: usize = 12;

/// Tells the test's listener what the event was.
const TELL: &str = "import socket
with socket.create_connection(('127.0.0.1', int(os.environ['TELL']))) as tell:
    tell.sendall(json.dumps({'event': event, 'id': context.aws_request_id}).encode() + b'\\n')
    tell.recv(1)
return {}";

/// One instance: a second one, started before there was a history, would be kept as long as its start is worth.
fn told_by(name: &str, port: u16, trigger: &str) -> App {
    let lines = format!(
        "egress = [\"127.0.0.1:{port}\"]\nenv = {{ TELL = \"{port}\" }}\nconcurrency_max = 1\n\
         [[functions.{name}.triggers]]\n{trigger}"
    );
    App::new(name).python(name, TELL, &lines)
}

async fn goes_to_nothing(platform: &Platform) {
    wait_for("the function's processes end", Duration::from_secs(120), async || {
        platform.functions().is_empty()
    })
    .await;
}

#[tokio::test]
async fn messages_of_a_queue_rouse_a_function_and_it_goes_to_nothing() {
    let platform = Platform::start();
    need!(platform, "messages_of_a_queue_rouse_a_function_and_it_goes_to_nothing", "python");
    let seen = Seen::listen().await;
    let trigger = "queue = { name = \"orders\", batch_size = 1 }";
    platform.deploy(told_by("handle", seen.port(), trigger).path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first message");
    for n in 0..CALLS {
        let sent = platform.json(&["queue", "send", "orders", &n.to_string()]).await;
        wait_for("the message is handled", LIMIT, async || seen.count() > n).await;
        let record = &seen.lines()[n]["event"]["Records"][0];
        assert_eq!((&record["body"], &record["messageId"]), (&n.to_string().into(), &sent["id"]));
        assert_eq!(record["eventSource"], "aws:sqs");
    }
    goes_to_nothing(&platform).await;
    let left = platform.json(&["queue", "attributes", "orders"]).await;
    assert_eq!((&left["ready"], &left["held"], &left["dead"]), (&0.into(), &0.into(), &0.into()), "{left}");
    assert_eq!(seen.count(), CALLS);
}

#[tokio::test]
async fn a_schedule_rouses_a_function_until_it_is_taken_away() {
    let platform = Platform::start();
    need!(platform, "a_schedule_rouses_a_function_until_it_is_taken_away", "python");
    let seen = Seen::listen().await;
    let trigger = "name = \"tick\"\nschedule = \"* * * * * *\"";
    platform.deploy(told_by("report", seen.port(), trigger).path()).await;
    wait_for("it is called again and again", LIMIT, async || seen.count() >= CALLS).await;
    let event = &seen.lines()[0]["event"];
    assert_eq!((&event["detail-type"], &event["source"]), (&"Scheduled Event".into(), &"aws.events".into()));
    assert_eq!(seen.ids().len(), seen.count(), "each time is an event of its own");
    platform.deploy(told_by("report", seen.port(), "name = \"tick\"\nschedule = \"0 0 1 1 *\"").path()).await;
    goes_to_nothing(&platform).await;
}

#[tokio::test]
async fn a_trigger_that_cannot_act_is_refused_with_its_reason() {
    let platform = Platform::start();
    let refused = async |trigger: &str| {
        let app = told_by("f", 1, trigger);
        let cli = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
        assert!(!cli.ok, "{trigger} was taken");
        cli.err
    };
    let said = refused("schedule = \"0 0 30 2 *\"").await;
    assert!(said.contains("30 2"), "{said}");
    let said =
        refused("database = { url = \"env:URL\", tables = [\"public.a\"], operations = [\"insert\"] }").await;
    assert!(said.contains("database"), "{said}");
}
