//! Requests as clients send them, and answers as they read them.

use serde_json::json;

use super::*;

fn call(method: &str, target: &str, body: &str) -> Result<Call, AwsError> {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    read(&method, path, query, &HeaderMap::new(), Bytes::from(body.to_owned()))
}

#[test]
fn every_operation_is_found_by_its_own_path() {
    for operation in model::OPERATIONS {
        let target = operation.uri.replace('{', "x").replace('}', "%3A1");
        // Numbers, where the model wants some.
        let target = target.replace("/xVersionNumber%3A1", "/7");
        let read = call(operation.method, &target, "").unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(read.operation.name, operation.name, "{target}");
    }
}

#[test]
fn names_come_out_of_the_path_decoded() {
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af%3Alive";
    let read = call("POST", &format!("/2015-03-31/functions/{arn}/invocations?Qualifier=%24LATEST"), "{}");
    let read = read.expect("an operation");
    assert_eq!(read.operation.name, "Invoke");
    assert_eq!(read.input["FunctionName"], "arn:aws:lambda:us-east-1:000000000000:function:f:live");
    assert_eq!(read.input["Qualifier"], "$LATEST");
    assert_eq!(read.payload, "{}");
}

#[test]
fn a_slash_at_the_end_and_a_query_are_taken() {
    let read = call("GET", "/2015-03-31/functions/?MaxItems=5&Marker=a%2Bb", "").expect("an operation");
    assert_eq!(read.operation.name, "ListFunctions");
    assert_eq!(read.input, json!({ "MaxItems": 5, "Marker": "a+b" }));
    let read = call("DELETE", "/2017-03-31/tags/x?tagKeys=a&tagKeys=b", "").expect("an operation");
    assert_eq!(read.input["TagKeys"], json!(["a", "b"]));
}

#[test]
fn what_is_no_request_is_refused() {
    assert_eq!(call("GET", "/nothing", "").expect_err("none").name, "UnknownOperationException");
    let wrong = call("POST", "/2015-03-31/functions", "{").expect_err("no JSON");
    assert_eq!(wrong.name, "SerializationException");
    let wrong = call("POST", "/2015-03-31/functions", r#"{"Timeout":"3"}"#).expect_err("no number");
    assert_eq!(wrong.message, "STRING_VALUE can not be converted to an Integer");
}

#[test]
fn members_go_where_the_model_has_them() {
    let operation = model::operation("DeleteFunctionConcurrency").expect("an operation");
    assert_eq!(answer(operation, Value::Null).status(), 204);
    let operation = model::operation("GetFunctionConfiguration").expect("an operation");
    let response = answer(operation, json!({ "FunctionName": "f", "KMSKeyArn": null }));
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = http_body::Body::size_hint(response.body()).exact();
    assert_eq!(body, Some(r#"{"FunctionName":"f"}"#.len() as u64));
}
