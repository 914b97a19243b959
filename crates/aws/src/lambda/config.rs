//! A version's configuration: what a request sets of it, and how it is shown.

use std::collections::BTreeMap;

use rouse_types::Digest;
use serde_json::{Map, Value, json};
use sha2::Digest as _;

use super::{op::Op, runtimes};
use crate::{error::AwsError, face, names::LATEST, state::Version};

/// What a version shows of its state. Lists leave it out.
const STATE: [&str; 7] = [
    "State",
    "StateReason",
    "StateReasonCode",
    "LastUpdateStatus",
    "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode",
    "RuntimeVersionConfig",
];
/// Names that AWS keeps for itself.
const RESERVED: [&str; 20] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "AWS_LAMBDA_METADATA_API",
    "AWS_LAMBDA_METADATA_TOKEN",
];
/// The longest time-out, which the model does not say.
const TIMEOUT_SECONDS_MAX: u64 = 900;
/// What all variables may take.
const ENVIRONMENT_BYTES_MAX: usize = 4_096;

impl Op<'_> {
    /// Takes over what the request sets of a configuration.
    pub(crate) fn configure(&self, config: &mut Map<String, Value>, name: &str) -> Result<(), AwsError> {
        if let Some(seconds) = self.number("Timeout").filter(|seconds| *seconds > TIMEOUT_SECONDS_MAX) {
            return Err(AwsError::validation(format!(
                "1 validation error detected: Value '{seconds}' at 'timeout' failed to satisfy constraint: Member must have \
                 value less than or equal to {TIMEOUT_SECONDS_MAX}"
            )));
        }
        let plain =
            ["Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize", "EphemeralStorage"];
        for member in plain {
            if let Some(value) = self.input.get(member) {
                config.insert(member.to_owned(), value.clone());
            }
        }
        if let Some(runtime) = self.text("Runtime") {
            runtimes::current(runtime)?;
            config.insert("RuntimeVersionConfig".to_owned(), self.runtime_version(runtime));
        }
        if let Some(environment) = self.input.get("Environment") {
            let variables = environment.get("Variables").cloned().unwrap_or(json!({}));
            check_environment(&variables)?;
            config.insert("Environment".to_owned(), json!({ "Variables": variables }));
        }
        if let Some(key) = self.text("KMSKeyArn") {
            match key {
                "" => config.remove("KMSKeyArn"),
                key => config.insert("KMSKeyArn".to_owned(), key.into()),
            };
        }
        if let Some(tracing) = self.input.get("TracingConfig") {
            let mode = tracing.get("Mode").cloned().unwrap_or_else(|| "PassThrough".into());
            config.insert("TracingConfig".to_owned(), json!({ "Mode": mode }));
        }
        if let Some(target) = self.input.get("DeadLetterConfig") {
            match target.get("TargetArn").and_then(Value::as_str).unwrap_or_default() {
                "" => config.remove("DeadLetterConfig"),
                arn if self.around.scope.queue_of(arn).is_some() => {
                    config.insert("DeadLetterConfig".to_owned(), json!({ "TargetArn": arn }))
                }
                arn => {
                    return Err(AwsError::invalid(format!(
                        "The dead letter target {arn} is not offered: name a queue of this account"
                    )));
                }
            };
        }
        if let Some(vpc) = self.input.get("VpcConfig") {
            let list = |member: &str| vpc.get(member).cloned().unwrap_or_else(|| json!([]));
            let subnets = list("SubnetIds");
            let vpc_id =
                if subnets.as_array().is_some_and(Vec::is_empty) { "" } else { "vpc-00000000000000000" };
            config.insert(
                "VpcConfig".to_owned(),
                json!({
                    "SubnetIds": subnets, "SecurityGroupIds": list("SecurityGroupIds"), "VpcId": vpc_id,
                    "Ipv6AllowedForDualStack": vpc.get("Ipv6AllowedForDualStack").cloned().unwrap_or(false.into()),
                }),
            );
        }
        if let Some(snap) = self.input.get("SnapStart") {
            let apply = snap.get("ApplyOn").cloned().unwrap_or_else(|| "None".into());
            config.insert("SnapStart".to_owned(), json!({ "ApplyOn": apply, "OptimizationStatus": "Off" }));
        }
        if let Some(logging) = self.input.get("LoggingConfig") {
            self.logging(config, logging, name)?;
        }
        if let Some(image) = self.input.get("ImageConfig") {
            if image.as_object().is_some_and(Map::is_empty) {
                config.remove("ImageConfigResponse");
            } else {
                config.insert("ImageConfigResponse".to_owned(), json!({ "ImageConfig": image }));
            }
        }
        if self
            .input
            .get("FileSystemConfigs")
            .and_then(Value::as_array)
            .is_some_and(|configs| !configs.is_empty())
        {
            return Err(AwsError::unsupported(
                "File systems cannot be mounted into functions on this platform",
            ));
        }
        Ok(())
    }

    fn logging(&self, config: &mut Map<String, Value>, asked: &Value, name: &str) -> Result<(), AwsError> {
        let usual = json!({ "LogFormat": "Text", "LogGroup": format!("/aws/lambda/{name}") });
        let mut logging = config.get("LoggingConfig").cloned().unwrap_or(usual);
        let (Some(logging_fields), Some(asked)) = (logging.as_object_mut(), asked.as_object()) else {
            return Ok(());
        };
        for (member, value) in asked {
            logging_fields.insert(member.clone(), value.clone());
        }
        if logging_fields.get("LogFormat").and_then(Value::as_str) == Some("JSON") {
            for level in ["ApplicationLogLevel", "SystemLogLevel"] {
                logging_fields.entry(level).or_insert_with(|| "INFO".into());
            }
        } else {
            if asked.contains_key("ApplicationLogLevel") || asked.contains_key("SystemLogLevel") {
                return Err(AwsError::invalid(
                    "To filter logs, you must set your function's log format to JSON.",
                ));
            }
            logging_fields.remove("ApplicationLogLevel");
            logging_fields.remove("SystemLogLevel");
        }
        config.insert("LoggingConfig".to_owned(), logging);
        Ok(())
    }

    /// What AWS calls the build of a runtime: ours are the host's, so it is a name alone.
    fn runtime_version(&self, runtime: &str) -> Value {
        let digest = hex::encode(sha2::Sha256::digest(runtime));
        json!({ "RuntimeVersionArn": format!("arn:aws:lambda:{}::runtime:{digest}", self.around.scope.region) })
    }

    /// A version as `GetFunctionConfiguration` shows it; `named` has the qualifier in its ARN.
    pub(crate) fn shown(&self, name: &str, version: &str, of: &Version, qualifier: Option<&str>) -> Value {
        let mut shown = of.config.clone();
        shown.insert("FunctionName".to_owned(), name.into());
        shown.insert("FunctionArn".to_owned(), self.arn(name, qualifier).into());
        shown.insert("Version".to_owned(), version.into());
        Value::Object(shown)
    }

    /// A version as lists show it.
    pub(crate) fn listed(&self, name: &str, version: &str, of: &Version, qualifier: Option<&str>) -> Value {
        let mut shown = self.shown(name, version, of, qualifier);
        if let Some(fields) = shown.as_object_mut() {
            STATE.iter().for_each(|member| drop(fields.remove(*member)));
        }
        shown
    }

    /// A configuration changes: it has a new revision, and the time is now.
    pub(crate) fn touch(&self, config: &mut Map<String, Value>) {
        config.insert("LastModified".to_owned(), face::time(self.around.now).into());
        revise(config);
    }
}

