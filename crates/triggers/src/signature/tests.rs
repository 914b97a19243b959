//! Signatures that the senders publish, and such as Python makes by the senders' own recipes.

use std::{collections::BTreeMap, io::Write as _, process, time::Duration};

use rouse_types::{
    Timestamp,
    trigger::{HmacHeader, Signer, WebhookSource},
};

use super::*;

fn verify(
    scheme: Scheme,
    secrets: &[&str],
    headers: &[(&str, &str)],
    body: &[u8],
    now_s: u64,
) -> Result<Verified, Rejected> {
    let verifier = Verifier::new(scheme, secrets).expect("a verifier");
    let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    verifier.verify(header, body, Timestamp(now_s * 1_000_000))
}

const GITHUB: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

#[test]
fn githubs_published_signature_is_taken() {
    let headers = [("x-hub-signature-256", GITHUB), ("x-github-delivery", "72d3162e")];
    let verified = verify(Scheme::GitHub, &["It's a Secret to Everybody"], &headers, b"Hello, World!", 0);
    assert_eq!(verified, Ok(Verified { id: "72d3162e".to_owned(), secret: 0 }));
}

#[test]
fn standard_webhooks_published_signature_is_taken_under_both_names() {
    let body = br#"{"test": 2432232314}"#;
    for prefix in ["webhook", "svix"] {
        let names = ["id", "timestamp", "signature"].map(|part| format!("{prefix}-{part}"));
        let headers = [
            (names[0].as_str(), "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            (names[1].as_str(), "1614265330"),
            (names[2].as_str(), "v1a,AAAA v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let taken = verify(Scheme::StandardWebhooks, &[secret], &headers, body, 1_614_265_630);
        assert_eq!(taken.map(|verified| verified.id), Ok("msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()));
        let late = verify(Scheme::StandardWebhooks, &[secret], &headers, body, 1_614_265_631);
        assert_eq!(late, Err(Rejected::Old(Duration::from_secs(301))));
        let early = verify(Scheme::StandardWebhooks, &[secret], &headers, body, 1_614_265_029);
        assert_eq!(early, Err(Rejected::Future(Duration::from_secs(301))));
    }
}

#[test]
fn slacks_published_signature_is_taken() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=\
        https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=\
        398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = [
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("x-slack-request-timestamp", "1531420618"),
    ];
    let secret = "8f742231b10e8888abcd99yyyzzz85a5";
    let taken = verify(Scheme::Slack, &[secret], &headers, body.as_bytes(), 1_531_420_618).expect("taken");
    // A command has no event_id: its bytes and its time are its id.
    assert_eq!(taken.id.len(), 64);
}

#[test]
fn a_request_is_taken_under_the_old_and_the_new_secret() {
    let headers = [("x-hub-signature-256", GITHUB)];
    let taken = verify(Scheme::GitHub, &["new", "It's a Secret to Everybody"], &headers, b"Hello, World!", 0);
    assert_eq!(taken.map(|verified| verified.secret), Ok(1));
    let gone = verify(Scheme::GitHub, &["new"], &headers, b"Hello, World!", 0);
    assert_eq!(gone, Err(Rejected::Wrong));
}

#[test]
fn what_is_not_signed_as_it_should_be_is_refused() {
    let is = |scheme: Scheme, headers: &[(&str, &str)]| {
        verify(scheme, &["c2VjcmV0"], headers, b"{}", 1_000).expect_err("refused").to_string()
    };
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Scheme, Headers<'_>, &str)] = &[
        (Scheme::GitHub, &[], "x-hub-signature-256 is missing"),
        (Scheme::GitHub, &[("x-hub-signature-256", "sha1=00")], "prefix"),
        (Scheme::GitHub, &[("x-hub-signature-256", "sha256=xy")], "not encoded"),
        (Scheme::GitHub, &[("x-hub-signature-256", "sha256=")], "wrong"),
        (Scheme::GitHub, &[("x-hub-signature-256", GITHUB)], "wrong"),
        (Scheme::GitLab, &[], "x-gitlab-token is missing"),
        (Scheme::GitLab, &[("x-gitlab-token", "c2VjcmV")], "wrong"),
        (Scheme::Stripe, &[("stripe-signature", "t=1000,v0=00")], "no v1="),
        (Scheme::Stripe, &[("stripe-signature", "v1=00")], "seconds since 1970"),
        (Scheme::Stripe, &[("stripe-signature", "t=+1000,v1=00")], "seconds since 1970"),
        (Scheme::Stripe, &[("stripe-signature", "t=1000,v1=00")], "wrong"),
        (Scheme::StandardWebhooks, &[], "webhook-signature is missing"),
        (Scheme::StandardWebhooks, &[("webhook-signature", "v1,")], "webhook-id is missing"),
        (Scheme::Slack, &[("x-slack-signature", "v0=00")], "x-slack-request-timestamp is missing"),
    ];
    for (scheme, headers, says) in cases {
        let error = is(scheme.clone(), headers);
        assert!(error.contains(says), "{scheme:?} {headers:?}: {error}");
    }
}

#[test]
fn a_verifier_needs_secrets_of_its_schemes_form_and_never_shows_them() {
    let made =
        |scheme, secrets: &[&str]| Verifier::new(scheme, secrets).map(|verifier| format!("{verifier:?}"));
    assert_eq!(made(Scheme::GitHub, &[]), Err(Error::Secrets(0)));
    assert_eq!(made(Scheme::GitHub, &["x"; 9]), Err(Error::Secrets(9)));
    assert_eq!(made(Scheme::GitLab, &[""]), Err(Error::Empty));
    assert_eq!(made(Scheme::StandardWebhooks, &["whsec_"]), Err(Error::Empty));
    assert_eq!(made(Scheme::StandardWebhooks, &["whsec_?"]), Err(Error::NotBase64));
    let own = Own { header: "X-Sign".to_owned(), ..own(Algorithm::Sha1, Encoding::Hex) };
    assert_eq!(made(Scheme::Own(own), &["x"]), Err(Error::Header("X-Sign".to_owned())));
    assert!(!made(Scheme::GitHub, &["hunter2"]).expect("a verifier").contains("hunter2"));
}

#[test]
fn a_triggers_verifier_is_of_its_signer_and_tolerance() {
    let hmac = HmacHeader {
        header: "X-Hub-Signature-256".to_owned(),
        algorithm: "sha256".to_owned(),
        encoding: "hex".to_owned(),
        prefix: "sha256=".to_owned(),
        id_header: None,
    };
    let webhook = |signer, tolerance_ms| WebhookSource {
        path: "/hook".to_owned(),
        signer,
        secrets: vec![],
        tolerance_ms,
    };
    let made = Verifier::of(&webhook(Signer::Hmac(hmac.clone()), 1_000), &["It's a Secret to Everybody"]);
    let header = |name: &str| (name == "x-hub-signature-256").then_some(GITHUB);
    assert!(made.expect("a verifier").verify(header, b"Hello, World!", Timestamp(0)).is_ok());
    let unknown =
        Verifier::of(&webhook(Signer::Hmac(HmacHeader { algorithm: "md5".to_owned(), ..hmac }), 0), &["x"]);
    assert!(matches!(unknown, Err(Error::Form(form)) if form == "md5"));
    let none: [&str; 0] = [];
    assert!(matches!(Verifier::of(&webhook(Signer::Slack, 0), &none), Err(Error::Secrets(0))));
}

fn own(algorithm: Algorithm, encoding: Encoding) -> Own {
    let (header, prefix) = ("x-sign".to_owned(), "is:".to_owned());
    Own { header, algorithm, encoding, prefix, id_header: Some("x-id".to_owned()) }
}

/// Signs as the senders' documentation says, with nothing of ours: prints `scheme TAB header TAB value`.
const SENDERS: &str = r#"
import base64, hmac, sys
secret, body = b"c2VjcmV0IGtleQ==", sys.stdin.buffer.read()
key = base64.b64decode(secret)
t = b"1700000000"
sign = lambda key, text, how="sha256": hmac.new(key, text, how)
def say(scheme, header, value): print(scheme, header, value, sep="\t")
say("github", "x-hub-signature-256", "sha256=" + sign(secret, body).hexdigest())
say("github", "x-github-delivery", "id-1")
say("gitlab", "x-gitlab-token", secret.decode())
say("gitlab", "idempotency-key", "id-1")
say("stripe", "stripe-signature", f"t={t.decode()},v1={'0' * 64},v1={sign(secret, t + b'.' + body).hexdigest()},v0=1")
signature = base64.b64encode(sign(key, b"id-1." + t + b"." + body).digest()).decode()
say("standard", "webhook-signature", "v1," + signature)
say("standard", "webhook-id", "id-1")
say("standard", "webhook-timestamp", t.decode())
say("slack", "x-slack-signature", "v0=" + sign(secret, b"v0:" + t + b":" + body).hexdigest())
say("slack", "x-slack-request-timestamp", t.decode())
for how in ["sha1", "sha256", "sha512"]:
    say(how + "-hex", "x-sign", "is:" + sign(secret, body, how).hexdigest().upper())
    say(how + "-base64", "x-sign", "is:" + base64.b64encode(sign(secret, body, how).digest()).decode())
    for form in ["-hex", "-base64"]: say(how + form, "x-id", "id-1")
"#;

#[test]
fn what_senders_sign_is_taken_and_what_was_changed_is_not() {
    let mut schemes = vec![
        ("github".to_owned(), Scheme::GitHub),
        ("gitlab".to_owned(), Scheme::GitLab),
        ("stripe".to_owned(), Scheme::Stripe),
        ("standard".to_owned(), Scheme::StandardWebhooks),
        ("slack".to_owned(), Scheme::Slack),
    ];
    for (name, algorithm) in
        [("sha1", Algorithm::Sha1), ("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)]
    {
        for (form, encoding) in [("hex", Encoding::Hex), ("base64", Encoding::Base64)] {
            schemes.push((format!("{name}-{form}"), Scheme::Own(own(algorithm, encoding))));
        }
    }
    let all_bytes: Vec<u8> = (0..=255).collect();
    let json = br#"{"id": "id-1", "event_id": "id-1"}"#.as_slice();
    for body in [json, b"".as_slice(), all_bytes.as_slice()] {
        let signed = senders(body);
        for (name, scheme) in &schemes {
            let headers: Vec<(&str, &str)> =
                signed[name].iter().map(|(header, value)| (header.as_str(), value.as_str())).collect();
            let check =
                |body: &[u8], secret: &str| verify(scheme.clone(), &[secret], &headers, body, 1_700_000_000);
            let taken = check(body, "c2VjcmV0IGtleQ==").unwrap_or_else(|error| panic!("{name}: {error}"));
            let in_body = matches!(scheme, Scheme::Stripe | Scheme::Slack);
            if in_body && body != json {
                assert_eq!(taken.id.len(), 64, "{name}");
            } else {
                assert_eq!(taken.id, "id-1", "{name}");
            }
            assert_eq!(check(body, "c2VjcmV0IGtleA=="), Err(Rejected::Wrong), "{name}");
            let changed = [body, b" "].concat();
            assert_eq!(check(&changed, "c2VjcmV0IGtleQ==").is_err(), *scheme != Scheme::GitLab, "{name}");
        }
    }
}

/// The headers that each sender would send with this body.
fn senders(body: &[u8]) -> BTreeMap<String, Vec<(String, String)>> {
    let mut python = process::Command::new("python3")
        .args(["-c", SENDERS])
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .spawn()
        .expect("python3");
    python.stdin.take().expect("its input").write_all(body).expect("a body");
    let output = python.wait_with_output().expect("its output");
    assert!(output.status.success(), "{output:?}");
    let mut headers = BTreeMap::<String, Vec<(String, String)>>::new();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        headers.entry(parts[0].to_owned()).or_default().push((parts[1].to_owned(), parts[2].to_owned()));
    }
    headers
}
