//! What the code finds in its environment, and the names under which it knows itself.
//!
//! Source: AWS Lambda Developer Guide, "Using Lambda environment variables", "Defined runtime environment
//! variables". There are no credentials here: false ones would only confuse. A function whose egress names the platform
//! gets a key of its own from the node; one that needs others sets them itself. `_X_AMZN_TRACE_ID` is each call's own: the
//! clients set it.

use std::fmt::Write as _;

use rouse_types::{FunctionVersion, Runtime, TraceContext};

/// Where the Runtime API listens inside each sandbox.
pub const RUNTIME_API: &str = "127.0.0.1:9001";
/// Where the code is mounted.
pub const TASK_ROOT: &str = "/var/task";
/// Where what the interpreter needs to speak the contract is mounted.
pub const RUNTIME_DIR: &str = "/opt/rouse/runtime";
/// The region that code is told it runs in, unless its own environment says another.
pub const REGION: &str = "us-east-1";
/// Twelve digits, as AWS' accounts have; the tenant's name is no number.
pub const ACCOUNT: &str = "000000000000";

/// Names that a function cannot set: the contract needs them as they are.
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_MAX_CONCURRENCY",
];

/// What an interpreter finds before it is anybody's instance: `runtime` is its own.
#[must_use]
pub fn of_interpreter(runtime: &[(String, String)]) -> Vec<(String, String)> {
    common(runtime).into_iter().collect()
}

fn common(runtime: &[(String, String)]) -> std::collections::BTreeMap<String, String> {
    let common = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin"),
        ("LANG", "C.UTF-8"),
        ("TZ", ":UTC"),
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp"),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        // Without a daemon of X-Ray its libraries shall say so, not fail.
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
        ("LD_LIBRARY_PATH", "/var/task:/var/task/lib:/opt/lib"),
    ];
    let common = common.map(|(name, value)| (name.to_owned(), value.to_owned()));
    common.into_iter().chain(runtime.iter().cloned()).collect()
}

/// The whole environment of an instance: the contract's, the runtime's own (`runtime`), and the function's,
/// which may set anything that is not reserved.
#[must_use]
pub fn of(version: &FunctionVersion, instance: &str, runtime: &[(String, String)]) -> Vec<(String, String)> {
    let mut env = common(runtime);
    let own = version.env.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
    env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    let number = version.number.to_string();
    let own = version.lambda.as_ref();
    let function = own.map_or(version.function.as_str(), |own| &own.function);
    let called = own.map_or(&number, |own| &own.version);
    let log_group = own.map_or_else(|| format!("/aws/lambda/{function}"), |own| own.log_group.clone());
    let contract = [
        ("_HANDLER", version.handler.clone().unwrap_or_default()),
        ("LAMBDA_TASK_ROOT", TASK_ROOT.into()),
        ("LAMBDA_RUNTIME_DIR", RUNTIME_DIR.into()),
        ("AWS_LAMBDA_RUNTIME_API", RUNTIME_API.into()),
        ("AWS_LAMBDA_FUNCTION_NAME", function.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", called.clone()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", version.limits.memory_mib.to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", log_group),
        ("AWS_LAMBDA_LOG_STREAM_NAME", format!("[{called}]{instance}")),
        (
            "AWS_LAMBDA_INITIALIZATION_TYPE",
            if version.scaling.instances_min > 0 { "provisioned-concurrency" } else { "on-demand" }.into(),
        ),
    ];
    env.extend(contract.map(|(name, value)| (name.to_owned(), value)));
    let mut insert = |name: &str, value: String| drop(env.insert(name.into(), value));
    // AWS' own name of the runtime, which some clients go by; it has none for `provided`.
    match version.runtime {
        Runtime::Node { .. } => insert("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}.x", version.runtime)),
        Runtime::Python { .. } => insert("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", version.runtime)),
        Runtime::Component | Runtime::Provided => {}
        // AWS' base images have folders of their own, and say so.
        Runtime::Image => {
            insert("LAMBDA_RUNTIME_DIR", "/var/runtime".into());
            let own = |name: &str| name == "LAMBDA_RUNTIME_DIR" || name == "LAMBDA_TASK_ROOT";
            runtime
                .iter()
                .filter(|(name, _)| own(name))
                .for_each(|(name, value)| insert(name, value.clone()));
        }
    }
    // Its presence alone makes some clients serve several calls at once, in a process each.
    if version.scaling.concurrency_per_instance > 1 {
        insert("AWS_LAMBDA_MAX_CONCURRENCY", version.scaling.concurrency_per_instance.to_string());
    }
    env.into_iter().collect()
}

/// The version's name as AWS writes it.
#[must_use]
pub fn arn(version: &FunctionVersion) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}:{}", version.function, version.number)
}

/// A trace as X-Ray writes it: `Root=1-<8 digits>-<24 digits>;Parent=<16 digits>;Sampled=<0 or 1>`.
#[must_use]
pub fn xray(trace: &TraceContext) -> String {
    let root = format!("{:032x}", trace.trace_id);
    let mut text = format!("Root=1-{}-{}", &root[..8], &root[8..]);
    // Writing to a string does not fail.
    let _ = write!(text, ";Parent={:016x};Sampled={}", trace.span_id, trace.flags & 1);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::runtime::tests::version;

    #[test]
    fn a_function_sets_its_own_variables_but_not_the_contracts() {
        let mut version = version("python3.11");
        version.env.insert("GREETING".into(), "hi".into());
        version.env.insert("AWS_REGION".into(), "eu-central-1".into());
        version.env.insert("AWS_LAMBDA_RUNTIME_API".into(), "evil:1".into());
        let env = of(&version, "i1", &[]);
        let get = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(get("GREETING"), Some("hi"));
        assert_eq!(get("AWS_REGION"), Some("eu-central-1"));
        assert_eq!(get("AWS_LAMBDA_RUNTIME_API"), Some(RUNTIME_API));
        assert_eq!(get("_HANDLER"), Some("app.handler"));
    }

    #[test]
    fn the_environment_is_that_of_the_runtime_and_of_the_calls_at_once() {
        let value = |version: &FunctionVersion, name: &str| {
            of(version, "i1", &[]).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
        };
        for (runtime, expected) in [
            ("python3.11", Some("AWS_Lambda_python3.11")),
            ("nodejs20", Some("AWS_Lambda_nodejs20.x")),
            ("provided", None),
        ] {
            assert_eq!(value(&version(runtime), "AWS_EXECUTION_ENV").as_deref(), expected);
        }
        let mut version = version("nodejs20");
        assert_eq!(value(&version, "AWS_LAMBDA_MAX_CONCURRENCY"), None);
        version.scaling.concurrency_per_instance = 8;
        assert_eq!(value(&version, "AWS_LAMBDA_MAX_CONCURRENCY").as_deref(), Some("8"));
        assert_eq!(value(&version, "AWS_ACCESS_KEY_ID"), None);
    }

    #[test]
    fn a_trace_is_written_as_xray_writes_it() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a trace");
        assert_eq!(
            xray(&trace),
            "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
        );
    }
}
