//! What there is: a tenant with everything, and a stranger who owns another.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use rouse_api::operation::{Id, Operation};
use rouse_e2e::{Answer, App, OidcProvider, Platform, wait_for};
use serde_json::Value;

/// The tenant that has something. Everything of it is called so.
pub(crate) const ZEBRA: &str = "zebra";
/// As long, and never anywhere.
pub(crate) const NOWHERE: &str = "quagg";
/// The stranger's own tenant.
pub(crate) const OTHER: &str = "other";
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A platform with both.
pub(crate) struct World {
    pub(crate) platform: Platform,
    /// Who says who zebra's member is.
    _provider: OidcProvider,
    /// Zebra's owner's key.
    pub(crate) owner: String,
    /// The stranger's keys: one of each role.
    pub(crate) strangers: Vec<(String, String)>,
    /// What is zebra's and has no name of its own, each with one of the same form that is nobody's.
    ids: Vec<(&'static str, String, String)>,
}

impl World {
    /// Starts a platform and fills it.
    pub(crate) async fn make(platform: Platform, provider: OidcProvider) -> Self {
        let app = App::new("zebra-app").python(
            "zebra-fn",
            "print('zebra-log')\nif '/fail' in event.get('rawPath', ''):\n    raise ValueError('zebra-error')\n\
             return {'statusCode': 200, 'body': 'zebra-answer'}",
            "invoke = \"tenant\"\nevents = { attempts = 1 }\nenv = { SECRET = \"zebra-secret\" }\n\
             [[functions.zebra-fn.triggers]]\nqueue = \"zebra-work\"\n\
             [[functions.zebra-fn.triggers]]\ntopic = \"zebra-topic\"\n\
             [[functions.zebra-fn.triggers]]\nobject = { bucket = \"zebra-bucket\", events = [\"created\"], prefix = \"in/\" }\n\
             [[functions.zebra-fn.triggers]]\nschedule = { at = \"2099-01-01T00:00:00\" }\n\
             [[functions.zebra-fn.triggers]]\n\
             webhook = { path = \"/hook\", signer = \"github\", secrets = [\"env:SECRET\"] }",
        );
        let folder = app.path().display().to_string();
        let object = app.path().join("zebra-content");
        std::fs::write(&object, "zebra-content").expect("a file");
        let of = |tenant: &'static str| {
            let platform = &platform;
            async move |args: &[&str]| {
                let cli = platform.rouse(&[args, &["--tenant", tenant]].concat()).await;
                assert!(cli.ok, "rouse {args:?}: {}{}", cli.out, cli.err);
                cli.out
            }
        };
        let (zebra, other) = (of(ZEBRA), of(OTHER));
        zebra(&["tenant", "create", ZEBRA]).await;
        other(&["tenant", "create", OTHER]).await;
        zebra(&["deploy", &folder]).await;
        zebra(&["alias", "set", "zebra-fn", "zebra-alias", "1"]).await;
        zebra(&["queue", "send", "zebra-queue", "zebra-message"]).await;
        zebra(&["queue", "send", "zebra-queue", "zebra-message"]).await;
        let trusted =
            ["--issuer", "https://gitlab.com", "--claim", "project_path=zebra/shop", "--role", "owner"];
        zebra(&[&["trust", "add", "zebra-trust"][..], &trusted].concat()).await;
        let known = ["--issuer", &provider.issuer, "--client-id", "rouse"];
        zebra(&[&["provider", "add", "corp"][..], &known].concat()).await;
        let member = zebra(&["member", "add", "zebra@acme.example", "--role", "owner", "--json"]).await;
        let member: Value = serde_json::from_str(&member).expect("json");
        zebra(&["object", "put", "zebra-bucket", "zebra-object", &object.display().to_string()]).await;
        let owner = zebra(&["key", "create", "--role", "owner"]).await.trim().to_owned();
        let mut strangers = Vec::new();
        for role in ["owner", "deployer", "invoker", "viewer", "billing"] {
            let key = other(&["key", "create", "--role", role]).await.trim().to_owned();
            strangers.push((role.to_owned(), key));
        }
        let access: Value =
            serde_json::from_str(&zebra(&["access-key", "create", "--json"]).await).expect("json");
        let mut world = Self { platform, _provider: provider, owner, strangers, ids: Vec::new() };
        world.fail_an_event().await;
        let events = world.owned("/v1/tenants/zebra/events").await;
        let event = events["events"][0]["id"].as_str().expect("an event").to_owned();
        let received =
            world.ask(Some(&world.owner), &Method::POST, "/v1/tenants/zebra/queues/zebra-queue/receive", "");
        let receipt = received.await.json()[0]["receipt"].as_str().expect("a receipt").to_owned();
        let versions = world.owned("/v1/tenants/zebra/functions/zebra-fn/versions").await;
        let digest = versions[0]["version"]["code"].as_str().expect("a digest").to_owned();
        let key = world.owner.split('_').nth(1).expect("an id").to_owned();
        let access = access["id"].as_str().expect("an id").to_owned();
        for (name, real) in [
            ("event", event),
            ("receipt", receipt),
            ("digest", digest),
            ("api-key", key),
            ("access-key", access),
            ("member", member["id"].as_str().expect("an id").to_owned()),
        ] {
            let false_one = turned(&real);
            world.ids.push((name, real, false_one));
        }
        world
    }

