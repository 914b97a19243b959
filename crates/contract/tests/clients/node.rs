//! Node.js functions, by our own client.

use rouse_contract::lambda::{Failure, StreamEnd};
use rouse_sandbox::Exit;

use crate::harness::{Function, call, error, node, streamed, whole};

fn function(test: &str, file: &str, source: &str) -> Option<Function> {
    let (runtime, launch) = node(test)?;
    Some(Function::new(&runtime, launch, &[(file, source)]))
}

const NODE: &str = r#"
exports.handler = async (event, context) => {
  if (event.raise) throw new TypeError('bad thing');
  if (event.exit) process.exit(4);
  if (event.timer) setTimeout(() => console.log('late'), 5);
  console.log('working on', event.n);
  return { n: event.n + 1, left: context.getRemainingTimeInMillis() > 1000, id: context.awsRequestId };
};
"#;

#[tokio::test]
async fn a_node_handler_answers_raises_and_is_called_again() {
    let Some(function) = function("a_node_handler_answers_raises_and_is_called_again", "app.js", NODE) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    let first = call(r#"{"n": 1}"#);
    let id = first.id;
    let answer = whole(worker.invoke(first).await.expect("an answer"));
    assert_eq!(answer, serde_json::json!({ "n": 2, "left": true, "id": id.to_string() }));
    let raised = error(worker.invoke(call(r#"{"raise": 1}"#)).await.expect("an answer"));
    assert_eq!(raised, ("TypeError".into(), "bad thing".into()));
    for n in 0..20 {
        let answer = whole(worker.invoke(call(&format!(r#"{{"n": {n}, "timer": 1}}"#))).await.expect("ok"));
        assert_eq!(answer["n"], n + 1);
    }
    let failure = worker.invoke(call(r#"{"exit": 1}"#)).await.expect_err("it exits");
    assert_eq!(failure, Failure::Exited(Exit::Code(4)));
    worker.stop().await;
    assert!(function.texts().iter().any(|text| text == "working on 1"), "{:?}", function.texts());
}

#[tokio::test]
async fn node_handlers_of_every_style_answer() {
    let test = "node_handlers_of_every_style_answer";
    for (file, source) in [
        ("app.mjs", "export const handler = async () => 'hi';"),
        ("app.cjs", "exports.handler = async () => 'hi';"),
        (
            "app.js",
            "exports.handler = (event, context, callback) => setTimeout(() => callback(null, 'hi'), 2);",
        ),
        (
            "app.js",
            "exports.handler = (e, context, callback) => { context.callbackWaitsForEmptyEventLoop = false;
               setInterval(() => {}, 1000); callback(null, 'hi'); };",
        ),
    ] {
        let Some(function) = function(test, file, source) else { return };
        let worker = function.start().await.expect(source);
        for _ in 0..2 {
            assert_eq!(whole(worker.invoke(call("{}")).await.expect(source)), "hi", "{source}");
        }
    }
}

#[tokio::test]
async fn a_node_handler_streams_its_answer_with_a_head() {
    let source = "exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-a': 'b' } });
        for (let n = 0; n < 3; n += 1) { stream.write(`part ${n};`); await new Promise((r) => setTimeout(r, 2)); }
        if (event.raise) throw new RangeError('midway');
        stream.end();
    });";
    let Some(function) = function("a_node_handler_streams_its_answer_with_a_head", "app.js", source) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    for (payload, raises) in [("{}", false), (r#"{"raise":1}"#, true), ("{}", false)] {
        let (head, text, end) = streamed(worker.invoke(call(payload)).await.expect("an answer")).await;
        assert_eq!((head.status.as_u16(), &head.headers["x-a"]), (201, &http::HeaderValue::from_static("b")));
        assert!(text.starts_with("part 0;part 1;"), "{text:?}");
        if raises {
            assert!(matches!(end, StreamEnd::Error(error) if error.error_type == "RangeError"));
        } else {
            assert_eq!((end, text.as_str()), (StreamEnd::Complete, "part 0;part 1;part 2;"));
        }
    }
}

#[tokio::test]
async fn a_node_module_that_does_not_load_says_why() {
    for (source, reason) in [
        ("require('nothing-of-that-name');", "nothing-of-that-name"),
        ("exports.other = 1;", "undefined or not exported"),
        ("exports.handler = (;", "SyntaxError"),
    ] {
        let Some(function) = function("a_node_module_that_does_not_load_says_why", "app.js", source) else {
            return;
        };
        let failed = function.start().await.err().expect(source);
        assert!(failed.to_string().contains(reason), "{source}: {failed}");
    }
}

#[tokio::test]
async fn node_serves_several_calls_at_once_and_names_their_lines() {
    let source = "let waiting = [];
    exports.handler = async (event, context) => {
        console.log('call', event.n);
        // Answered only when three are there at once.
        await new Promise((done) => { waiting.push(done); if (waiting.length === 3) waiting.splice(0).forEach((one) => one()); });
        if (event.raise) throw new RangeError('bad thing');
        return { n: event.n, id: context.awsRequestId };
    };";
    let test = "node_serves_several_calls_at_once_and_names_their_lines";
    let Some(function) = function(test, "app.js", source).map(|function| function.at_once(3)) else { return };
    let worker = function.start().await.expect("it starts");
    for _ in 0..3 {
        let calls = [call(r#"{"n": 0}"#), call(r#"{"n": 1, "raise": true}"#), call(r#"{"n": 2}"#)];
        let ids = calls.each_ref().map(|call| call.id);
        let [a, b, c] = calls.map(|call| worker.invoke(call));
        let (a, b, c) = tokio::join!(a, b, c);
        assert_eq!(whole(a.expect("an answer")), serde_json::json!({ "n": 0, "id": ids[0] }));
        assert_eq!(error(b.expect("an answer")), ("RangeError".into(), "bad thing".into()));
        assert_eq!(whole(c.expect("an answer")), serde_json::json!({ "n": 2, "id": ids[2] }));
        ids.iter().for_each(|id| worker.end_log(*id));
        for (n, id) in ids.iter().enumerate() {
            let lines = function.lines();
            let line = lines.iter().rfind(|line| line.text.ends_with(&format!("call {n}"))).expect("logged");
            assert_eq!(line.invocation, Some(*id), "{line:?}");
        }
    }
    worker.stop().await;
}

#[tokio::test]
async fn what_a_client_says_of_itself_reaches_the_context() {
    let source = "exports.handler = async (event, context) => ({
        env: context.clientContext.env.locale, who: context.identity.cognitoIdentityId, tenant: context.tenantId });";
    let test = "what_a_client_says_of_itself_reaches_the_context";
    let Some(function) = function(test, "app.js", source) else { return };
    let worker = function.start().await.expect("it starts");
    let mut told = call("{}");
    told.client_context = Some(r#"{"env":{"locale":"de"}}"#.into());
    told.cognito_identity = Some(r#"{"cognitoIdentityId":"ada","cognitoIdentityPoolId":"all"}"#.into());
    told.tenant_id = Some("blue".into());
    let answer = whole(worker.invoke(told).await.expect("an answer"));
    assert_eq!(answer, serde_json::json!({ "env": "de", "who": "ada", "tenant": "blue" }));
}
