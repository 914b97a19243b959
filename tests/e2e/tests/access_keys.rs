//! Access keys of AWS' clients: what each role may, what stands in the audit log, and how much queues may hold.

use rouse_e2e::{App, Boto3, Platform, fixture, need};

/// A key of a role, as the environment of a client.
async fn key(platform: &Platform, role: &str) -> [(&'static str, String); 2] {
    let made = platform.json(&["access-key", "create", "--role", role]).await;
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    [("AWS_ACCESS_KEY_ID", text("id")), ("AWS_SECRET_ACCESS_KEY", text("secret"))]
}

fn with(boto3: Boto3, key: &[(&'static str, String); 2]) -> Boto3 {
    boto3.with(&key.each_ref().map(|(name, value)| (*name, value.as_str())))
}

/// What the scripts begin with: how an operation ends, in one word.
const SAID: &str = "
sqs, fn, iam = (boto3.client(name) for name in ('sqs', 'lambda', 'iam'))
def said(operation, **members):
    try:
        operation(**members)
        return 'ok'
    except Exception as error:
        return error.response['Error']['Code']
";

#[tokio::test]
async fn a_key_does_what_its_role_may_and_the_audit_log_tells_what_it_changed() {
    let test = "a_key_does_what_its_role_may_and_the_audit_log_tells_what_it_changed";
    let platform = Platform::start();
    need!(platform, test, "component");
    platform.deploy(&fixture("tells")).await;
    let Some(deployer) = Boto3::of(&platform, test).await else { return };
    let begin = "
url = sqs.create_queue(QueueName='q')['QueueUrl']
s3.create_bucket(Bucket='pictures')
s3.put_object(Bucket='pictures', Key='a', Body=b'x')
iam.create_role(RoleName='any', AssumeRolePolicyDocument='{}')
print(url)
";
    let url = deployer.run(&format!("{SAID}{begin}"), &[]).await.trim().to_owned();
    let script = "
url = sys.argv[1]
print(*[
    said(sqs.list_queues), said(sqs.get_queue_url, QueueName='q'),
    said(sqs.send_message, QueueUrl=url, MessageBody='m'), said(sqs.receive_message, QueueUrl=url),
    said(sqs.create_queue, QueueName='other'), said(sqs.delete_queue, QueueUrl=url),
    said(fn.list_functions), said(fn.delete_function, FunctionName='tells'),
    said(s3.get_object, Bucket='pictures', Key='a'), said(s3.put_object, Bucket='pictures', Key='b', Body=b'x'),
    said(iam.list_roles), said(iam.delete_role, RoleName='any'),
    said(boto3.client('sts').get_caller_identity),
])
";
    let denied = "AccessDeniedException";
    for (role, expected) in [
        (
            "viewer",
            [
                "ok",
                "ok",
                denied,
                denied,
                denied,
                denied,
                "ok",
                denied,
                "ok",
                "AccessDenied",
                "ok",
                "AccessDenied",
                "ok",
            ],
        ),
        (
            "invoker",
            [
                denied,
                "ok",
                "ok",
                denied,
                denied,
                denied,
                denied,
                denied,
                "AccessDenied",
                "AccessDenied",
                "AccessDenied",
                "AccessDenied",
                "ok",
            ],
        ),
    ] {
        let Some(boto3) = Boto3::of(&platform, test).await else { return };
        let boto3 = with(boto3, &key(&platform, role).await);
        let said = boto3.run(&format!("{SAID}{script}"), &[&url]).await;
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), expected, "{role}");
    }
    let refused = platform.rouse(&["access-key", "create", "--role", "billing"]).await;
    assert!(!refused.ok && refused.err.contains("billing"), "{refused:?}");
    let keys = platform.rouse(&["access-key", "list"]).await.out;
    assert!(keys.contains("deployer") && keys.contains("viewer") && keys.contains("invoker"), "{keys}");

    let log = platform.rouse(&["audit", "log", "--json"]).await.out;
    let actions: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .filter_map(|line: serde_json::Value| Some(line.get("action")?["action"].clone()))
        .filter(|action| action["who"].as_str().is_some_and(|who| who.starts_with("access key AKIA")))
        .collect();
    let told: Vec<_> = actions
        .iter()
        .map(|action| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            (
                text(&action["operation"]),
                text(&action["of"]["name"]),
                text(&action["outcome"]),
                text(&action["from"]),
            )
        })
        .collect();
    let done = |operation: &str, name: &str| {
        (operation.to_owned(), name.to_owned(), "done".to_owned(), "127.0.0.1".to_owned())
    };
    assert_eq!(
        told,
        [done("sqs:CreateQueue", "q"), done("iam:CreateRole", "any")],
        "and nothing that was refused"
    );
}

#[tokio::test]
async fn a_tenants_queues_hold_no_more_than_it_is_granted_whoever_sends() {
    let test = "a_tenants_queues_hold_no_more_than_it_is_granted_whoever_sends";
    let platform = Platform::start();
    need!(platform, test, "component");
    platform.deploy(&fixture("tells")).await;
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let app = App::new("limits").file("limits.toml", "queue_messages = 10\n");
    let limits = app.path().join("limits.toml").display().to_string();
    let set = platform.rouse(&["limits", "set", &limits]).await;
    assert!(set.ok && set.out.contains("queue_messages = 10"), "{set:?}");
    let script = "
import concurrent.futures as futures
url = sqs.create_queue(QueueName='q')['QueueUrl']
with futures.ThreadPoolExecutor(16) as pool:
    ends = list(pool.map(lambda _: said(sqs.send_message, QueueUrl=url, MessageBody='m'), range(60)))
print(json.dumps({end: ends.count(end) for end in set(ends)}, sort_keys=True))
";
    let said = boto3.run(&format!("{SAID}{script}"), &[]).await;
    assert_eq!(said.trim(), r#"{"OverLimit": 50, "ok": 10}"#);
    let full = platform.rouse(&["invoke", "tells", "--async"]).await;
    assert!(!full.ok && full.err.contains("quota-exceeded") && full.err.contains("granted 10"), "{full:?}");
    // What is received makes room.
    let script = "
url = sqs.get_queue_url(QueueName='q')['QueueUrl']
got = sqs.receive_message(QueueUrl=url)['Messages'][0]
sqs.delete_message(QueueUrl=url, ReceiptHandle=got['ReceiptHandle'])
";
    boto3.run(&format!("{SAID}{script}"), &[]).await;
    let taken = platform.rouse(&["invoke", "tells", "--async"]).await;
    assert!(taken.ok, "{taken:?}");
}