    /// An event that is given up, and stays.
    async fn fail_an_event(&self) {
        let request = Request::post(format!("http://{}/fn/zebra/zebra-fn/fail", self.platform.gateway))
            .header("x-api-key", &self.owner)
            .header("prefer", "respond-async")
            .body(Full::new(Bytes::from_static(b"fail")))
            .expect("a request");
        assert_eq!(self.platform.send(request).await.status, 202);
        wait_for("the event is given up", LIMIT, async || {
            let events = self.owned("/v1/tenants/zebra/events").await;
            events["events"].as_array().is_some_and(|all| all.iter().any(|event| event["state"] == "failed"))
        })
        .await;
    }

    /// What zebra's owner gets.
    pub(crate) async fn owned(&self, path: &str) -> Value {
        let answer = self.ask(Some(&self.owner), &Method::GET, path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Asks the control API.
    pub(crate) async fn ask(&self, key: Option<&str>, method: &Method, path: &str, body: &str) -> Answer {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.platform.control));
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        self.platform
            .send(request.header("content-type", "application/json").body(body).expect("a request"))
            .await
    }

    /// How often a tenant's functions were called.
    pub(crate) async fn invocations(&self, tenant: &str) -> u64 {
        let usage = self.platform.json(&["usage", "--tenant", tenant]).await;
        usage["total"]["invocations"].as_u64().expect("a number")
    }

    /// Where an operation is asked for, of what is zebra's, in a tenant.
    pub(crate) fn path(&self, operation: &Operation, tenant: &str) -> String {
        let id = |name: &str| {
            let found = self.ids.iter().find(|(known, ..)| *known == name);
            rouse_api::percent::encode(&found.expect("an id").1)
        };
        operation
            .path
            .replace("{tenant}", tenant)
            .replace("/keys/{key}", &format!("/keys/{}", id("access-key")))
            .replace("/api-keys/{key}", &format!("/api-keys/{}", id("api-key")))
            .replace("/objects/{key}", "/objects/zebra-object")
            .replace("{digest}", &id("digest"))
            .replace("{event}", &id("event"))
            .replace("{receipt}", &id("receipt"))
            .replace("{month}", "2026-11")
            .replace("{app}", "zebra-app")
            .replace("{function}", "zebra-fn")
            .replace("{alias}", "zebra-alias")
            .replace("{queue}", "zebra-queue")
            .replace("{bucket}", "zebra-bucket")
            .replace("{topic}", "zebra-topic")
            .replace("{provider}", "zebra-provider")
            .replace("{member}", &id("member"))
            .replace("{trust}", "zebra-trust")
            .replace("{node}", "zebra-node")
    }

    /// The same text of what never was.
    pub(crate) fn nowhere(&self, text: &str) -> String {
        let mut text = text.replace(ZEBRA, NOWHERE);
        for (_, real, false_one) in &self.ids {
            text = text.replace(real, false_one);
            text = text.replace(&rouse_api::percent::encode(real), &rouse_api::percent::encode(false_one));
        }
        text
    }
}

/// What an operation takes, so that it is not its body that is refused.
pub(crate) fn body(id: Id) -> &'static str {
    match id {
        Id::Deploy => r#"{"functions":[]}"#,
        Id::PutAlias => r#"{"versions":[{"version":1,"weight":1}]}"#,
        Id::CreateApiKey => r#"{"role":"viewer"}"#,
        Id::PutMember => r#"{"is":{"email":"anna@acme.example"},"role":"viewer"}"#,
        Id::PutTrust => {
            r#"{"issuer":"https://gitlab.com","audience":"rouse","role":"viewer","claims":{"project_path":"acme/shop"}}"#
        }
        Id::PutNode => r#"{"state":"cordoned"}"#,
        Id::PutProvider => r#"{"issuer":"https://id.acme.example"}"#,
        Id::SignIn => r#"{"tenant":"zebra","token":"zebra-token"}"#,
        Id::PublishEvents => r#"{"specversion":"1.0","id":"1","type":"t","source":"/s"}"#,
        Id::PutBlob | Id::PutObject | Id::SendMessage | Id::Invoke => "body",
        _ => "",
    }
}

/// An id of the same form that is nobody's: each letter and digit its neighbour, the first ones left for their meaning.
fn turned(id: &str) -> String {
    let keep = id.find(':').map_or(4, |colon| colon + 1).min(id.len());
    let turn = |c: char| match c {
        '0'..='8' | 'a'..='e' | 'A'..='E' => char::from_u32(c as u32 + 1).unwrap_or(c),
        '9' => '0',
        'f' => 'a',
        other => other,
    };
    // A UUID's version and variant stay what they are.
    let middle = |at: usize| id.len() == 36 && (at == 14 || at == 19);
    id.char_indices().map(|(at, c)| if at < keep || middle(at) { c } else { turn(c) }).collect()
}

/// Without the numbers that differ between any two answers: times, ids of requests.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() >= 10 { "#" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out
}
