//! Security Token Service: who is calling.

use http::{Response, StatusCode};

use crate::{
    Body,
    face::{self, Around},
    server,
};

/// Answers one request in form encoding.
pub(crate) fn answer(around: &Around, key: &str, form: &[(String, String)]) -> Response<Body> {
    let get =
        |name: &str| form.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str());
    let scope = &around.scope;
    let result = match get("Action") {
        "GetCallerIdentity" => format!(
            "<Arn>{}</Arn><UserId>{key}</UserId><Account>{}</Account>",
            escape(&scope.user()),
            scope.account
        ),
        "AssumeRole" => {
            let (role, session) = (get("RoleArn"), get("RoleSessionName"));
            let name = role.rsplit('/').next().unwrap_or_default();
            // The caller's own key goes on: roles part nobody here. Its secret is nothing that we would send.
            return error(
                "AccessDenied",
                &format!(
                    "Rouse has no temporary credentials: call as {} without assuming {name} for {session}",
                    scope.user()
                ),
                StatusCode::FORBIDDEN,
            );
        }
        other => {
            let text = format!("Could not find operation {other} for version 2011-06-15");
            return error("InvalidAction", &text, StatusCode::BAD_REQUEST);
        }
    };
    xml(get("Action"), &result, "https://sts.amazonaws.com/doc/2011-06-15/")
}

/// An answer in the form of the query protocol.
pub(crate) fn xml(action: &str, result: &str, namespace: &str) -> Response<Body> {
    let id = face::uuid();
    let text = format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
    );
    server::answer(StatusCode::OK, "text/xml", text)
}

/// An error in the form of the query protocol.
pub(crate) fn error(code: &str, message: &str, status: StatusCode) -> Response<Body> {
    let text = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error>\
         <RequestId>{}</RequestId></ErrorResponse>",
        escape(message),
        face::uuid()
    );
    server::answer(status, "text/xml", text)
}

/// A text as XML has it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
