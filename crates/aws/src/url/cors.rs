//! What a function URL says to pages of other origins, as its `Cors` has it. Pure.
//!
//! Sources: AWS Lambda API Reference, `Cors`; WHATWG Fetch, "HTTP CORS protocol".

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;

/// What stands for all.
const ALL: &str = "*";

/// A request that a browser sends ahead, to ask whether it may send another: answered without the function.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers of an answer; nothing for an origin that is not allowed, whose browser keeps the answer from the page.
pub(super) fn headers(cors: &Value, request: &HeaderMap, preflight: bool) -> HeaderMap {
    let mut told = HeaderMap::new();
    let list = |member: &str| -> Vec<&str> {
        cors[member].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let Some(origin) = request.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return told;
    };
    let origins = list("AllowOrigins");
    if !origins.iter().any(|allowed| matches(allowed, origin)) {
        return told;
    }
    let credentials = cors["AllowCredentials"] == true;
    let mut tell = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            told.insert(name, value);
        }
    };
    // With credentials a browser takes no `*` (Fetch, "CORS check").
    if origins.contains(&ALL) && !credentials {
        tell(header::ACCESS_CONTROL_ALLOW_ORIGIN, ALL);
    } else {
        tell(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        tell(header::VARY, "Origin");
    }
    if credentials {
        tell(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    let exposed = list("ExposeHeaders");
    if !exposed.is_empty() {
        tell(header::ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(","));
    }
    if preflight {
        for (member, name, asked) in [
            ("AllowMethods", header::ACCESS_CONTROL_ALLOW_METHODS, header::ACCESS_CONTROL_REQUEST_METHOD),
            ("AllowHeaders", header::ACCESS_CONTROL_ALLOW_HEADERS, header::ACCESS_CONTROL_REQUEST_HEADERS),
        ] {
            let allowed = list(member);
            let asked = request.get(asked).and_then(|asked| asked.to_str().ok());
            match asked {
                // What `*` means with credentials is said by naming it.
                Some(asked) if allowed.contains(&ALL) && credentials => tell(name, asked),
                _ if !allowed.is_empty() => tell(name, &allowed.join(",")),
                _ => {}
            }
        }
        if let Some(seconds) = cors["MaxAge"].as_u64() {
            tell(header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
    }
    told
}

/// Whether an origin is one that is allowed: the same, or `*`, also in place of a part: `https://*.example.com`.
fn matches(allowed: &str, origin: &str) -> bool {
    match allowed.split_once('*') {
        None => allowed.eq_ignore_ascii_case(origin),
        Some((before, after)) => {
            origin.len() >= before.len() + after.len()
                && origin.starts_with(before)
                && origin.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(
        cors: &Value,
        request: &[(&'static str, &'static str)],
        preflight: bool,
    ) -> Vec<(String, String)> {
        let mut headers_in = HeaderMap::new();
        for (name, value) in request {
            headers_in.insert(*name, HeaderValue::from_static(value));
        }
        let told = headers(cors, &headers_in, preflight);
        let mut all: Vec<_> = told
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("a text").to_owned()))
            .collect();
        all.sort();
        all
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_preflight_is_told_what_is_allowed() {
        let cors = json!({
            "AllowOrigins": ["https://a.example"], "AllowMethods": ["GET", "POST"], "AllowHeaders": ["x-a", "x-b"],
            "ExposeHeaders": ["x-c"], "MaxAge": 300, "AllowCredentials": true,
        });
        let asked = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
        assert_eq!(
            told(&cors, &asked, true),
            pairs(&[
                ("access-control-allow-credentials", "true"),
                ("access-control-allow-headers", "x-a,x-b"),
                ("access-control-allow-methods", "GET,POST"),
                ("access-control-allow-origin", "https://a.example"),
                ("access-control-expose-headers", "x-c"),
                ("access-control-max-age", "300"),
                ("vary", "Origin"),
            ])
        );
        let answered = told(&cors, &asked[..1], false);
        assert!(answered.iter().all(|(name, _)| !name.contains("max-age") && !name.contains("methods")));
    }

    #[test]
    fn an_origin_that_is_not_allowed_is_told_nothing() {
        let cors = json!({ "AllowOrigins": ["https://*.example"], "AllowMethods": ["*"] });
        for (origin, expected) in [
            ("https://a.example", true),
            ("https://a.example.evil", false),
            ("http://a.example", false),
            ("https://.exampl", false),
        ] {
            assert_eq!(!told(&cors, &[("origin", origin)], false).is_empty(), expected, "{origin}");
        }
        assert!(told(&cors, &[], true).is_empty(), "no origin");
        assert!(told(&json!({}), &[("origin", "https://a")], true).is_empty(), "no list");
    }

    #[test]
    fn all_is_named_where_credentials_are_sent() {
        let mut cors = json!({ "AllowOrigins": ["*"], "AllowHeaders": ["*"] });
        let asked = [("origin", "https://a"), ("access-control-request-headers", "x-y")];
        assert_eq!(
            told(&cors, &asked, true),
            pairs(&[("access-control-allow-headers", "*"), ("access-control-allow-origin", "*")])
        );
        cors["AllowCredentials"] = true.into();
        let named = told(&cors, &asked, true);
        assert!(named.contains(&("access-control-allow-origin".to_owned(), "https://a".to_owned())));
        assert!(named.contains(&("access-control-allow-headers".to_owned(), "x-y".to_owned())));
    }
}
