//! Signature Version 4, from the server's side: what a request says of who signed it, and whether that is true.
//! Pure: time and keys are arguments.
//!
//! Source: AWS General Reference, "Signature Version 4 signing process" (canonical request, string to sign,
//! signature), and IAM User Guide, "Create a signed AWS API request".

use http::{HeaderMap, Method, header};
use ring::hmac;
use rouse_api::percent::encode;
use sha2::{Digest as _, Sha256};

use crate::{error::AwsError, query};

/// How far a signature's time may be from ours, in seconds: what AWS allows.
const SKEW_MAX: i64 = 300;
/// How long a presigned request may be good for, in seconds: a week.
const EXPIRES_MAX: i64 = 7 * 24 * 3_600;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A body that was not hashed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What a request says of its signature. Nothing of it is proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The id of the key.
    pub(crate) key: String,
    /// `20150830`.
    date: String,
    /// The region, which the names of resources take over.
    pub(crate) region: String,
    /// The service that it is signed for.
    pub(crate) service: String,
    signed_headers: Vec<String>,
    signature: String,
    /// `20150830T123600Z`.
    time: String,
    /// Seconds that a presigned request is good for.
    expires: Option<i64>,
}

/// A request, as far as it is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a Method,
    /// As it came.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

fn incomplete(what: impl Into<String>) -> AwsError {
    AwsError::new("IncompleteSignatureException", what)
}

/// Reads who a request says has signed it: the header `Authorization`, else a presigned query.
///
/// # Errors
/// It is not signed, or not in a form that is known.
pub(crate) fn claim(request: &Signed<'_>) -> Result<Claim, AwsError> {
    if let Some(authorization) = request.headers.get(header::AUTHORIZATION) {
        let text = authorization.to_str().map_err(|_| incomplete("The Authorization header is no text."))?;
        return by_header(text, request.headers);
    }
    let query = query::pairs(request.query);
    if query.iter().any(|(name, value)| name == "X-Amz-Algorithm" && value == ALGORITHM) {
        return by_query(&query);
    }
    Err(AwsError::new("MissingAuthenticationTokenException", "Missing Authentication Token"))
}

fn by_header(text: &str, headers: &HeaderMap) -> Result<Claim, AwsError> {
    let rest = text
        .strip_prefix(ALGORITHM)
        .ok_or_else(|| incomplete(format!("The Authorization header does not begin with '{ALGORITHM}'.")))?;
    let part = |name: &str| -> Result<String, AwsError> {
        let parts = rest.split(',').filter_map(|part| part.trim().split_once('='));
        let mut named = parts.filter(|(found, _)| *found == name);
        named.next().map(|(_, value)| value.to_owned()).ok_or_else(|| {
            incomplete(format!("Authorization header requires '{name}' parameter. Authorization={ALGORITHM}"))
        })
    };
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let time = headers.get("x-amz-date").or_else(|| headers.get(header::DATE));
    let time = time.and_then(|time| time.to_str().ok()).ok_or_else(|| {
        incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    })?;
    assemble(&credential, &signed, signature, time.to_owned(), None)
}

fn by_query(query: &[(String, String)]) -> Result<Claim, AwsError> {
    let get = |name: &str| {
        let found = query.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        found.ok_or_else(|| incomplete(format!("AWS query-string parameters must include '{name}'.")))
    };
    let expires = get("X-Amz-Expires")?.parse().ok().filter(|seconds| (0..=EXPIRES_MAX).contains(seconds));
    let expires = expires.ok_or_else(|| incomplete("X-Amz-Expires must be between 0 and 604800 seconds."))?;
    assemble(
        &get("X-Amz-Credential")?,
        &get("X-Amz-SignedHeaders")?,
        get("X-Amz-Signature")?,
        get("X-Amz-Date")?,
        Some(expires),
    )
}

