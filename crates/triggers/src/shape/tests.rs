//! Shapes against the types that Lambda functions in Rust use, and against Google's framework itself.

use std::{collections::BTreeMap, io::Write as _, process};

use aws_lambda_events::event;
use rouse_types::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Place, bus, database, destination, google, object, queue, topic};
use crate::{cloud_event, retry::Reason, tools};

const PLACE: Place<'_> = Place { region: "us-east-1", account: "000000000000" };
const TIME: Timestamp = Timestamp(1_790_000_000_123_456);

/// The JSON, once the oracle has taken it; what the oracle writes again has nothing that we did not write.
fn read<T: DeserializeOwned>(event: &impl Serialize) -> (T, Value) {
    let json = serde_json::to_value(event).expect("json");
    (serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}")), json)
}

fn change<'a>() -> object::Change<'a> {
    object::Change {
        what: object::What::Put,
        time: TIME,
        bucket: "photos",
        key: "in box/Größe+1 (2).jpg",
        size: 1024,
        etag: "d41d8cd98f00b204e9800998ecf8427e",
        version: None,
        sequence: 255,
        subscription: "thumbnail",
        principal: "shop",
        peer: Some([127, 0, 0, 1].into()),
        request_id: "C3D13FE58DE4C810",
    }
}

#[test]
fn an_objects_record_is_what_s3_sends() {
    let (event, json): (event::s3::S3Event, _) = read(&object::records(PLACE, &change()));
    let record = &event.records[0];
    assert_eq!(record.event_name.as_deref(), Some("ObjectCreated:Put"));
    assert_eq!(record.s3.object.size, Some(1024));
    let wanted = json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2026-09-21T14:13:20.123Z", "eventName": "ObjectCreated:Put",
        "userIdentity": { "principalId": "shop" }, "requestParameters": { "sourceIPAddress": "127.0.0.1" },
        "responseElements": { "x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "" },
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "thumbnail",
            "bucket": { "name": "photos", "ownerIdentity": { "principalId": "000000000000" }, "arn": "arn:aws:s3:::photos" },
            "object": {
                "key": "in+box/Gr%C3%B6%C3%9Fe%2B1+%282%29.jpg", "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "00000000000000FF",
            },
        },
    });
    assert_eq!(json, json!({ "Records": [wanted] }));
    // What is gone has neither size nor tag.
    let gone = object::Change { what: object::What::Delete, version: Some("v1"), ..change() };
    let (event, json): (event::s3::S3Event, _) = read(&object::records(PLACE, &gone));
    assert_eq!(event.records[0].s3.object.size, None);
    assert_eq!(event.records[0].s3.object.version_id.as_deref(), Some("v1"));
    assert!(json["Records"][0]["s3"]["object"].get("eTag").is_none());
}

fn message<'a>() -> queue::Message<'a> {
    queue::Message {
        id: "m-1",
        receipt: "r-1",
        body: "Message Body",
        attempt: 2,
        sent: TIME,
        first_received: Timestamp(TIME.0 + 1_000),
        sender: "shop",
        order: None,
        attributes: BTreeMap::new(),
    }
}

#[test]
fn a_queues_records_are_what_sqs_pollers_send() {
    let text = queue::Attribute { ty: "String", value: queue::Value::Text("Bar") };
    let binary = queue::Attribute { ty: "Binary", value: queue::Value::Binary(&[1, 2, 255]) };
    let number = queue::Attribute { ty: "Number.int", value: queue::Value::Text("7") };
    let mut first = message();
    first.attributes = BTreeMap::from([("Foo", text), ("bytes", binary), ("n", number)]);
    let mut second = message();
    second.order = Some(queue::Order { group: "g", deduplication: "d", sequence: 42 });
    let (event, json): (event::sqs::SqsEvent, _) = read(&queue::records(PLACE, "orders", &[first, second]));
    let [first, second] = event.records.as_slice() else { panic!("{json}") };
    assert_eq!(first.md5_of_body.as_deref(), Some("77a3cf88eba293be44f5fd5c61835a43"));
    assert_eq!(first.event_source_arn.as_deref(), Some("arn:aws:sqs:us-east-1:000000000000:orders"));
    assert_eq!(first.attributes["ApproximateReceiveCount"], "2");
    assert_eq!(first.attributes["SentTimestamp"], "1790000000123");
    assert_eq!(first.message_attributes["Foo"].string_value.as_deref(), Some("Bar"));
    assert_eq!(
        first.message_attributes["bytes"].binary_value.as_ref().map(|bytes| bytes.0.clone()),
        Some(vec![1, 2, 255])
    );
    assert_eq!(first.message_attributes["n"].data_type.as_deref(), Some("Number.int"));
    // Computed with Python's hashlib by the recipe of the SQS guide.
    assert_eq!(first.md5_of_message_attributes.as_deref(), Some(MD5_OF_ATTRIBUTES));
    assert_eq!(second.attributes["SequenceNumber"], "00000000000000000042");
    assert_eq!(second.attributes["MessageGroupId"], "g");
    assert_eq!(second.md5_of_message_attributes, None);
}

