//! What AWS' clients change is told to the audit log of their tenant, which control keeps: begun before it is done, and ended after,
//! whether or not the client waits for it. Without control nothing is changed; calls and messages go on.

use std::{collections::BTreeMap, net::IpAddr};

use http::Response;
use rouse_api::actions::{Begin, How};
use serde_json::Value;

use crate::{Body, access::Operation, error::AwsError, face::Face, names::Scope};

/// Who asks for what, before it is done.
pub(crate) fn begins(
    scope: &Scope,
    key: &str,
    peer: IpAddr,
    operation: Operation<'_>,
    of: Option<String>,
) -> Begin {
    let from = if peer.is_unspecified() { "a function".to_owned() } else { peer.to_canonical().to_string() };
    Begin {
        tenant: scope.tenant.clone(),
        who: format!("access key {key}"),
        from,
        operation: format!("{}:{}", operation.service, operation.name),
        of: of.map(|name| BTreeMap::from([("name".to_owned(), name)])).unwrap_or_default(),
    }
}

/// What an operation is about: the name of a function, a queue, a role or a bucket. Nothing where it names none.
pub(crate) fn about(service: &str, path: &str, payload: &[u8], form: &[(String, String)]) -> Option<String> {
    let of_path = |skip: usize| {
        let segment = path.split('/').filter(|segment| !segment.is_empty()).nth(skip)?;
        rouse_api::percent::decode(segment)
    };
    let json = || serde_json::from_slice::<Value>(payload).ok();
    let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
    match service {
        // `/<date>/functions/<name>/…`
        "lambda" => of_path(2).or_else(|| json().and_then(|body| text(&body, "FunctionName"))),
        "sqs" => {
            let body = json()?;
            let of_url = || text(&body, "QueueUrl")?.rsplit('/').next().map(str::to_owned);
            text(&body, "QueueName").or_else(of_url)
        }
        "iam" => form.iter().find(|(name, _)| name == "RoleName").map(|(_, value)| value.clone()),
        _ => of_path(0),
    }
}

/// How an action ended that was answered so.
pub(crate) fn ended(answered: &Result<Response<Body>, AwsError>) -> How {
    match answered {
        Ok(response) => How::of(response.status()),
        Err(error) if error.status() >= 500 => How::Failed,
        Err(_) => How::Refused,
    }
}

impl Face {
    /// Writes down that an action begins. What is given is for [`Face::end_action`].
    ///
    /// # Errors
    /// Control is away, so that nothing may be changed.
    pub(crate) async fn begin_action(&self, begin: &Begin) -> Result<String, AwsError> {
        self.platform.begin_action(begin).await.map_err(|refusal| {
            tracing::warn!(%refusal, operation = begin.operation, "an action cannot be written down, and is not done");
            let mut error = AwsError::service(
                "The process that keeps the audit log is not there at the moment, so nothing is changed: try again",
            );
            error.retry_after = Some(1);
            error
        })
    }

    /// Writes down what came of it. What cannot be is in the log as unknown after control's next start.
    pub(crate) async fn end_action(&self, key: String, how: How) {
        if let Err(refusal) = self.platform.end_action(key, how).await {
            tracing::error!(%refusal, "what came of an action is not in the audit log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_action_is_about_is_read_from_where_each_service_has_it() {
        let of = |service: &str, path: &str, payload: &str| about(service, path, payload.as_bytes(), &[]);
        assert_eq!(of("lambda", "/2015-03-31/functions/f/code", "{}").as_deref(), Some("f"));
        assert_eq!(of("lambda", "/2015-03-31/functions", r#"{"FunctionName":"g"}"#).as_deref(), Some("g"));
        assert_eq!(of("sqs", "/", r#"{"QueueName":"q"}"#).as_deref(), Some("q"));
        assert_eq!(of("sqs", "/", r#"{"QueueUrl":"http://h/000/q.fifo"}"#).as_deref(), Some("q.fifo"));
        assert_eq!(of("sqs", "/", "no json"), None);
        assert_eq!(of("s3", "/pictures", "").as_deref(), Some("pictures"));
        let form = [("RoleName".to_owned(), "r".to_owned())];
        assert_eq!(about("iam", "/", b"", &form).as_deref(), Some("r"));
    }
}
