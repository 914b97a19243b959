//! What an access key may do: of each operation of AWS, what of the platform's own operations does the same, whose roles then
//! hold; and whether the audit log tells of it. Pure.
//!
//! Functions' own keys are narrowed further by [`crate::function_keys`].

use http::Method;
use rouse_api::operation::{self, Id};
use rouse_types::Role;

use crate::{error::AwsError, protocol};

/// An operation of AWS, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) service: &'a str,
    /// Empty for what is none: it is refused as that where it is read.
    pub(crate) name: &'a str,
}

/// What is needed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A key of any role.
    Anyone,
    /// What calls functions and sends messages.
    Calls,
    /// What reads, or calls.
    Finds,
    /// What reads.
    Reads,
    /// What deploys, and works with what the tenant keeps.
    Uses,
    /// The same, and it changes what there is: the audit log tells of it.
    Changes,
}

/// The operation of a request to Lambda.
pub(crate) fn lambda<'a>(method: &Method, path: &str, query: &str) -> Operation<'a> {
    Operation { service: "lambda", name: protocol::operation(method, path, query).unwrap_or_default() }
}

fn need(operation: Operation<'_>) -> Need {
    let Operation { service, name } = operation;
    let begins = |all: &[&str]| all.iter().any(|begin| name.starts_with(begin));
    match (service, name) {
        ("sts", _) => Need::Anyone,
        ("lambda", "Invoke" | "InvokeAsync" | "InvokeWithResponseStream") => Need::Calls,
        ("sqs", "SendMessage" | "SendMessageBatch") => Need::Calls,
        // Who sends to a queue looks for it by name.
        ("sqs", "GetQueueUrl") => Need::Finds,
        (
            "sqs",
            "ReceiveMessage"
            | "DeleteMessage"
            | "DeleteMessageBatch"
            | "ChangeMessageVisibility"
            | "ChangeMessageVisibilityBatch",
        ) => Need::Uses,
        _ if begins(&["Get", "List", "Describe", "Filter"]) => Need::Reads,
        // What is no operation is told to whoever may do the most.
        (_, "") => Need::Uses,
        _ => Need::Changes,
    }
}

/// Whether the audit log tells of it.
pub(crate) fn is_logged(operation: Operation<'_>) -> bool {
    need(operation) == Need::Changes
}

/// Refuses what is not for a key of this role.
///
/// # Errors
/// Its role may not.
pub(crate) fn check(key: &str, role: Role, operation: Operation<'_>) -> Result<(), AwsError> {
    let allows = |id| operation::access(id).allows(role);
    let may = match need(operation) {
        Need::Anyone => true,
        Need::Calls => allows(Id::Invoke),
        Need::Finds => allows(Id::Invoke) || allows(Id::GetQueue),
        Need::Reads => allows(Id::GetQueue),
        Need::Uses | Need::Changes => allows(Id::Deploy),
    };
    if may {
        return Ok(());
    }
    let Operation { service, name } = operation;
    Err(AwsError::new(
        "AccessDeniedException",
        format!(
            "{key} has the role {role}, which may not {service}:{name}; an owner of the tenant makes a key with \
             `rouse access-key create --role`"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    fn roles(service: &str, name: &str) -> Vec<Role> {
        let operation = Operation { service, name };
        Role::ALL.into_iter().filter(|role| check("AKIA", *role, operation).is_ok()).collect()
    }

    #[test]
    fn each_role_may_what_it_may_at_the_control_api() {
        use Role::{Deployer, Invoker, Owner, Viewer};
        for (service, name, may, logged) in [
            ("lambda", "CreateFunction", vec![Owner, Deployer], true),
            ("lambda", "DeleteFunctionUrlConfig", vec![Owner, Deployer], true),
            ("lambda", "Invoke", vec![Owner, Deployer, Invoker], false),
            ("lambda", "GetFunction", vec![Owner, Deployer, Viewer], false),
            ("sqs", "SendMessage", vec![Owner, Deployer, Invoker], false),
            ("sqs", "GetQueueUrl", vec![Owner, Deployer, Invoker, Viewer], false),
            ("sqs", "ReceiveMessage", vec![Owner, Deployer], false),
            ("sqs", "CreateQueue", vec![Owner, Deployer], true),
            ("iam", "CreateRole", vec![Owner, Deployer], true),
            ("iam", "ListRoles", vec![Owner, Deployer, Viewer], false),
            ("logs", "FilterLogEvents", vec![Owner, Deployer, Viewer], false),
            ("sts", "GetCallerIdentity", Role::ALL.to_vec(), false),
            ("lambda", "", vec![Owner, Deployer], false),
        ] {
            assert_eq!(roles(service, name), may, "{service}:{name}");
            assert_eq!(is_logged(Operation { service, name }), logged, "{service}:{name}");
        }
    }

    #[test]
    fn a_viewer_changes_nothing_of_lambdas_and_sqs_whole_model() {
        for operation in model::OPERATIONS {
            let may = roles("lambda", operation.name).contains(&Role::Viewer);
            assert_eq!(may, operation.method == "GET", "{}", operation.name);
            assert!(!roles("lambda", operation.name).contains(&Role::Billing), "{}", operation.name);
        }
        for operation in model::SQS_OPERATIONS {
            let reads = operation.name.starts_with("Get") || operation.name.starts_with("List");
            assert_eq!(roles("sqs", operation.name).contains(&Role::Viewer), reads, "{}", operation.name);
        }
    }

    #[test]
    fn an_operation_of_lambda_is_found_by_its_method_and_path() {
        let name = |method: Method, path: &str| lambda(&method, path, "").name;
        assert_eq!(name(Method::POST, "/2015-03-31/functions"), "CreateFunction");
        assert_eq!(name(Method::POST, "/2015-03-31/functions/f/invocations"), "Invoke");
        assert_eq!(name(Method::GET, "/2015-03-31/functions/f"), "GetFunction");
        assert_eq!(name(Method::PATCH, "/nowhere"), "");
    }
}
