//! Webhooks: which requests are some, what they are signed with, and what filters see of them.

use std::{borrow::Cow, collections::BTreeMap};

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use rouse_types::{
    Trigger,
    trigger::{On, WebhookSource},
};
use serde_json::{Value, json};

use crate::signature::{Error, Verifier};

/// The webhook that takes requests to this path below the function's address, if one of the triggers does.
///
/// Servers differ in what they take for the same path, so everything that some server might is: whatever is
/// percent-encoded, in another case, with empty, `.` and `..` segments, parameters behind `;`, a slash at the end. Else a
/// request that nobody signed could reach the code by another spelling.
#[must_use]
pub fn find<'a>(triggers: &'a [Trigger], path: &str) -> Option<(&'a Trigger, &'a WebhookSource)> {
    let mut webhooks = triggers.iter().filter_map(|trigger| match &trigger.on {
        On::Webhook(source) => Some((trigger, source)),
        _ => None,
    });
    let first = webhooks.next()?;
    let asked = segments(path);
    std::iter::once(first).chain(webhooks).find(|(_, source)| segments(&source.path) == asked)
}

fn segments(path: &str) -> Vec<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy().replace('\\', "/").to_ascii_lowercase();
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            plain => segments.push(plain.to_owned()),
        }
    }
    segments
}

/// Why a webhook's requests cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoVerifier {
    /// A secret stands in a variable that the function does not have.
    #[error("its secret env:{0} is not among the function's environment variables")]
    Variable(String),
    /// See there.
    #[error(transparent)]
    Signature(#[from] Error),
}

/// What checks the requests of a webhook; `env` is its function's environment.
///
/// # Errors
/// A secret is missing, or not of the signer's form.
pub fn verifier(source: &WebhookSource, env: &BTreeMap<String, String>) -> Result<Verifier, NoVerifier> {
    let secrets = source.secrets.iter().map(|secret| match secret.strip_prefix("env:") {
        None => Ok(secret.as_str()),
        Some(name) => env.get(name).map(String::as_str).ok_or_else(|| NoVerifier::Variable(name.to_owned())),
    });
    let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
    Ok(Verifier::of(source, &secrets)?)
}

/// A request as filters see it: `method`, `path`, `query`, `headers` by their names in lower case, and `body`, which is
/// JSON where it is some, else text.
#[must_use]
pub fn as_json(method: &str, path: &str, query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Value {
    let text = |name: &http::HeaderName| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<Cow<'_, str>>>().join(", ")
    };
    let headers: BTreeMap<&str, String> = headers.keys().map(|name| (name.as_str(), text(name))).collect();
    let body: Value = serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
    json!({ "method": method, "path": path, "query": query, "headers": headers, "body": body })
}

#[cfg(test)]
mod tests {
    use rouse_types::trigger::Signer;

    use super::*;

    fn source(path: &str, secret: &str) -> WebhookSource {
        let (path, secrets) = (path.to_owned(), vec![secret.to_owned()]);
        WebhookSource { path, signer: Signer::Github, secrets, tolerance_ms: 1 }
    }

    #[test]
    fn no_spelling_of_its_path_leads_past_a_webhook() {
        let on = On::Webhook(source("/hooks/github", "s"));
        let triggers = [Trigger { name: "push".to_owned(), on, filter: None }];
        for path in [
            "/hooks/github",
            "/hooks/github/",
            "//hooks///github",
            "/hooks/%67ithub",
            "/hooks%2Fgithub",
            "/Hooks/GitHub",
            "/hooks/./github",
            "/a/../hooks/github",
            "/hooks;v=1/github;x",
            "\\hooks\\github",
            "hooks/github",
        ] {
            assert!(find(&triggers, path).is_some(), "{path}");
        }
        for path in ["", "/", "/hooks", "/hooks/github/x", "/hooks/gitlab"] {
            assert!(find(&triggers, path).is_none(), "{path}");
        }
        assert!(find(&[], "/hooks/github").is_none());
        let root = [Trigger { name: "r".to_owned(), on: On::Webhook(source("", "s")), filter: None }];
        assert!(find(&root, "/").is_some() && find(&root, "").is_some() && find(&root, "/x").is_none());
    }

    #[test]
    fn secrets_come_from_the_functions_own_environment() {
        let env = BTreeMap::from([("SECRET".to_owned(), "s3cret".to_owned())]);
        assert!(verifier(&source("/", "env:SECRET"), &env).is_ok());
        let missing = verifier(&source("/", "env:OTHER"), &env).expect_err("it is not there");
        assert_eq!(missing, NoVerifier::Variable("OTHER".to_owned()));
        let empty = BTreeMap::from([("SECRET".to_owned(), String::new())]);
        assert_eq!(
            verifier(&source("/", "env:SECRET"), &empty).expect_err("empty"),
            NoVerifier::Signature(Error::Empty)
        );
    }

    #[test]
    fn a_filter_sees_headers_and_the_body() {
        let mut headers = HeaderMap::new();
        headers.insert("x-github-event", "push".parse().expect("a value"));
        let seen = as_json("POST", "/hooks", Some("a=1"), &headers, br#"{"ref":"main"}"#);
        assert_eq!(seen["headers"]["x-github-event"], "push");
        assert_eq!((&seen["body"]["ref"], &seen["query"]), (&"main".into(), &"a=1".into()));
        assert_eq!(as_json("POST", "/", None, &headers, b"a=1")["body"], "a=1");
    }
}
