//! The Lambda API: reads a request by the model, checks it, does it, writes the answer by the model.

pub(crate) mod activate;
mod aliases;
mod code;
mod concurrency;
pub(crate) mod config;
mod event_invoke;
mod functions;
pub(crate) mod invoke;
mod later;
mod layers;
pub(crate) mod mappings;
#[cfg(test)]
mod offered;
pub(crate) mod op;
mod permissions;
mod runtimes;
mod settings;
mod signing;
mod stream;
mod tags;
mod update;
mod urls;
mod versions;

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, request::Parts};
use serde_json::Value;

use crate::{
    Body,
    error::AwsError,
    face::{Around, Face},
    protocol, validate,
};
use op::Op;

/// The largest payload of a call that waits for its answer.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 6_291_456;
/// The largest request with an archive: 50 MiB in base64, and the settings.
const ARCHIVE_REQUEST_BYTES_MAX: usize = 70_167_211;
/// The largest payload of one that does not.
const EVENT_BYTES_MAX: usize = 1 << 20;

fn is_invoke(path: &str) -> bool {
    path.ends_with("/invocations") || path.ends_with("/response-streaming-invocations")
}

/// What AWS calls the operation of a path that brings an archive.
fn archive_of(path: &str) -> Option<&'static str> {
    let rest = path.strip_prefix("/2015-03-31/functions")?.trim_end_matches('/');
    match rest {
        "" => Some("CreateFunction"),
        _ if rest.ends_with("/code") => Some("UpdateFunctionCode"),
        _ => None,
    }
}

/// What a request to this path may hold, and what is said of one that holds more, if there is something of its own.
pub(crate) fn body_bytes_max(path: &str, most: usize) -> (usize, Option<AwsError>) {
    if is_invoke(path) {
        return (PAYLOAD_BYTES_MAX, Some(invoke::too_large(PAYLOAD_BYTES_MAX)));
    }
    let Some(operation) = archive_of(path) else { return (most, None) };
    let text = format!(
        "Request must be smaller than {ARCHIVE_REQUEST_BYTES_MAX} bytes for the {operation} operation"
    );
    (ARCHIVE_REQUEST_BYTES_MAX, Some(AwsError::new("RequestEntityTooLargeException", text)))
}

/// Answers one request.
pub(crate) async fn answer(
    face: &Arc<Face>,
    around: &Around,
    parts: &Parts,
    payload: Bytes,
) -> Result<Response<Body>, AwsError> {
    let uri = &parts.uri;
    let call =
        protocol::read(&parts.method, uri.path(), uri.query().unwrap_or_default(), &parts.headers, payload)?;
    if let Some(runtime) = call.input.get("Runtime").and_then(Value::as_str) {
        runtimes::known(runtime)?;
    }
    validate::input(call.operation.input, &call.input)?;
    let op = Op { face, around, input: &call.input };
    match call.operation.name {
        "Invoke" => return op.invoke(call.payload).await,
        "InvokeAsync" => return op.invoke_async(call.payload).await,
        "InvokeWithResponseStream" => return op.invoke_with_response_stream(call.payload).await,
        _ => {}
    }
    let output = Box::pin(run(&op, call.operation.name)).await?;
    let mut response = protocol::answer(call.operation, output);
    // A setting that is not there is an answer without a body.
    if call.operation.name == "GetFunctionRecursionConfig" {
        *response.status_mut() = http::StatusCode::OK;
    }
    Ok(response)
}