const MD5_OF_ATTRIBUTES: &str = "37a70d8df9d3c0e402ada3f3c5a0aa22";

#[test]
fn a_schedules_event_is_what_eventbridge_sends() {
    let event = bus::scheduled(PLACE, "nightly", uuid::Uuid::nil(), TIME);
    let (event, json): (event::eventbridge::EventBridgeEvent, _) = read(&event);
    assert_eq!(event.detail_type, "Scheduled Event");
    let wanted = json!({
        "version": "0", "id": "00000000-0000-0000-0000-000000000000", "detail-type": "Scheduled Event",
        "source": "aws.events", "account": "000000000000", "time": "2026-09-21T14:13:20Z", "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/nightly"], "detail": {},
    });
    assert_eq!(json, wanted);
}

#[test]
fn a_topics_record_is_what_sns_sends() {
    let attribute = topic::Attribute { ty: "String", value: "eu" };
    let message = topic::Message {
        id: "t-1",
        topic: "news",
        subscription: "mailer",
        subject: None,
        text: "Hello",
        published: TIME,
        attributes: BTreeMap::from([("region", attribute)]),
    };
    let (event, json): (event::sns::SnsEvent, _) = read(&topic::records(PLACE, &message));
    let record = &event.records[0];
    assert_eq!(record.event_subscription_arn, "arn:aws:sns:us-east-1:000000000000:news:mailer");
    assert_eq!((record.sns.message.as_str(), record.sns.subject.as_deref()), ("Hello", None));
    assert_eq!(record.sns.message_attributes["region"].value, "eu");
    assert_eq!(json["Records"][0]["Sns"]["Timestamp"], "2026-09-21T14:13:20.123Z");
}

