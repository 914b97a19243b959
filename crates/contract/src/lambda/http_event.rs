//! An HTTP request as a Lambda function sees it: the event of a function URL, which is API Gateway's payload
//! format 2.0.
//!
//! Sources: AWS Lambda Developer Guide, "Invoking Lambda function URLs", "Request payload format"; API Gateway
//! Developer Guide, "Working with AWS Lambda proxy integrations for HTTP APIs".

use std::{collections::BTreeMap, net::IpAddr};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version, header};
use rouse_types::{FunctionName, InvocationId, TenantId, Timestamp};
use serde::Serialize;

use super::environment::ACCOUNT;

const DEFAULT: &str = "$default";

/// The request, and what the platform knows of it.
#[derive(Debug)]
pub struct Input<'a> {
    /// Whose function.
    pub tenant: &'a TenantId,
    /// The function.
    pub function: &'a FunctionName,
    /// Becomes `requestContext.requestId`.
    pub id: InvocationId,
    /// When the request was read.
    pub received: Timestamp,
    /// The caller's address.
    pub peer: Option<IpAddr>,
    /// The trace, as X-Ray writes it: becomes the header `x-amzn-trace-id`.
    pub trace: &'a str,
    /// The request's method.
    pub method: &'a Method,
    /// Its target: path and query.
    pub uri: &'a Uri,
    /// Its version.
    pub version: Version,
    /// Its headers, without those of the platform.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a Bytes,
    /// The function URL that it came to, if it came to one of AWS' Lambda API.
    pub url: Option<&'a Url>,
}

/// A function URL, and who called it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Its id, the first part of its host name.
    pub id: String,
    /// Its host name.
    pub domain: String,
    /// Who signed the request, where the URL asks for that.
    pub caller: Option<Caller>,
}

/// Who signed a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// The id of the key.
    pub access_key: String,
    /// The account that the key is of.
    pub account_id: String,
    /// Who has the key.
    pub caller_id: String,
    /// The same as an ARN.
    pub user_arn: String,
    /// The same again.
    pub user_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Iam<'a> {
    #[serde(flatten)]
    caller: &'a Caller,
    cognito_identity: Option<()>,
    principal_org_id: Option<()>,
}

#[derive(Debug, Serialize)]
struct Authorizer<'a> {
    iam: Iam<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'a str,
    route_key: &'a str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: String,
    route_key: &'a str,
    stage: &'a str,
    time: String,
    time_epoch: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: String,
    source_ip: String,
    user_agent: &'a str,
}

/// The event, as JSON.
#[must_use]
pub fn write(input: &Input<'_>) -> Bytes {
    let headers = input.headers;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = if input.uri.path().is_empty() { "/" } else { input.uri.path() };
    let (body, is_base64_encoded) = body(headers, input.body);
    let id = input.url.map_or(input.function.as_str(), |url| &url.id);
    let caller = input.url.and_then(|url| url.caller.as_ref());
    let context = Context {
        account_id: match (input.url, caller) {
            (None, _) => ACCOUNT,
            (Some(_), None) => "anonymous",
            (Some(_), Some(caller)) => &caller.account_id,
        },
        api_id: id,
        authorizer: caller
            .map(|caller| Authorizer { iam: Iam { caller, cognito_identity: None, principal_org_id: None } }),
        domain_name: input.url.map_or_else(|| text(header::HOST), |url| &url.domain),
        domain_prefix: id,
        http: Http {
            method: input.method.as_str(),
            path,
            protocol: format!("{:?}", input.version),
            source_ip: input.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            user_agent: text(header::USER_AGENT),
        },
        request_id: input.id.to_string(),
        route_key: DEFAULT,
        stage: DEFAULT,
        time: time(input.received),
        time_epoch: input.received.as_millis(),
    };
    let mut joined = join_headers(headers);
    joined.entry("x-amzn-trace-id").or_insert_with(|| input.trace.to_owned());
    let event = Event {
        version: "2.0",
        route_key: DEFAULT,
        raw_path: path,
        raw_query_string: input.uri.query().unwrap_or_default(),
        cookies: cookies(headers),
        headers: joined,
        query_string_parameters: parameters(input.uri.query().unwrap_or_default()),
        request_context: context,
        body,
        is_base64_encoded,
    };
    // Strings and numbers alone: there is nothing that JSON could not write.
    serde_json::to_vec(&event).unwrap_or_default().into()
}