fn assemble(
    credential: &str,
    signed: &str,
    signature: String,
    time: String,
    expires: Option<i64>,
) -> Result<Claim, AwsError> {
    let parts: Vec<&str> = credential.rsplitn(5, '/').collect();
    let [terminator, service, region, date, key] = parts.as_slice() else {
        return Err(incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
        ));
    };
    if *terminator != "aws4_request" {
        return Err(incomplete("Credential should be scoped with a valid terminator: 'aws4_request'."));
    }
    // Both go into the names of resources.
    let plain = |text: &str| {
        (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !plain(region) || !plain(service) {
        return Err(incomplete("Credential should be scoped to a valid region and service."));
    }
    Ok(Claim {
        key: (*key).to_owned(),
        date: (*date).to_owned(),
        region: (*region).to_owned(),
        service: (*service).to_owned(),
        signed_headers: signed.split(';').map(str::to_ascii_lowercase).collect(),
        signature,
        time,
        expires,
    })
}

/// Proves a claim: the signature is that of the key's secret, over this request with this body, at about `now`
/// (seconds since the epoch).
///
/// # Errors
/// It is not, or not any more.
pub(crate) fn verify(
    claim: &Claim,
    request: &Signed<'_>,
    body: &[u8],
    secret: &str,
    now: i64,
) -> Result<(), AwsError> {
    let invalid = |what: String| AwsError::new("InvalidSignatureException", what);
    let signed_at = epoch(&claim.time)
        .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format', such as 20150830T123600Z."))?;
    let stamp = |seconds: i64| {
        jiff::Timestamp::from_second(seconds)
            .map_or_else(|_| String::new(), |time| time.strftime("%Y%m%dT%H%M%SZ").to_string())
    };
    if !claim.time.starts_with(&claim.date) {
        return Err(invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}'",
            claim.date,
            claim.time.get(..8).unwrap_or_default()
        )));
    }
    let good_for = claim.expires.unwrap_or(SKEW_MAX);
    if signed_at + good_for < now {
        return Err(invalid(format!(
            "Signature expired: {} is now earlier than {} ({} - {} min.)",
            claim.time,
            stamp(now - good_for),
            stamp(now),
            good_for / 60
        )));
    }
    if signed_at - SKEW_MAX > now {
        return Err(invalid(format!(
            "Signature not yet current: {} is still later than {} ({} + {} min.)",
            claim.time,
            stamp(now + SKEW_MAX),
            stamp(now),
            SKEW_MAX / 60
        )));
    }
    let host_signed = claim.signed_headers.iter().any(|name| name == "host");
    let said = request.headers.get("x-amz-content-sha256").and_then(|hash| hash.to_str().ok());
    let hash = match said {
        Some(UNSIGNED) => UNSIGNED.to_owned(),
        // What the client says of the body is believed only when it is true.
        Some(said) if said != hex::encode(Sha256::digest(body)) => {
            return Err(invalid(
                "The provided 'x-amz-content-sha256' header does not match what was computed.".to_owned(),
            ));
        }
        _ => hex::encode(Sha256::digest(body)),
    };
    let canonical = canonical(claim, request, &hash);
    let scope = format!("{}/{}/{}/aws4_request", claim.date, claim.region, claim.service);
    let to_sign = format!(
        "{ALGORITHM}\n{}\n{scope}\n{}",
        claim.time,
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    let key = signing_key(secret, claim);
    // In constant time.
    let given = hex::decode(&claim.signature).unwrap_or_default();
    if !host_signed || hmac::verify(&key, to_sign.as_bytes(), &given).is_err() {
        return Err(invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details."
                .to_owned(),
        ));
    }
    Ok(())
}

fn signing_key(secret: &str, claim: &Claim) -> hmac::Key {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let mut last = key(format!("AWS4{secret}").as_bytes());
    for part in [&claim.date, &claim.region, &claim.service, "aws4_request"] {
        last = key(hmac::sign(&last, part.as_bytes()).as_ref());
    }
    last
}

/// The canonical request.
fn canonical(claim: &Claim, request: &Signed<'_>, hash: &str) -> String {
    // What was encoded is encoded again. S3 alone takes the path as it is, and checks its signatures itself.
    let path = normal(request.path).split('/').map(encode).collect::<Vec<_>>().join("/");
    let mut pairs: Vec<(String, String)> = query::pairs(&request.query.replace('+', "%20"))
        .into_iter()
        .filter(|(name, _)| claim.expires.is_none() || name != "X-Amz-Signature")
        .map(|(name, value)| (encode(&name), encode(&value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = String::new();
    for name in &claim.signed_headers {
        let values = request.headers.get_all(name.as_str()).iter();
        let values: Vec<String> = values
            .map(|value| {
                String::from_utf8_lossy(value.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    format!(
        "{}\n{path}\n{}\n{headers}\n{}\n{hash}",
        request.method,
        pairs.join("&"),
        claim.signed_headers.join(";")
    )
}

/// A path without empty, `.` and `..` segments (RFC 3986 §6.2.2.3).
fn normal(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// `20150830T123600Z` as seconds since the epoch; also the form of the header `Date`.
fn epoch(text: &str) -> Option<i64> {
    let basic = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok();
    let seconds = |time: jiff::civil::DateTime| {
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
    };
    basic.and_then(seconds).or_else(|| {
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(date.timestamp().as_second())
    })
}

#[cfg(test)]
mod tests;