#[test]
fn a_calls_record_tells_what_became_of_it() {
    let answer = destination::Answer {
        version: "$LATEST",
        error: Some("Unhandled"),
        payload: br#"{"errorMessage":"x"}"#,
    };
    let ended = destination::Ended {
        request_id: "r",
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST",
        given_up: Some(Reason::Attempts),
        attempts: 3,
        time: TIME,
        request: br#"{"a": 1.0}"#,
        answer: Some(answer),
    };
    let text = serde_json::to_string(&destination::record(&ended)).expect("json");
    let wanted = json!({
        "version": "1.0", "timestamp": "2026-09-21T14:13:20.123Z",
        "requestContext": { "requestId": "r", "functionArn": ended.function_arn, "condition": "RetriesExhausted", "approximateInvokeCount": 3 },
        "requestPayload": { "a": 1.0 },
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "responsePayload": { "errorMessage": "x" },
    });
    assert_eq!(serde_json::from_str::<Value>(&text).expect("json"), wanted);
    assert!(text.contains(r#"{"a": 1.0}"#), "the payload's own text is kept: {text}");
    // What never ran has no answer; what is no JSON is text.
    let ended = destination::Ended { given_up: Some(Reason::Age), answer: None, request: b"\xffhi", ..ended };
    let json = serde_json::to_value(destination::record(&ended)).expect("json");
    assert_eq!(
        (&json["requestContext"]["condition"], &json["requestPayload"]),
        (&json!("EventAgeExceeded"), &json!("\u{fffd}hi"))
    );
    assert!(json.get("responseContext").is_none());
}

fn row_change() -> database::Change {
    let row = |state: &str| {
        Some(database::Row::from_iter([("id".to_owned(), json!(7)), ("state".to_owned(), json!(state))]))
    };
    database::Change {
        op: database::Operation::Update,
        key: Some(database::Row::from_iter([("id".to_owned(), json!(7))])),
        before: None,
        after: row("paid"),
        source: database::Origin {
            db: "shop".to_owned(),
            schema: "public".to_owned(),
            table: "or ders".to_owned(),
            lsn: "0/16B3748".to_owned(),
            transaction: 742,
            committed_ms: 1_790_000_000_123,
        },
    }
}

#[test]
fn a_change_of_a_row_is_the_same_as_a_record_and_as_a_cloud_event() {
    let change = row_change();
    let wanted = json!({
        "op": "u", "key": { "id": 7 }, "before": null, "after": { "id": 7, "state": "paid" },
        "source": { "db": "shop", "schema": "public", "table": "or ders", "lsn": "0/16B3748", "txId": 742, "ts_ms": 1_790_000_000_123_u64 },
    });
    let records = serde_json::to_value(database::records(std::slice::from_ref(&change))).expect("json");
    assert_eq!(records, json!({ "Records": [wanted] }));
    let event = change.cloud_event(1).expect("an event");
    assert_eq!(event.attribute("source").as_deref(), Some("/databases/shop/schemas/public/tables/or%20ders"));
    assert_eq!(event.id(), "shop/0/16B3748/1");
    assert_eq!(serde_json::from_slice::<Value>(event.data().expect("data")).expect("json"), wanted);
}

/// Functions as Google's documentation writes them, called through the framework as its server calls them.
const FUNCTIONS: &str = r#"
import base64, json, sys, tempfile, os
import functions_framework
source = '''
import functions_framework, json
@functions_framework.cloud_event
def new(event):
    print("SEEN", json.dumps({"type": event["type"], "source": event["source"], "id": event["id"], "data": event.data}))
def old(data, context):
    print("SEEN", json.dumps({"type": context.event_type, "resource": context.resource, "id": context.event_id, "data": data}))
'''
with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
    file.write(source); file.flush()
    for target, kind in [("new", "cloudevent"), ("old", "event")]:
        client = functions_framework.create_app(target, file.name, kind).test_client()
        for request in json.loads(os.environ["REQUESTS"]):
            if target == "old" and ("scheduler" in request["type"] or "ce-id" not in request["headers"]): continue
            answer = client.post("/", headers=request["headers"], data=base64.b64decode(request["body"]))
            assert answer.status_code == 200, (target, request, answer.status_code, answer.data)
"#;

#[test]
fn functions_under_googles_framework_understand_our_events() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let Some(packages) =
        tools::functions_framework("functions_under_googles_framework_understand_our_events")
    else {
        return;
    };
    let message = google::Message {
        id: "m-1",
        project: "shop",
        topic: "news",
        subscription: "mailer",
        data: b"Hello",
        attributes: BTreeMap::from([("region", "eu")]),
        ordering_key: Some("k"),
        published: TIME,
    };
    let events = [
        google::published(&message).expect("an event"),
        google::stored("s-1", &change(), "image/jpeg").expect("an event"),
        google::scheduled("shop", "local", "nightly", uuid::Uuid::nil(), TIME, b"{}").expect("an event"),
    ];
    let mut requests = Vec::new();
    for event in &events {
        let (binary, body) = event.to_binary();
        let headers: BTreeMap<_, _> =
            binary.iter().map(|(n, v)| (n.as_str(), v.to_str().expect("text"))).collect();
        requests.push(json!({ "type": event.ty(), "headers": headers, "body": STANDARD.encode(body) }));
        let headers = json!({ "content-type": cloud_event::STRUCTURED_TYPE });
        requests.push(
            json!({ "type": event.ty(), "headers": headers, "body": STANDARD.encode(event.to_json()) }),
        );
    }
    let mut python = process::Command::new("python3");
    python.arg("-").env("PYTHONPATH", packages).env("REQUESTS", Value::from(requests).to_string());
    python.stdin(process::Stdio::piped()).stdout(process::Stdio::piped()).stderr(process::Stdio::piped());
    let mut python = python.spawn().expect("python3");
    python.stdin.take().expect("its input").write_all(FUNCTIONS.as_bytes()).expect("written");
    let output = python.wait_with_output().expect("its output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let seen: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("SEEN "))
        .map(|json| serde_json::from_str(json).expect("json"))
        .collect();
    // Each event in both modes; the old signature knows neither the scheduler nor structured mode.
    assert_eq!(seen.len(), 6 + 2, "{text}");
    for modes in seen[..6].chunks(2) {
        assert_eq!(modes[0], modes[1]);
    }
    let [published, stored, scheduled, old_published, old_stored] = [0, 2, 4, 6, 7].map(|index| &seen[index]);
    assert_eq!(published["data"]["message"]["data"], STANDARD.encode("Hello"));
    assert_eq!(published["data"]["message"]["attributes"], json!({ "region": "eu" }));
    assert_eq!(stored["data"]["name"], "in box/Größe+1 (2).jpg");
    assert_eq!(stored["source"], "//storage.googleapis.com/projects/_/buckets/photos");
    assert_eq!(scheduled["data"], json!({ "customData": "e30=" }));
    assert_eq!(old_published["type"], "google.pubsub.topic.publish");
    assert_eq!(old_published["data"]["data"], STANDARD.encode("Hello"));
    assert_eq!(old_stored["type"], "google.storage.object.finalize");
    assert_eq!(old_stored["data"]["bucket"], "photos");
}