/// Names in lower case, as `http` holds them; values of one name joined by commas; cookies have a place of their own.
fn join_headers(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        if *name == header::COOKIE {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        joined
            .entry(name.as_str())
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    joined
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::COOKIE).iter();
    let texts = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut cookies = Vec::new();
    for text in texts {
        cookies.extend(text.split(';').map(str::trim).filter(|cookie| !cookie.is_empty()).map(str::to_owned));
    }
    cookies
}

/// Query parameters, decoded; values of one name joined by commas.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        all.entry(decode(name))
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

/// Decodes `%XX` and `+` (WHATWG URL, application/x-www-form-urlencoded); what is malformed stays as it is.
fn decode(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => match (digit(bytes.get(at)), digit(bytes.get(at + 1))) {
                (Some(high), Some(low)) => {
                    decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    at += 2;
                }
                _ => decoded.push(b'%'),
            },
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The body as text if its content type says that it is text and it is; else in base64.
fn body(headers: &HeaderMap, body: &Bytes) -> (Option<String>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !encoded
        && content_type.is_some_and(is_text)
        && let Ok(text) = std::str::from_utf8(body)
    {
        return (Some(text.to_owned()), false);
    }
    (Some(base64::engine::general_purpose::STANDARD.encode(body)), true)
}

/// The content types that API Gateway passes on as text. A form is none of them.
fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["application/json", "application/javascript", "application/xml"].contains(&essence.as_str())
        || (essence.starts_with("application/") && (essence.ends_with("+json") || essence.ends_with("+xml")))
}