/// What is shown of a configuration is another now, though what it says of the code may not be.
pub(crate) fn revise(config: &mut Map<String, Value>) {
    config.insert("RevisionId".to_owned(), face::uuid().into());
}

/// The state that a version is in.
pub(crate) fn set_state(config: &mut Map<String, Value>, kind: &str, state: &str, why: Option<(&str, &str)>) {
    let (status, reason, code) = match kind {
        "State" => ("State", "StateReason", "StateReasonCode"),
        _ => ("LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"),
    };
    config.insert(status.to_owned(), state.into());
    match why {
        Some((text, why)) => {
            config.insert(reason.to_owned(), text.into());
            config.insert(code.to_owned(), why.into());
        }
        None => {
            config.remove(reason);
            config.remove(code);
        }
    }
}

/// What is said of a change while another is under way.
pub(crate) fn expect_settled(arn: &str, latest: &Version) -> Result<(), AwsError> {
    if latest.text("State") == "Pending" {
        return Err(AwsError::conflict(
            "The operation cannot be performed at this time. The function is currently in the following state: Pending",
        ));
    }
    if latest.text("LastUpdateStatus") == "InProgress" {
        return Err(AwsError::conflict(format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
        )));
    }
    Ok(())
}

fn check_environment(variables: &Value) -> Result<(), AwsError> {
    let Some(variables) = variables.as_object() else { return Ok(()) };
    let reserved: Vec<&str> =
        variables.keys().map(String::as_str).filter(|name| RESERVED.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(AwsError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided contains reserved keys that are currently not supported for modification. Reserved keys used in \
             this request: {}",
            reserved.join(", ")
        )));
    }
    let text = Value::Object(variables.clone()).to_string();
    if text.len() > ENVIRONMENT_BYTES_MAX {
        return Err(AwsError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided exceeded the 4KB limit. String measured: {text}"
        )));
    }
    Ok(())
}

