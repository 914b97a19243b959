//! What the key of a function may do: work with what the tenant keeps and call its functions, but not change, read or delete
//! functions. Code that went wrong, or was made to, is not to become somebody who deploys.

use http::Method;
use rouse_store::access_keys::{FunctionKeys, sessions};

use crate::error::AwsError;

/// Refuses what is not for a function's key. Keys that people made may do everything.
///
/// # Errors
/// It is a function's, and this is not for it.
pub(crate) fn check(key: &str, service: &str, method: &Method, path: &str) -> Result<(), AwsError> {
    let calls = method == Method::POST
        && ["/invocations", "/response-streaming-invocations", "/invoke-async"]
            .iter()
            .any(|end| path.trim_end_matches('/').ends_with(end));
    let may = match service {
        "lambda" => calls,
        "iam" | "logs" => false,
        _ => true,
    };
    // What a function is told by AssumeRole is no more than it is.
    if may || !FunctionKeys::is_one(sessions::root(key)) {
        return Ok(());
    }
    Err(AwsError::new(
        "AccessDeniedException",
        format!(
            "{key} is the key of a function, which may call functions and use what the tenant keeps, but of {service} nothing \
             else: set a key of `rouse access-key create` in the function's own environment"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_key_calls_functions_and_changes_none() {
        let own = "ROUSE_default_app_function";
        let path = "/2015-03-31/functions";
        for (method, path) in [
            (Method::POST, format!("{path}/other/invocations")),
            (Method::POST, "/2021-11-15/functions/other/response-streaming-invocations".to_owned()),
        ] {
            assert_eq!(check(own, "lambda", &method, &path), Ok(()), "{path}");
        }
        for (method, path) in [
            (Method::POST, path.to_owned()),
            (Method::GET, format!("{path}/other")),
            (Method::DELETE, format!("{path}/other")),
            (Method::PUT, format!("{path}/other/code")),
        ] {
            let error = check(own, "lambda", &method, &path).expect_err(&path);
            assert_eq!(error.name, "AccessDeniedException");
            assert_eq!(check("AKIAPERSON", "lambda", &method, &path), Ok(()), "{path}");
        }
        assert!(
            check(own, "logs", &Method::POST, "/").is_err() && check(own, "iam", &Method::POST, "/").is_err()
        );
        assert_eq!(check(own, "sts", &Method::POST, "/"), Ok(()));
        let session = format!("ASIA69214C809f86d081884c7d65_{own}");
        assert!(check(&session, "logs", &Method::POST, "/").is_err());
    }
}