/// Common log format: `12/Mar/2020:19:03:58 +0000`.
fn time(at: Timestamp) -> String {
    let second = i64::try_from(at.as_millis() / 1_000).unwrap_or_default();
    let time = jiff::Timestamp::from_second(second).unwrap_or_default();
    time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(
        method: &str,
        uri: &str,
        headers: &[(&'static str, &'static str)],
        body: &'static [u8],
    ) -> Value {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        let written = write(&Input {
            tenant: &"acme".parse().expect("a tenant"),
            function: &"thumbnail".parse().expect("a function"),
            id: InvocationId::from_bytes([7; 16]),
            received: Timestamp::from_millis(1_583_348_638_390),
            peer: "192.0.2.1".parse().ok(),
            trace: "Root=1-a-b",
            method: &method.parse().expect("a method"),
            uri: &uri.parse().expect("a target"),
            version: Version::HTTP_11,
            headers: &map,
            body: &Bytes::from_static(body),
            url: None,
        });
        serde_json::from_slice(&written).expect("json")
    }

    #[test]
    fn a_function_url_says_who_called_it() {
        let (method, uri, headers) = (Method::GET, Uri::from_static("/"), HeaderMap::new());
        let context = |caller: Option<Caller>| {
            let url = Url { id: "abc".into(), domain: "abc.lambda-url.us-east-1.example".into(), caller };
            let written = write(&Input {
                tenant: &"acme".parse().expect("a tenant"),
                function: &"thumbnail".parse().expect("a function"),
                id: InvocationId::from_bytes([7; 16]),
                received: Timestamp::from_millis(0),
                peer: None,
                trace: "",
                method: &method,
                uri: &uri,
                version: Version::HTTP_11,
                headers: &headers,
                body: &Bytes::new(),
                url: Some(&url),
            });
            let event: Value = serde_json::from_slice(&written).expect("json");
            event["requestContext"].clone()
        };
        let anyone = context(None);
        assert_eq!((&anyone["accountId"], &anyone["apiId"]), (&json!("anonymous"), &json!("abc")));
        assert_eq!(anyone["domainName"], "abc.lambda-url.us-east-1.example");
        assert_eq!(anyone.get("authorizer"), None);
        let caller = Caller {
            access_key: "AKIA".into(),
            account_id: "000000000000".into(),
            caller_id: "u".into(),
            user_arn: "arn:aws:iam::000000000000:root".into(),
            user_id: "u".into(),
        };
        assert_eq!(
            context(Some(caller))["authorizer"]["iam"],
            json!({
                "accessKey": "AKIA", "accountId": "000000000000", "callerId": "u", "cognitoIdentity": null,
                "principalOrgId": null, "userArn": "arn:aws:iam::000000000000:root", "userId": "u",
            })
        );
    }

    #[test]
    fn a_request_has_the_shape_of_a_function_url() {
        let event = event(
            "POST",
            "/my/path%20x?parameter1=value1&parameter1=value2&parameter2=a+b%21",
            &[
                ("host", "thumbnail.acme.example"),
                ("Header1", "value1"),
                ("Header1", "value2"),
                ("cookie", "cookie1=a; cookie2=b"),
                ("user-agent", "agent"),
                ("content-type", "application/json; charset=utf-8"),
            ],
            b"{\"hello\":1}",
        );
        assert_eq!(
            event,
            json!({
                "version": "2.0",
                "routeKey": "$default",
                "rawPath": "/my/path%20x",
                "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=a+b%21",
                "cookies": ["cookie1=a", "cookie2=b"],
                "headers": {
                    "host": "thumbnail.acme.example",
                    "header1": "value1,value2",
                    "user-agent": "agent",
                    "content-type": "application/json; charset=utf-8",
                    "x-amzn-trace-id": "Root=1-a-b",
                },
                "queryStringParameters": { "parameter1": "value1,value2", "parameter2": "a b!" },
                "requestContext": {
                    "accountId": "000000000000",
                    "apiId": "thumbnail",
                    "domainName": "thumbnail.acme.example",
                    "domainPrefix": "thumbnail",
                    "http": {
                        "method": "POST",
                        "path": "/my/path%20x",
                        "protocol": "HTTP/1.1",
                        "sourceIp": "192.0.2.1",
                        "userAgent": "agent",
                    },
                    "requestId": "07070707-0707-0707-0707-070707070707",
                    "routeKey": "$default",
                    "stage": "$default",
                    "time": "04/Mar/2020:19:03:58 +0000",
                    "timeEpoch": 1_583_348_638_390_u64,
                },
                "body": "{\"hello\":1}",
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let event = event("GET", "/", &[], b"");
        for absent in ["cookies", "queryStringParameters", "body"] {
            assert_eq!(event.get(absent), None, "{absent}");
        }
        assert_eq!(event["isBase64Encoded"], false);
    }

    #[test]
    fn a_body_is_text_only_if_its_type_says_so_and_it_is() {
        for (content_type, body, encoded) in [
            ("text/plain", b"abc".as_slice(), false),
            ("application/problem+json", b"{}", false),
            ("application/x-www-form-urlencoded", b"a=b", true),
            ("image/png", b"abc", true),
            ("text/plain", b"\xff\xfe", true),
        ] {
            let event = event("POST", "/", &[("content-type", content_type)], body);
            assert_eq!(event["isBase64Encoded"], encoded, "{content_type}");
        }
        let zipped =
            event("POST", "/", &[("content-type", "text/plain"), ("content-encoding", "gzip")], b"x");
        assert_eq!(zipped["isBase64Encoded"], true);
    }

    #[test]
    fn the_crate_of_aws_users_reads_it() {
        let event = event(
            "GET",
            "/a?b=c",
            &[("host", "h"), ("cookie", "x=y"), ("content-type", "text/plain")],
            b"body",
        );
        let read: aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest =
            serde_json::from_value(event).expect("the crate reads it");
        assert_eq!(read.raw_path.as_deref(), Some("/a"));
        assert_eq!(read.cookies.as_deref(), Some(["x=y".to_owned()].as_slice()));
        assert_eq!(read.request_context.http.method.as_deref(), Some("GET"));
        assert_eq!(read.body.as_deref(), Some("body"));
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_decoded_without_a_panic(query in "\\PC{0,60}") {
            let _ = parameters(&query);
        }
    }
}