/// The environment of a version, as the code sees it.
pub(crate) fn environment(version: &Version, region: &str) -> BTreeMap<String, String> {
    let variables = version.config.get("Environment").and_then(|environment| environment.get("Variables"));
    let variables = variables.and_then(Value::as_object).into_iter().flatten();
    let mut environment: BTreeMap<String, String> = variables
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        environment.insert(name.to_owned(), region.to_owned());
    }
    environment
}

/// The digest of all of a configuration but when and how it was changed: equal ones are published once.
pub(crate) fn essence(version: &Version) -> Digest {
    let mut config = version.config.clone();
    for member in STATE.iter().chain(&["LastModified", "RevisionId"]) {
        config.remove(*member);
    }
    // Members in the order of their names, whatever order they were set in.
    let sorted: BTreeMap<&String, &Value> = config.iter().collect();
    Digest::of(serde_json::to_string(&sorted).unwrap_or_default().as_bytes())
}

/// The name of a version's alias on the platform.
pub(crate) fn platform_alias(version: &str) -> String {
    if version == LATEST { "latest".to_owned() } else { format!("v-{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_aws_keeps_are_refused() {
        let error = check_environment(&json!({ "AWS_REGION": "x" })).expect_err("reserved").message;
        assert!(error.ends_with("Reserved keys used in this request: AWS_REGION"), "{error}");
        let large = json!({ "A": "x".repeat(5_000) });
        assert!(check_environment(&large).expect_err("large").message.contains("exceeded the 4KB limit"));
        check_environment(&json!({ "A": "b" })).expect("it is right");
    }

    #[test]
    fn a_new_revision_alone_makes_no_new_version() {
        let version = |members: &[(&str, Value)]| Version {
            config: members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            ..Version::default()
        };
        let one = version(&[("MemorySize", 128.into()), ("Timeout", 3.into()), ("RevisionId", "a".into())]);
        let same = version(&[("Timeout", 3.into()), ("MemorySize", 128.into()), ("RevisionId", "b".into())]);
        assert_eq!(essence(&one), essence(&same));
        assert_ne!(essence(&one), essence(&version(&[("MemorySize", 256.into()), ("Timeout", 3.into())])));
    }
}
