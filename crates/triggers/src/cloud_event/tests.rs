//! All modes there and back, what is refused, and the SDKs of others.

use std::{io::Write as _, process};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tools;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect(name);
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect(value));
    }
    headers
}

fn structured(body: &Value) -> Result<Event, Error> {
    read(&headers(&[("content-type", STRUCTURED_TYPE)]), body.to_string().as_bytes())
        .map(|mut events| events.remove(0))
}

const BINARY: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "com.example.paid")];

fn full() -> Event {
    Event::new("1", "/shop/ü?a=%20", "com.example.paid")
        .and_then(|event| event.with("subject", "an \"order\" of 50% für €5"))
        .and_then(|event| event.with("time", "2026-11-21T13:00:00.123+01:00"))
        .and_then(|event| event.with("dataschema", "https://example.com/schema#1"))
        .and_then(|event| event.with("partitionkey", "k 1"))
        .and_then(|event| event.with_data("application/json; charset=utf-8", br#"{"n": 1.00}"#.to_vec()))
        .expect("an event")
}

#[test]
fn an_event_is_the_same_in_every_mode() {
    let event = full();
    let (head, body) = event.to_binary();
    assert_eq!(head["ce-subject"], "an%20%22order%22%20of%2050%25%20f%C3%BCr%20%E2%82%AC5");
    assert_eq!(read(&head, &body), Ok(vec![event.clone()]));
    let ty = headers(&[("content-type", "Application/CloudEvents+JSON; charset=UTF-8")]);
    assert_eq!(read(&ty, &event.to_json()), Ok(vec![event.clone()]));
    // The data's own text is kept: 1.00 stays 1.00.
    assert!(String::from_utf8_lossy(&event.to_json()).contains(r#""data":{"n": 1.00}"#));
    let batch = Event::batch_to_json(&[event.clone(), event.clone()]);
    assert_eq!(read(&headers(&[("content-type", BATCH_TYPE)]), &batch), Ok(vec![event.clone(), event]));
    assert_eq!(read(&headers(&[("content-type", BATCH_TYPE)]), b"[]"), Ok(vec![]));
}

#[test]
fn data_is_what_its_content_type_says() {
    let data = |body: Value| {
        let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t" });
        event.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
        structured(&event).expect("an event").data().map(<[u8]>::to_vec)
    };
    assert_eq!(data(json!({})), None);
    assert_eq!(data(json!({ "data": null })), None);
    assert_eq!(data(json!({ "data": "a" })), Some(b"\"a\"".to_vec()));
    assert_eq!(data(json!({ "data": "a", "datacontenttype": "text/plain" })), Some(b"a".to_vec()));
    assert_eq!(
        data(json!({ "data": "a", "datacontenttype": "application/x+json" })),
        Some(b"\"a\"".to_vec())
    );
    assert_eq!(data(json!({ "data_base64": "AAH/" })), Some(vec![0, 1, 255]));
    // Without a content type in binary mode it is just bytes.
    let event = read(&headers(&BINARY), b"\xff").expect("an event").remove(0);
    assert_eq!(event.data(), Some(b"\xff".as_slice()));
    assert!(String::from_utf8_lossy(&event.to_json()).contains(r#""data_base64":"/w==""#));
    assert!(!event.to_binary().0.contains_key("content-type"));
}

#[test]
fn headers_are_unquoted_and_resolved_once() {
    let subject = |value: &str| {
        let event = read(&headers(&[&BINARY[..], &[("ce-subject", value)]].concat()), b"")?.remove(0);
        Ok::<_, Error>(event.attribute("subject").expect("a subject").into_owned())
    };
    assert_eq!(subject("Euro%20%E2%82%AC%20%F0%9F%98%80").as_deref(), Ok("Euro € 😀"));
    assert_eq!(subject("%2525").as_deref(), Ok("%25"));
    assert_eq!(subject(r#""a \"b\" %41""#).as_deref(), Ok("a \"b\" A"));
    assert_eq!(subject("100% sure").as_deref(), Ok("100% sure"));
    assert_eq!(subject("ü").as_deref(), Ok("ü"));
    assert!(subject("%FF").is_err());
    assert!(subject("%00").is_err());
}

#[test]
fn extensions_keep_their_types_in_json_and_are_text_in_headers() {
    let json = json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t", "a": 7, "b": true, "c": "x", "d": null });
    let event = structured(&json).expect("an event");
    assert_eq!(event.attribute("a").as_deref(), Some("7"));
    assert_eq!(event.attribute("d"), None);
    let again: Value = serde_json::from_slice(&event.to_json()).expect("json");
    assert_eq!((&again["a"], &again["b"], &again["c"]), (&json!(7), &json!(true), &json!("x")));
    let (head, _) = event.to_binary();
    assert_eq!((&head["ce-a"], &head["ce-b"]), (&HeaderValue::from(7), &HeaderValue::from_static("true")));
}

#[test]
fn what_is_no_event_is_refused_with_the_attribute() {
    let base = json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t" });
    let mut cases = Vec::new();
    for (name, value, says) in [
        ("id", json!(""), "id: it is empty"),
        ("id", json!(5), "id: it is text"),
        ("id", json!("a\u{7}"), "id: it holds a control"),
        ("source", json!("a b"), "source: it is no URI"),
        ("source", json!("%zz"), "source: it is no URI"),
        ("type", Value::Null, "type is missing"),
        ("specversion", json!("0.3"), "version '0.3'"),
        ("specversion", Value::Null, "specversion is missing"),
        ("time", json!("2026-11-21"), "time: it is no time"),
        ("time", json!("2026-11-21T13:00Z"), "time: it is no time"),
        ("time", json!("2026-02-30T13:00:00Z"), "time: it is no time"),
        ("dataschema", json!("schema"), "dataschema: it is no absolute"),
        ("datacontenttype", json!("json"), "datacontenttype: it is no media"),
        ("datacontenttype", json!("a/b; ü"), "datacontenttype: it is no media"),
        ("subject", json!(""), "subject: it is empty"),
        ("Big", json!("x"), "Big: a name is written"),
        ("big_name", json!("x"), "big_name: a name is written"),
        ("float", json!(1.5), "float: it is neither"),
        ("large", json!(2_147_483_648_u64), "large: it is neither"),
        ("object", json!({}), "object: it is neither"),
        ("data_base64", json!("%"), "data_base64: it is no base64"),
        ("fat", json!("x".repeat(70_000)), "too much of it"),
    ] {
        let mut event = base.clone();
        event[name] = value;
        cases.push((structured(&event), says.to_owned()));
    }
    let both =
        json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": 1, "data_base64": "" });
    cases.push((structured(&both), "stands beside".to_owned()));
    cases.push((structured(&json!([])), "an event, which is an object".to_owned()));
    let read_one =
        |pairs: &[(&str, &str)], body: &[u8]| read(&headers(pairs), body).map(|mut events| events.remove(0));
    let twice = br#"{"specversion": "1.0", "id": "1", "id": "2"}"#;
    cases.push((read_one(&[("content-type", STRUCTURED_TYPE)], twice), "'id' is there twice".to_owned()));
    cases.push((read_one(&[("content-type", "application/json")], b"{}"), "no CloudEvent".to_owned()));
    cases.push((read_one(&[("content-type", "application/cloudevents+avro")], b""), "+avro".to_owned()));
    cases.push((read_one(&BINARY[..3], b""), "type is missing".to_owned()));
    cases.push((
        read_one(&[&BINARY[..], &[("ce-id", "2")]].concat(), b""),
        "id: it is there twice".to_owned(),
    ));
    cases.push((
        read_one(&[&BINARY[..], &[("ce-data", "2")]].concat(), b""),
        "data: the name is taken".to_owned(),
    ));
    cases.push((
        read_one(&[&BINARY[..], &[("ce-datacontenttype", "a/b")]].concat(), b""),
        "header content-type".to_owned(),
    ));
    for (result, says) in cases {
        let error = result.expect_err(&says).to_string();
        assert!(error.contains(&says), "{error}, not {says}");
    }
    let many = format!("[{}]", vec!["{}"; 1_001].join(","));
    assert!(matches!(
        read(&headers(&[("content-type", BATCH_TYPE)]), many.as_bytes()),
        Err(Error::TooLarge(_))
    ));
    // One that is wrong takes the whole batch with it.
    let batch = format!("[{base}, {{}}]");
    assert_eq!(
        read(&headers(&[("content-type", BATCH_TYPE)]), batch.as_bytes()),
        Err(Error::Missing("specversion"))
    );
    let extensions = (0..65).try_fold(full(), |event, n| event.with(&format!("x{n}"), "x"));
    assert!(matches!(extensions, Err(Error::TooLarge(_))));
}

proptest! {
    #[test]
    fn any_event_survives_both_modes(
        (id, ty, subject, key) in ("\\PC{1,8}", "\\PC{1,8}", prop::option::of("\\PC{1,12}"), "[a-z0-9]{1,12}"),
        value in "\\PC{0,12}",
        data in prop::option::of((prop::sample::select(vec!["application/json", "text/plain", "image/png"]),
            prop_oneof![Just(b"{\"a\":[1,2]}".to_vec()), Just(b"null".to_vec()), prop::collection::vec(any::<u8>(), 1..20)])),
    ) {
        prop_assume!(id.trim() == id && ty.trim() == ty && value.trim() == value);
        let made = Event::new(id, "/s", ty).and_then(|event| match subject {
            Some(subject) => event.with("subject", subject.trim()),
            None => Ok(event),
        }).and_then(|event| event.with(&key, value)).and_then(|event| match data {
            Some((ty, data)) => event.with_data(ty, data),
            None => Ok(event),
        });
        let Ok(event) = made else { return Ok(()) };
        let (head, body) = event.to_binary();
        prop_assert_eq!(read(&head, &body), Ok(vec![event.clone()]));
        let one = headers(&[("content-type", STRUCTURED_TYPE)]);
        prop_assert_eq!(read(&one, &event.to_json()), Ok(vec![event]));
    }
}

/// Reads our event by the CloudEvents SDK for Python, in either mode, and writes it again in both.
const PYTHON: &str = r#"
import base64, json, sys
from cloudevents.http import from_http, to_binary, to_structured
out = []
for request in json.load(sys.stdin):
    event = from_http(request["headers"], base64.b64decode(request["body"]))
    for headers, body in [to_binary(event), to_structured(event)]:
        body = body if isinstance(body, bytes) else (body or "").encode()
        out.append({"headers": headers, "body": base64.b64encode(body).decode()})
json.dump(out, sys.stdout)
"#;

#[test]
fn the_sdk_for_python_understands_us_and_we_understand_it() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let Some(packages) = tools::functions_framework("the_sdk_for_python_understands_us_and_we_understand_it")
    else {
        return;
    };
    // This SDK neither writes nor resolves percent signs, so the text is plain here.
    let event = Event::new("1", "/shop", "com.example.paid")
        .and_then(|event| event.with("subject", "orders/7"))
        .and_then(|event| event.with("time", "2026-11-21T13:00:00.123000+00:00"))
        .and_then(|event| event.with("partitionkey", "k1"))
        .and_then(|event| event.with_data("application/json", br#"{"n": 1}"#.to_vec()))
        .expect("an event");
    let (head, body) = event.to_binary();
    let pairs: serde_json::Map<String, Value> =
        head.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").into())).collect();
    let requests = json!([
        { "headers": pairs, "body": STANDARD.encode(body) },
        { "headers": { "content-type": STRUCTURED_TYPE }, "body": STANDARD.encode(event.to_json()) },
    ]);
    let mut python = process::Command::new("python3");
    python.args(["-c", PYTHON]).env("PYTHONPATH", packages);
    python.stdin(process::Stdio::piped()).stdout(process::Stdio::piped());
    let mut python = python.spawn().expect("python3");
    python.stdin.take().expect("its input").write_all(requests.to_string().as_bytes()).expect("written");
    let output = python.wait_with_output().expect("its output");
    assert!(output.status.success(), "{output:?}");
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(answers.len(), 4);
    for answer in answers {
        let pairs = answer["headers"].as_object().expect("headers").iter();
        let pairs: Vec<_> =
            pairs.map(|(name, value)| (name.as_str(), value.as_str().expect("text"))).collect();
        let body = STANDARD.decode(answer["body"].as_str().expect("text")).expect("base64");
        let read = read(&headers(&pairs), &body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(read[0].to_binary().0, head, "{answer}");
        let data: Value = serde_json::from_slice(read[0].data().expect("data")).expect("json");
        assert_eq!(data, json!({ "n": 1 }));
    }
}
