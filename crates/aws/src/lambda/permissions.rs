//! Resource policies of functions: who may call them. They are kept and shown; calls are let in by keys.

use serde_json::{Map, Value, json};

use super::{
    config,
    op::{Named, Op},
};
use crate::{
    error::AwsError,
    face,
    names::LATEST,
    state::{Function, Policy},
};

/// What the names of services end with.
const SERVICES: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];

/// The revision of what a policy is for: the function, one of its versions, or an alias.
fn revision<'a>(function: &'a Function, qualifier: &str) -> &'a str {
    match function.aliases.get(qualifier) {
        Some(alias) => &alias.revision,
        None => function.version(qualifier).unwrap_or(&function.latest).text("RevisionId"),
    }
}

/// A policy changes, and with it the revision of what it is for.
fn revise(function: &mut Function, qualifier: &str) {
    if let Some(alias) = function.aliases.get_mut(qualifier) {
        alias.revision = face::uuid();
        return;
    }
    let number = qualifier.parse().ok();
    let version = number.and_then(|number| function.versions.get_mut(&number));
    config::revise(&mut version.unwrap_or(&mut function.latest).config);
}

impl Op<'_> {
    /// A policy as a document.
    fn document(policy: &Policy) -> String {
        json!({ "Version": "2012-10-17", "Id": "default", "Statement": policy.statements }).to_string()
    }

    pub(crate) async fn add_permission(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        if self.name()?.1.as_deref() == Some(LATEST) {
            return Err(AwsError::invalid("We currently do not support adding policies for $LATEST."));
        }
        let Named { name, qualifier, mut at } = self.named().await?;
        let principal = self.text("Principal").unwrap_or_default();
        let statement = self.statement(&self.arn(&name, qualifier.as_deref()), principal)?;
        let qualifier = qualifier.unwrap_or_default();
        self.expect(revision(&at.value, &qualifier))?;
        let policy = at.value.policies.entry(qualifier.clone()).or_default();
        let id = self.text("StatementId").unwrap_or_default();
        if policy.statements.iter().any(|statement| statement["Sid"] == id) {
            return Err(AwsError::conflict(format!(
                "The statement id ({id}) provided already exists. Please provide a new statement id, or remove the existing \
                 statement."
            )));
        }
        policy.statements.push(statement.clone());
        revise(&mut at.value, &qualifier);
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
        let Named { at, qualifier, .. } = self.function().await?;
        let qualifier = qualifier.unwrap_or_default();
        let policy = at.value.policies.get(&qualifier);
        match policy.filter(|policy| !policy.statements.is_empty()) {
            Some(policy) => Ok(json!({
                "Policy": Self::document(policy), "RevisionId": revision(&at.value, &qualifier),
            })),
            None => Err(AwsError::not_found("The resource you requested does not exist.")),
        }
    }

    pub(crate) async fn remove_permission(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (name, qualifier) = self.name()?;
        if self.find(&name).await?.is_none() {
            let arn = self.arn(&name, qualifier.as_deref());
            return Err(AwsError::not_found(format!("No policy found for: {arn}")));
        }
        let Named { mut at, .. } = self.named().await?;
        let key = qualifier.unwrap_or_default();
        let now = revision(&at.value, &key).to_owned();
        let Some(policy) = at.value.policies.get_mut(&key).filter(|policy| !policy.statements.is_empty())
        else {
            return Err(AwsError::not_found("No policy is associated with the given resource."));
        };
        let id = self.text("StatementId").unwrap_or_default();
        let Some(index) = policy.statements.iter().position(|statement| statement["Sid"] == id) else {
            return Err(AwsError::not_found(format!("Statement {id} is not found in resource policy.")));
        };
        self.expect(&now)?;
        policy.statements.remove(index);
        if policy.statements.is_empty() {
            at.value.policies.remove(&key);
        }
        revise(&mut at.value, &key);
        self.put(&name, &at).await?;
        Ok(Value::Null)
    }
}