async fn run(op: &Op<'_>, name: &str) -> Result<Value, AwsError> {
    match name {
        "CreateFunction" => op.create_function().await,
        "GetFunction" => op.get_function().await,
        "GetFunctionConfiguration" => op.get_function_configuration().await,
        "ListFunctions" => op.list_functions().await,
        "DeleteFunction" => op.delete_function().await,
        "UpdateFunctionCode" => op.update_function_code().await,
        "UpdateFunctionConfiguration" => op.update_function_configuration().await,
        "PublishVersion" => op.publish_version().await,
        "ListVersionsByFunction" => op.list_versions().await,
        "CreateAlias" => op.create_alias().await,
        "GetAlias" => op.get_alias().await,
        "UpdateAlias" => op.update_alias().await,
        "DeleteAlias" => op.delete_alias().await,
        "ListAliases" => op.list_aliases().await,
        "AddPermission" => op.add_permission().await,
        "RemovePermission" => op.remove_permission().await,
        "GetPolicy" => op.get_policy().await,
        "PutFunctionConcurrency" => op.put_concurrency().await,
        "GetFunctionConcurrency" => op.get_concurrency().await,
        "DeleteFunctionConcurrency" => op.delete_concurrency().await,
        "PutProvisionedConcurrencyConfig" => op.put_provisioned().await,
        "GetProvisionedConcurrencyConfig" => op.get_provisioned().await,
        "DeleteProvisionedConcurrencyConfig" => op.delete_provisioned().await,
        "ListProvisionedConcurrencyConfigs" => op.list_provisioned().await,
        "CreateFunctionUrlConfig" => op.create_url().await,
        "GetFunctionUrlConfig" => op.get_url().await,
        "UpdateFunctionUrlConfig" => op.update_url().await,
        "DeleteFunctionUrlConfig" => op.delete_url().await,
        "ListFunctionUrlConfigs" => op.list_urls().await,
        "PutFunctionEventInvokeConfig" => op.put_event_invoke(true).await,
        "UpdateFunctionEventInvokeConfig" => op.put_event_invoke(false).await,
        "GetFunctionEventInvokeConfig" => op.get_event_invoke().await,
        "DeleteFunctionEventInvokeConfig" => op.delete_event_invoke().await,
        "ListFunctionEventInvokeConfigs" => op.list_event_invoke().await,
        "CreateEventSourceMapping" => op.create_mapping().await,
        "GetEventSourceMapping" => op.get_mapping().await,
        "UpdateEventSourceMapping" => op.update_mapping().await,
        "DeleteEventSourceMapping" => op.delete_mapping().await,
        "ListEventSourceMappings" => op.list_mappings().await,
        "TagResource" => op.tag().await,
        "UntagResource" => op.untag().await,
        "ListTags" => op.list_tags().await,
        "GetAccountSettings" => op.account_settings().await,
        "PutRuntimeManagementConfig" => op.put_runtime_management().await,
        "GetRuntimeManagementConfig" => op.get_runtime_management().await,
        "PutFunctionRecursionConfig" => op.put_recursion().await,
        "GetFunctionRecursionConfig" => op.get_recursion().await,
        "PutFunctionScalingConfig" => op.put_scaling().await,
        "GetFunctionScalingConfig" => op.get_scaling().await,
        "CreateCodeSigningConfig" => op.create_signing().await,
        "GetCodeSigningConfig" => op.get_signing().await,
        "UpdateCodeSigningConfig" => op.update_signing().await,
        "DeleteCodeSigningConfig" => op.delete_signing().await,
        "ListCodeSigningConfigs" => op.list_signing().await,
        "ListFunctionsByCodeSigningConfig" => op.list_functions_by_signing().await,
        "PutFunctionCodeSigningConfig" => op.put_function_signing().await,
        "GetFunctionCodeSigningConfig" => op.get_function_signing().await,
        "DeleteFunctionCodeSigningConfig" => op.delete_function_signing().await,
        "PublishLayerVersion" => op.publish_layer().await,
        "GetLayerVersion" => op.get_layer().await,
        "GetLayerVersionByArn" => op.get_layer_by_arn().await,
        "ListLayers" => op.list_layers().await,
        "ListLayerVersions" => op.list_layer_versions().await,
        "DeleteLayerVersion" => op.delete_layer().await,
        "AddLayerVersionPermission" => op.add_layer_permission().await,
        "RemoveLayerVersionPermission" => op.remove_layer_permission().await,
        "GetLayerVersionPolicy" => op.get_layer_policy().await,
        other => Err(AwsError::new(
            "UnknownOperationException",
            format!("Rouse does not offer {other}; docs/guides/aws.md lists what it does"),
        )),
    }
}
