//! Members, trust policies and the exchange of tokens, as clients meet them.

mod support;

use rouse_api::{ApiKeyRequest, Client, MemberInfo, MemberRequest, NewApiKey, SignInRequest};
use rouse_metering::audit::log::{Action, Line, Outcome};
use rouse_types::{Code, MemberIs, Provider, ProviderName, Refusal, Role, TenantId, Trust};
use serde_json::{Value, json};
use support::{
    Platform, app, component, function,
    issuer::{Issuer, now},
    wanted,
};

const CLIENT: &str = "rouse-cli";

struct World {
    platform: Platform,
    issuer: Issuer,
    shop: TenantId,
    /// Without a key, as strangers come.
    stranger: Client,
}

impl World {
    async fn start() -> Self {
        let (platform, issuer) = (Platform::start().await, Issuer::start().await);
        let shop: TenantId = "shop".parse().expect("a name");
        platform.client.create_tenant(&shop).await.expect("a tenant");
        let stranger = Client::new(&platform.url, None).expect("a client");
        let world = Self { platform, issuer, shop, stranger };
        let provider = world.provider(json!({"client_id": CLIENT}));
        world.platform.client.put_provider(&corp(), &provider).await.expect("a provider");
        world
    }

    fn provider(&self, changes: Value) -> Provider {
        let mut all = json!({"issuer": self.issuer.url});
        for (name, value) in changes.as_object().expect("an object") {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a provider")
    }

    async fn add(&self, client: &Client, is: &str, role: Role) -> Result<MemberInfo, Refusal> {
        let is: MemberIs = is.parse().expect("a member");
        client.put_member(&self.shop, &MemberRequest { is, provider: None, role }).await
    }

    async fn trust(&self, name: &str, trust: Value) -> Result<(), Refusal> {
        let trust: Trust = serde_json::from_value(trust).expect("a policy");
        let name = name.parse().expect("a name");
        self.platform.client.put_trust(&self.shop, &name, &trust).await.map(drop)
    }

    async fn exchange(&self, token: String) -> Result<NewApiKey, Refusal> {
        self.stranger.sign_in(&SignInRequest { tenant: self.shop.clone(), token, nonce: None }).await
    }

    fn with(&self, new: &NewApiKey) -> Client {
        Client::new(&self.platform.url, Some(new.key.clone())).expect("a client")
    }

    fn anna(&self, changes: Value) -> String {
        let mut all =
            json!({"sub": "7", "aud": CLIENT, "email": "anna@acme.example", "email_verified": true});
        for (name, value) in changes.as_object().expect("an object") {
            all[name] = value.clone();
        }
        self.issuer.token(all)
    }
}

fn corp() -> ProviderName {
    "corp".parse().expect("a name")
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
    let refusal = result.expect_err("refused");
    assert!(refusal.hint.is_some(), "the next step is told: {refusal}");
    refusal.code
}

#[tokio::test]
async fn a_person_signs_in_as_a_member_and_out_and_is_out_at_once_when_removed() {
    let world = World::start().await;
    let client = &world.platform.client;
    let options = world.stranger.sign_in_options().await.expect("open to all");
    assert_eq!((options[0].name.as_str(), options[0].client_id.as_str()), ("corp", CLIENT));
    assert_eq!(code(world.exchange(world.anna(json!({}))).await), Code::Unauthorized);
    let member = world.add(client, "Anna@acme.example", Role::Deployer).await.expect("a member");
    assert_eq!(member.is.to_string(), "anna@acme.example");
    let new = world.exchange(world.anna(json!({"iat": now() - 1}))).await.expect("signed in");
    assert_eq!(
        (new.info.role, new.info.session.as_ref().expect("a session").name.as_str()),
        (Role::Deployer, "anna@acme.example")
    );
    let hours = new.info.expires.expect("an end").since(new.info.created).as_secs() / 3_600;
    assert_eq!(hours, 12);
    let anna = world.with(&new);
    let who = anna.who_am_i().await.expect("known");
    assert_eq!((who.tenant.as_ref(), who.role), (Some(&world.shop), Some(Role::Deployer)));
    assert_eq!(who.session.expect("a session").subject, "7");
    assert!(anna.apps(&world.shop).await.expect("apps").is_empty());
    assert_eq!(code(anna.members(&world.shop).await), Code::Forbidden);
    assert_eq!(code(anna.apps(&"default".parse().expect("a name")).await), Code::TenantNotFound);
    // Gateways know of it, and owners see it.
    let file = std::fs::read_to_string(world.platform.path("keys/shop.json")).expect("the keys");
    assert!(file.contains(&new.info.id), "{file}");
    assert_eq!(client.api_keys(&world.shop).await.expect("keys").len(), 1);
    // Signing out ends this one alone.
    let other = world.with(&world.exchange(world.anna(json!({"iat": now() - 2}))).await.expect("signed in"));
    anna.sign_out().await.expect("signed out");
    assert_eq!(code(anna.who_am_i().await), Code::Unauthorized);
    assert!(other.who_am_i().await.is_ok());
    // Another role, and being removed, end what there is.
    world.add(client, "anna@acme.example", Role::Viewer).await.expect("changed");
    assert_eq!(code(other.who_am_i().await), Code::Unauthorized);
    let new = world.exchange(world.anna(json!({"iat": now() - 3}))).await.expect("signed in");
    assert_eq!(new.info.role, Role::Viewer);
    client.delete_member(&world.shop, &member.id).await.expect("removed");
    assert_eq!(code(world.with(&new).who_am_i().await), Code::Unauthorized);
    let file = std::fs::read_to_string(world.platform.path("keys/shop.json")).expect("the keys");
    assert!(!file.contains(&new.info.id), "{file}");
    assert_eq!(code(world.exchange(world.anna(json!({"iat": now() - 4}))).await), Code::Unauthorized);
    assert_eq!(code(client.delete_member(&world.shop, &member.id).await), Code::MemberNotFound);
    // The operator's token and an owner's key are no sessions.
    assert_eq!(code(client.sign_out().await), Code::BadRequest);
    world.platform.stop().await;
}

/// What the tenant's audit log tells of sign-ins.
async fn sign_ins(client: &Client, tenant: &TenantId) -> Vec<Action> {
    let mut lines = client.audit_log(Some(tenant)).await.expect("it begins");
    let mut found = Vec::new();
    while let Some(line) = lines.next().await {
        let line: Line = serde_json::from_str(line.expect("a line").get()).expect("a line of a log");
        if let Line::Action(entry) = line {
            found.push(entry.action);
        }
    }
    found.retain(|action| action.operation == "signIn");
    found
}

#[tokio::test]
async fn each_sign_in_is_in_the_audit_log_and_so_is_who_was_refused() {
    let world = World::start().await;
    let client = &world.platform.client;
    world.add(client, "anna@acme.example", Role::Deployer).await.expect("a member");
    let token = world.anna(json!({}));
    let new = world.exchange(token.clone()).await.expect("signed in");
    let who = format!("anna@acme.example of {}", world.issuer.url);
    let found = sign_ins(client, &world.shop).await;
    let [done] = &found[..] else { panic!("one sign-in: {found:?}") };
    assert_eq!((&done.who, &done.from[..], done.outcome), (&who, "127.0.0.1", Outcome::Done));
    assert_eq!(done.of["role"], "deployer");
    assert_eq!(done.after.as_ref().expect("what came of it")["key"], new.info.id);

    // The same again is refused, and told once it is written down: beside the answer.
    assert_eq!(code(world.exchange(token).await), Code::Unauthorized);
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let refused = loop {
        let mut found = sign_ins(client, &world.shop).await;
        if found.len() > 1 {
            break found.remove(1);
        }
        assert!(tokio::time::Instant::now() < until, "the refusal is not in the log");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((&refused.who, refused.outcome), (&who, Outcome::Refused));
    assert!(refused.of["why"].contains("exchanged before"), "{refused:?}");
    world.platform.stop().await;
}

#[tokio::test]
async fn one_address_signs_in_so_often_and_no_more() {
    let world = World::start().await;
    let tries = (0..120).map(|_| world.exchange("no token".to_owned()));
    let codes: Vec<_> = futures_util::future::join_all(tries).await.into_iter().map(code).collect();
    let refused = codes.iter().filter(|code| **code == Code::TooManyRequests).count();
    assert!(refused > 0, "all of them were looked at");
    assert!(codes.contains(&Code::Unauthorized), "none of them was");
    world.platform.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_is_answered_the_same_and_asks_the_issuer_no_more() {
    let world = World::start().await;
    world.add(&world.platform.client, "anna@acme.example", Role::Owner).await.expect("a member");
    let other = Issuer::start().await;
    let anna = json!({"sub": "7", "aud": CLIENT, "email": "anna@acme.example", "email_verified": true,
        "iss": world.issuer.url});
    let good = world.anna(json!({}));
    world.exchange(good.clone()).await.expect("signed in");
    let asked = world.issuer.asked();
    let header = |changes: Value| {
        let mut all = json!({"alg": "ES256", "kid": support::issuer::KEY});
        for (name, value) in changes.as_object().expect("an object") {
            all[name] = value.clone();
        }
        world.issuer.signed(&all, anna.clone())
    };
    let (signed, _) = good.rsplit_once('.').expect("a token");
    let wrong = [
        ("a second use", good.clone()),
        ("no token", "x".to_owned()),
        ("without a signature", format!("{signed}.")),
        ("expired", world.anna(json!({"iat": now() - 500, "exp": now() - 120}))),
        ("of the future", world.anna(json!({"iat": now() + 120}))),
        ("not yet", world.anna(json!({"nbf": now() + 120}))),
        ("for long", world.anna(json!({"exp": now() + 100_000}))),
        ("for others", world.anna(json!({"aud": "other"}))),
        ("of a party", world.anna(json!({"azp": "other"}))),
        ("unverified", world.anna(json!({"email_verified": false}))),
        ("nobody", world.anna(json!({"email": "eve@acme.example"}))),
        ("another's signature", other.token(anna.clone())),
        ("another issuer", other.token(json!({"sub": "7", "aud": CLIENT}))),
        ("none", header(json!({"alg": "none"}))),
        ("HS256", header(json!({"alg": "HS256"}))),
        ("a key that is not there", header(json!({"kid": "k2"}))),
        ("a nonce that nobody sent", world.anna(json!({"nonce": "n"}))),
    ];
    let said = world.exchange(world.anna(json!({"sub": ""}))).await.expect_err("refused");
    assert_eq!(said.code, Code::Unauthorized);
    for (what, token) in wrong {
        assert_eq!(world.exchange(token).await.expect_err(what), said, "{what}");
    }
    assert_eq!((world.issuer.asked(), other.asked()), (asked, 0), "strangers have nobody asked");
    // A tenant that is not there is like one that the person is no member of.
    let elsewhere = |tenant: &str| SignInRequest {
        tenant: tenant.parse().expect("a name"),
        token: world.anna(json!({"jti": "1"})),
        nonce: None,
    };
    let there = world.stranger.sign_in(&elsewhere("default")).await.expect_err("no member");
    let nowhere = world.stranger.sign_in(&elsewhere("nowhere")).await.expect_err("no tenant");
    assert_eq!((&there, &nowhere), (&said, &said));
    // The nonce that was sent must be there.
    let mut request = SignInRequest {
        tenant: world.shop.clone(),
        token: world.anna(json!({"nonce": "n"})),
        nonce: Some("m".to_owned()),
    };
    assert_eq!(world.stranger.sign_in(&request).await.expect_err("another nonce"), said);
    request.nonce = Some("n".to_owned());
    world.stranger.sign_in(&request).await.expect("signed in");
    // Too large, and not JSON: what a client must hear to do better.
    request.token = "a".repeat(100_000);
    assert_eq!(world.stranger.sign_in(&request).await.expect_err("too large").code, Code::PayloadTooLarge);
    world.platform.stop().await;
}

#[tokio::test]
async fn a_build_deploys_without_a_stored_secret_where_a_trust_policy_fits() {
    let world = World::start().await;
    let client = &world.platform.client;
    let policy = |more: Value| {
        let mut all = json!({"issuer": world.issuer.url, "audience": "rouse", "role": "deployer",
            "subject": "repo:acme/shop:ref:refs/heads/*", "claims": {"repository": "acme/shop"}});
        for (name, value) in more.as_object().expect("an object") {
            all[name] = value.clone();
        }
        all
    };
    let build = |more: Value| {
        let mut all = json!({"sub": "repo:acme/shop:ref:refs/heads/main", "aud": "rouse",
            "repository": "acme/shop", "ref": "refs/heads/main"});
        for (name, value) in more.as_object().expect("an object") {
            all[name] = value.clone();
        }
        world.issuer.token(all)
    };
    // What is too wide, leads elsewhere, or would take people's tokens, is refused.
    for wrong in [
        json!({"subject": null, "claims": {}}),
        json!({"issuer": "https://evil.example"}),
        json!({"issuer": "http://169.254.169.254"}),
        json!({"issuer": "https://token.actions.githubusercontent.com", "subject": "repo:*", "claims": {}}),
        json!({"audience": CLIENT}),
        json!({"audience": ""}),
    ] {
        assert_eq!(code(world.trust("main", policy(wrong.clone())).await), Code::BadRequest, "{wrong}");
    }
    assert!(client.trust(&world.shop).await.expect("policies").is_empty());
    world.trust("main", policy(json!({}))).await.expect("a policy");
    world
        .trust("one", policy(json!({"audience": "one", "role": "invoker", "functions": ["cart"]})))
        .await
        .expect("a policy");
    for wrong in [
        json!({"sub": "repo:acme/shop:pull_request"}),
        json!({"repository": "evil/shop"}),
        json!({"aud": "other"}),
    ] {
        assert_eq!(code(world.exchange(build(wrong.clone())).await), Code::Unauthorized, "{wrong}");
    }
    let new = world.exchange(build(json!({}))).await.expect("a key");
    let seconds = new.info.expires.expect("an end").since(new.info.created).as_secs();
    assert_eq!((seconds, new.info.role), (3_600, Role::Deployer));
    let builder = world.with(&new);
    let digest = builder.put_blob_bytes(component("x")).await.expect("an upload");
    let request = rouse_api::DeployRequest {
        functions: vec![wanted("cart", digest, rouse_types::Runtime::Component)],
        message: None,
    };
    let mut lines = builder.deploy(&world.shop, &app("shop"), &request).await.expect("it begins");
    while let Some(line) = lines.next().await {
        assert!(!matches!(line, Ok(rouse_api::DeployEvent::Failed { .. }) | Err(_)), "{line:?}");
    }
    assert_eq!(client.functions(&world.shop).await.expect("functions").len(), 1);
    // A policy for some functions gives a key for those alone.
    let one = world.exchange(build(json!({"aud": "one"}))).await.expect("a key");
    assert_eq!(one.info.functions, [function("cart")]);
    assert_eq!(code(world.with(&one).functions(&world.shop).await), Code::Forbidden);
    // A changed or deleted policy leaves no key behind.
    world.trust("one", policy(json!({"audience": "one", "role": "viewer"}))).await.expect("changed");
    assert_eq!(code(world.with(&one).who_am_i().await), Code::Unauthorized);
    assert!(builder.who_am_i().await.is_ok());
    client.delete_trust(&world.shop, &"main".parse().expect("a name")).await.expect("deleted");
    assert_eq!(code(builder.who_am_i().await), Code::Unauthorized);
    assert_eq!(code(world.exchange(build(json!({"jti": "2"}))).await), Code::Unauthorized);
    assert_eq!(
        code(client.delete_trust(&world.shop, &"main".parse().expect("a name")).await),
        Code::TrustNotFound
    );
    // A session's key is no key that can be rotated.
    let left = world.exchange(build(json!({"aud": "one", "jti": "3"}))).await.expect("a key");
    let rotated =
        client.rotate_api_key(&world.shop, &left.info.id, &rouse_api::RotateRequest::default()).await;
    assert_eq!(code(rotated), Code::BadRequest);
    world.platform.stop().await;
}

#[tokio::test]
async fn the_last_owner_is_not_removed_by_mistake_but_by_the_operator() {
    let world = World::start().await;
    let operator = &world.platform.client;
    let request =
        ApiKeyRequest { role: Role::Owner, functions: Vec::new(), expires_in_seconds: None, note: None };
    let key = operator.create_api_key(&world.shop, &request).await.expect("a key");
    let owner = world.with(&key);
    let anna = world.add(&owner, "anna@acme.example", Role::Owner).await.expect("a member");
    assert_eq!(code(owner.delete_member(&world.shop, &anna.id).await), Code::LastOwner);
    assert_eq!(code(world.add(&owner, "anna@acme.example", Role::Viewer).await), Code::LastOwner);
    let group = world.add(&owner, "group=heads", Role::Owner).await.expect("a member");
    owner.delete_member(&world.shop, &anna.id).await.expect("removed");
    assert_eq!(code(owner.delete_member(&world.shop, &group.id).await), Code::LastOwner);
    operator.delete_member(&world.shop, &group.id).await.expect("removed");
    assert!(operator.members(&world.shop).await.expect("members").is_empty());
    world.platform.stop().await;
}

#[tokio::test]
async fn a_provider_is_the_operators_is_tried_first_and_takes_its_sessions_with_it() {
    let world = World::start().await;
    let operator = &world.platform.client;
    world.add(operator, "subject=7", Role::Owner).await.expect("a member");
    let new = world.exchange(world.anna(json!({}))).await.expect("signed in");
    assert_eq!(code(world.with(&new).providers().await), Code::Forbidden);
    let second: ProviderName = "second".parse().expect("a name");
    for (what, provider) in [
        ("in the clear", world.provider(json!({"issuer": "http://acme.example"}))),
        ("nobody there", world.provider(json!({"issuer": "http://127.0.0.1:1"}))),
        ("another's configuration", world.provider(json!({"issuer": format!("{}/", world.issuer.url)}))),
        ("the same issuer", world.provider(json!({}))),
        ("no certificate", world.provider(json!({"issuer": "https://id.example", "ca": "x"}))),
        ("a scope with spaces", world.provider(json!({"scopes": ["a b"]}))),
    ] {
        assert_eq!(code(operator.put_provider(&second, &provider).await), Code::BadRequest, "{what}");
    }
    let another = Issuer::start().await;
    let ci = Provider { issuer: another.url.clone(), ..world.provider(json!({})) };
    operator.put_provider(&second, &ci).await.expect("a provider");
    assert_eq!(operator.providers().await.expect("providers").len(), 2);
    assert_eq!(
        world.stranger.sign_in_options().await.expect("options").len(),
        1,
        "with the other nobody signs in"
    );
    let moved = world.provider(json!({"issuer": another.url}));
    assert_eq!(code(operator.put_provider(&corp(), &moved).await), Code::BadRequest);
    operator.delete_provider(&corp()).await.expect("deleted");
    assert_eq!(code(world.with(&new).who_am_i().await), Code::Unauthorized);
    assert_eq!(code(world.exchange(world.anna(json!({"jti": "2"}))).await), Code::Unauthorized);
    assert_eq!(code(world.add(operator, "subject=8", Role::Owner).await), Code::BadRequest);
    assert_eq!(code(operator.delete_provider(&corp()).await), Code::ProviderNotFound);
    // Added again, its members are there again: they are the issuer's.
    operator.put_provider(&corp(), &world.provider(json!({"client_id": CLIENT}))).await.expect("a provider");
    world.exchange(world.anna(json!({"jti": "3"}))).await.expect("signed in");
    world.platform.stop().await;
}

#[tokio::test]
async fn many_who_sign_in_at_once_each_get_a_key_of_their_own() {
    let world = World::start().await;
    world.add(&world.platform.client, "group=all", Role::Viewer).await.expect("a member");
    let tokens =
        (0..30).map(|i| world.issuer.token(json!({"sub": format!("{i}"), "aud": CLIENT, "groups": ["all"]})));
    let all = futures_util::future::join_all(tokens.map(|token| world.exchange(token))).await;
    let mut ids: Vec<String> = all.into_iter().map(|new| new.expect("signed in").info.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 30);
    // One token at the same time from many sides is exchanged once.
    let token = world.issuer.token(json!({"sub": "x", "aud": CLIENT, "groups": ["all"]}));
    let all = futures_util::future::join_all((0..10).map(|_| world.exchange(token.clone()))).await;
    assert_eq!(all.iter().filter(|result| result.is_ok()).count(), 1);
    world.platform.stop().await;
}
