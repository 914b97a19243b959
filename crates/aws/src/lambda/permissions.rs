//! Resource policies of functions: who may call them. They are kept and shown; calls are let in by keys.

use serde_json::{Map, Value, json};

use super::op::{Named, Op};
use crate::{error::AwsError, face, names::LATEST, state::Policy};

/// What the names of services end with.
const SERVICES: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];

impl Op<'_> {
    /// A policy as a document.
    fn document(policy: &Policy) -> String {
        json!({ "Version": "2012-10-17", "Id": "default", "Statement": policy.statements }).to_string()
    }

    pub(crate) async fn add_permission(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, qualifier, mut at } = self.qualified().await?;
        if qualifier.as_deref() == Some(LATEST) {
            return Err(AwsError::invalid("We currently do not support adding policies for $LATEST."));
        }
        let principal = self.text("Principal").unwrap_or_default();
        let statement = self.statement(&self.arn(&name, qualifier.as_deref()), principal)?;
        let policy = at.value.policies.entry(qualifier.unwrap_or_default()).or_default();
        if !policy.statements.is_empty() || self.text("RevisionId").is_some() {
            self.expect_revision(&policy.revision, "GetPolicy")?;
        }
        let id = self.text("StatementId").unwrap_or_default();
        if policy.statements.iter().any(|statement| statement["Sid"] == id) {
            return Err(AwsError::conflict(format!(
                "The statement id ({id}) provided already exists. Please provide a new statement id, or remove the existing \
                 statement."
            )));
        }
        policy.statements.push(statement.clone());
        policy.revision = face::uuid();
        self.put(&name, &at).await?;
        Ok(json!({ "Statement": statement.to_string() }))
    }

    /// One statement of a policy, as AWS writes it.
    fn statement(&self, resource: &str, principal: &str) -> Result<Value, AwsError> {
        let shown = match principal {
            "*" => json!("*"),
            account if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) => {
                json!({ "AWS": format!("arn:aws:iam::{account}:root") })
            }
            arn if arn.starts_with("arn:") => json!({ "AWS": arn }),
            service if SERVICES.iter().any(|end| service.ends_with(end)) => json!({ "Service": service }),
            _ => {
                return Err(AwsError::invalid(
                    "The provided principal was invalid. Please check the principal and try again.",
                ));
            }
        };
        let mut conditions = Map::new();
        let mut add = |kind: &str, key: &str, value: Option<&str>| {
            if let Some(value) = value {
                let entry = conditions.entry(kind.to_owned()).or_insert_with(|| json!({}));
                entry[key] = value.into();
            }
        };
        add("StringEquals", "AWS:SourceAccount", self.text("SourceAccount"));
        add("StringEquals", "lambda:EventSourceToken", self.text("EventSourceToken"));
        add("StringEquals", "aws:PrincipalOrgID", self.text("PrincipalOrgID"));
        add("StringEquals", "lambda:FunctionUrlAuthType", self.text("FunctionUrlAuthType"));
        add("ArnLike", "AWS:SourceArn", self.text("SourceArn"));
        if self.flag("InvokedViaFunctionUrl") {
            add("Bool", "lambda:InvokedViaFunctionUrl", Some("true"));
        }
        let mut statement = json!({
            "Sid": self.text("StatementId"), "Effect": "Allow", "Principal": shown, "Action": self.text("Action"),
            "Resource": resource,
        });
        if !conditions.is_empty() {
            statement["Condition"] = Value::Object(conditions);
        }
        Ok(statement)
    }

    pub(crate) async fn get_policy(&self) -> Result<Value, AwsError> {
        let named = self.qualified().await?;
        let policy = named.at.value.policies.get(named.qualifier.as_deref().unwrap_or_default());
        match policy.filter(|policy| !policy.statements.is_empty()) {
            Some(policy) => Ok(json!({ "Policy": Self::document(policy), "RevisionId": policy.revision })),
            None => Err(AwsError::not_found("The resource you requested does not exist.")),
        }
    }

    pub(crate) async fn remove_permission(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, qualifier, mut at } = self.qualified().await?;
        let key = qualifier.unwrap_or_default();
        let Some(policy) = at.value.policies.get_mut(&key).filter(|policy| !policy.statements.is_empty())
        else {
            return Err(AwsError::not_found("No policy is associated with the given resource."));
        };
        let id = self.text("StatementId").unwrap_or_default();
        let Some(index) = policy.statements.iter().position(|statement| statement["Sid"] == id) else {
            return Err(AwsError::not_found(format!("Statement {id} is not found in resource policy.")));
        };
        self.expect_revision(&policy.revision, "GetPolicy")?;
        policy.statements.remove(index);
        policy.revision = face::uuid();
        if policy.statements.is_empty() {
            at.value.policies.remove(&key);
        }
        self.put(&name, &at).await?;
        Ok(Value::Null)
    }
}
