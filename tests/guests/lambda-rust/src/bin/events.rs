//! A Lambda function on `lambda_runtime`: what it does is in the event, so that tests can ask for each thing that
//! a function does.

use std::time::Duration;

use lambda_runtime::{
    Error, FunctionResponse, LambdaEvent, run_concurrent, service_fn,
    streaming::{Body, Response, channel},
    tracing,
};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    run_concurrent(service_fn(handler)).await
}

async fn handler(event: LambdaEvent<Value>) -> Result<FunctionResponse<Value, Body>, Error> {
    let LambdaEvent { payload, context } = event;
    match payload["do"].as_str() {
        Some("fail") => return Err("it was told to fail".into()),
        Some("panic") => panic!("it was told to panic"),
        Some("exit") => std::process::exit(3),
        Some("sleep") => {
            tokio::time::sleep(Duration::from_millis(payload["ms"].as_u64().unwrap_or(100))).await;
        }
        Some("stream") => return Ok(stream(payload["fails"].as_bool().unwrap_or_default())),
        _ => {}
    }
    tracing::info!(n = payload["n"].as_u64(), "answering");
    Ok(FunctionResponse::BufferedResponse(json!({
        "n": payload["n"],
        "id": context.request_id,
        "arn": context.invoked_function_arn,
        "client": context.client_context,
        "identity": context.identity,
        "tenant": context.tenant_id,
        "trace": context.xray_trace_id,
        "name": context.env_config.function_name,
    })))
}

/// Three parts with a pause between, and perhaps an error in place of the third.
fn stream(fails: bool) -> FunctionResponse<Value, Body> {
    let (mut parts, body) = channel();
    tokio::spawn(async move {
        for n in 0..3 {
            if fails && n == 2 {
                return parts.abort();
            }
            if parts.send_data(format!("part {n};").into()).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    FunctionResponse::StreamingResponse(Response::from(body))
}
