//! The vectors that AWS publishes (the SigV4 test suite, and the example of the General Reference), and how requests
//! that are not right are refused.

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30 12:36:00 UTC, the time of all vectors.
const NOW: i64 = 1_440_938_160;

struct Case {
    method: &'static str,
    path: &'static str,
    query: &'static str,
    service: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    signature: &'static str,
}

/// Each as in the suite, service `service`, but for the last, the example of the General Reference.
const CASES: [Case; 5] = [
    Case {
        method: "GET",
        path: "/",
        query: "",
        service: "service",
        headers: &[],
        body: "",
        signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    Case {
        method: "GET",
        path: "/",
        query: "Param2=value2&Param1=value1",
        service: "service",
        headers: &[],
        body: "",
        signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    },
    Case {
        method: "POST",
        path: "/",
        query: "",
        service: "service",
        headers: &[],
        body: "",
        signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    },
    Case {
        method: "POST",
        path: "/",
        query: "Param1=value1",
        service: "service",
        headers: &[],
        body: "",
        signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    },
    Case {
        method: "GET",
        path: "/",
        query: "Action=ListUsers&Version=2010-05-08",
        service: "iam",
        headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
        body: "",
        signature: "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    },
];

impl Case {
    fn headers(&self, signature: &str) -> HeaderMap {
        let host = if self.service == "iam" { "iam.amazonaws.com" } else { "example.amazonaws.com" };
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().expect("a header"));
        headers.insert("x-amz-date", "20150830T123600Z".parse().expect("a header"));
        for (name, value) in self.headers {
            headers.insert(*name, value.parse().expect("a header"));
        }
        let mut signed: Vec<&str> = ["host", "x-amz-date"].to_vec();
        signed.extend(self.headers.iter().map(|(name, _)| *name));
        signed.sort_unstable();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{}/aws4_request, SignedHeaders={}, \
             Signature={signature}",
            self.service,
            signed.join(";")
        );
        headers.insert("authorization", authorization.parse().expect("a header"));
        headers
    }

    fn check(&self, headers: &HeaderMap, now: i64) -> Result<Claim, AwsError> {
        let method = Method::from_bytes(self.method.as_bytes()).expect("a method");
        let request = Signed { method: &method, path: self.path, query: self.query, headers };
        let claim = claim(&request)?;
        verify(&claim, &request, self.body.as_bytes(), SECRET, now)?;
        Ok(claim)
    }
}

#[test]
fn the_published_vectors_are_proven() {
    for case in &CASES {
        let claim = case
            .check(&case.headers(case.signature), NOW)
            .unwrap_or_else(|e| panic!("{}: {e}", case.signature));
        assert_eq!((claim.key.as_str(), claim.region.as_str()), ("AKIDEXAMPLE", "us-east-1"));
        assert_eq!(claim.service, case.service);
    }
}

#[test]
fn a_request_that_was_changed_is_refused() {
    let case = &CASES[1];
    let headers = case.headers(case.signature);
    for (path, query, body) in [("/x", case.query, ""), ("/", "Param1=value1", ""), ("/", case.query, "body")]
    {
        let changed = Case { path, query, body, ..*case };
        assert_eq!(changed.check(&headers, NOW).expect_err(path).name, "InvalidSignatureException");
    }
    let other = CASES[0].headers(CASES[1].signature);
    assert!(
        CASES[0].check(&other, NOW).expect_err("another").message.starts_with("The request signature we")
    );
}

#[test]
fn a_signature_is_good_for_five_minutes_around_its_time() {
    let case = &CASES[0];
    let headers = case.headers(case.signature);
    for now in [NOW - 299, NOW + 299] {
        case.check(&headers, now).expect("it is still good");
    }
    let late = case.check(&headers, NOW + 301).expect_err("too late").message;
    assert_eq!(
        late,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    );
    assert!(case.check(&headers, NOW - 301).expect_err("too early").message.contains("not yet current"));
}

#[test]
fn what_is_not_signed_is_told_so() {
    let case = &CASES[0];
    let unsigned = case.check(&HeaderMap::new(), NOW).expect_err("unsigned");
    assert_eq!((unsigned.name, unsigned.status()), ("MissingAuthenticationTokenException", 403));
    for wrong in ["Bearer x", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0"] {
        let mut headers = case.headers(case.signature);
        headers.insert("authorization", wrong.parse().expect("a header"));
        assert_eq!(case.check(&headers, NOW).expect_err(wrong).name, "IncompleteSignatureException");
    }
}

/// Signs as a client does, by the code that checks.
fn presign(query: &str, now: i64, body_hash: Option<&str>) -> Result<(), AwsError> {
    let mut headers = HeaderMap::new();
    headers.insert("host", "localhost:4566".parse().expect("a header"));
    if let Some(hash) = body_hash {
        headers.insert("x-amz-content-sha256", hash.parse().expect("a header"));
    }
    let method = Method::GET;
    let unsigned = Signed { method: &method, path: "/a%3Ab", query, headers: &headers };
    let query = format!("{query}&X-Amz-Signature=00");
    let claim = super::claim(&Signed { query: &query, ..unsigned })?;
    let hash = body_hash.map_or_else(|| hex::encode(Sha256::digest(b"")), str::to_owned);
    let text = canonical(&claim, &unsigned, &hash);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{}/{}/{}/aws4_request\n{}",
        claim.time,
        claim.date,
        claim.region,
        claim.service,
        hex::encode(Sha256::digest(text.as_bytes()))
    );
    let signature = hex::encode(hmac::sign(&signing_key(SECRET, &claim), to_sign.as_bytes()));
    let query = query.replace("X-Amz-Signature=00", &format!("X-Amz-Signature={signature}"));
    let request = Signed { query: &query, ..unsigned };
    verify(&super::claim(&request)?, &request, b"", SECRET, now)
}

#[test]
fn a_presigned_request_is_good_until_it_expires() {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Flambda%2Faws4_request\
                 &X-Amz-Date=20150830T123600Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&x=a+b";
    presign(query, NOW + 3_599, None).expect("it is still good");
    presign(query, NOW, Some("UNSIGNED-PAYLOAD")).expect("a body that is not signed");
    assert!(
        presign(query, NOW + 3_601, None).expect_err("too late").message.starts_with("Signature expired")
    );
    let endless = query.replace("3600", "604801");
    assert_eq!(presign(&endless, NOW, None).expect_err("too long").name, "IncompleteSignatureException");
}
