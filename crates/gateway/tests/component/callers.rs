//! Who may call a function: anyone, whoever has a key of its tenant, or nobody from outside.

use rouse_types::{ApiKey, Digest, InvokePolicy, Role, Timestamp, api_key::TenantKeys};

use crate::harness::{Answer, Gateway, probe};

const KEY: &str = "rouse_aaaaaaaaaaaa_right";

fn key(text: &str, change: impl FnOnce(&mut ApiKey)) -> TenantKeys {
    let mut key = ApiKey {
        tenant: "t".parse().expect("a name"),
        role: Role::Invoker,
        functions: Vec::new(),
        digest: Digest::of(text.as_bytes()),
        created: Timestamp::default(),
        expires: None,
        note: None,
        rotated_to: None,
        session: None,
    };
    change(&mut key);
    let id = rouse_types::api_key::id(text).expect("an id").to_owned();
    [(id, key)].into()
}

fn call(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    gateway.request("GET", "/fn/t/probe/x", headers, b"")
}

/// What a stranger is told, but for the names that they wrote.
fn told(answer: &Answer, name: &str) -> (u16, String) {
    let id = answer.header("x-rouse-invocation-id").expect("an id");
    (answer.status, answer.text().replace(name, "NAME").replace(id, "ID"))
}

#[test]
fn a_function_is_closed_unless_it_says_otherwise_and_says_nothing_of_itself() {
    let Some(wasm) = probe() else { return };
    let gateway = Gateway::start(&wasm, |version| version.invoke = InvokePolicy::Tenant);
    let nowhere = gateway.get("/fn/t/nowhere/x");
    assert_eq!((nowhere.status, nowhere.header("x-rouse-error")), (404, Some("function-not-found")));
    let expected = told(&nowhere, "nowhere");
    for path in ["/fn/t/probe/x", "/fn/t/probe@1/x", "/fn/t/probe@nosuch/x", "/fn/t/probe@99/x"] {
        assert_eq!(told(&gateway.get(path), "probe"), expected, "{path}");
    }
    let asynchronous = [("prefer", "respond-async")];
    assert_eq!(told(&call(&gateway, &asynchronous), "probe"), expected);
    assert!(expected.1.contains("authorization: Bearer"), "the next step: {}", expected.1);
    assert_eq!(gateway.usage(), [], "a stranger costs its owner nothing");
}

#[test]
fn a_key_of_the_tenant_opens_it_and_the_code_never_sees_it() {
    let Some(wasm) = probe() else { return };
    let gateway = Gateway::start(&wasm, |version| version.invoke = InvokePolicy::Tenant);
    gateway.keys("t", &key(KEY, |_| {}));
    let bearer = format!("Bearer {KEY}");
    assert_eq!(call(&gateway, &[("authorization", &bearer)]).status, 200);
    assert_eq!(call(&gateway, &[("x-api-key", KEY)]).status, 200);
    // One header opens, the other is the function's own.
    let both = [("authorization", "Bearer its-own"), ("x-api-key", KEY)];
    let seen = gateway.request("GET", "/fn/t/probe/headers", &both, b"").text();
    assert!(seen.contains("its-own") && !seen.contains(KEY), "{seen}");
    let seen = gateway.request("GET", "/fn/t/probe/headers", &[("authorization", &bearer)], b"").text();
    assert!(!seen.contains(KEY), "{seen}");
    let wrong = "rouse_aaaaaaaaaaaa_wrong";
    for header in [("x-api-key", wrong), ("x-api-key", "rouse_bbbbbbbbbbbb_right"), ("authorization", KEY)] {
        assert_eq!(call(&gateway, &[header]).status, 404, "{header:?}");
    }
    gateway.keys("t", &TenantKeys::new());
    assert_eq!(call(&gateway, &[("x-api-key", KEY)]).status, 404, "revoked");
}

#[test]
fn a_key_is_refused_for_its_tenant_role_function_or_age() {
    let Some(wasm) = probe() else { return };
    let gateway = Gateway::start(&wasm, |version| version.invoke = InvokePolicy::Tenant);
    let opens = |change: fn(&mut ApiKey)| {
        gateway.keys("t", &key(KEY, change));
        call(&gateway, &[("x-api-key", KEY)]).status == 200
    };
    assert!(opens(|key| key.functions = vec!["probe".parse().expect("a name")]));
    assert!(!opens(|key| key.functions = vec!["other".parse().expect("a name")]));
    assert!(opens(|key| key.role = Role::Owner));
    assert!(!opens(|key| key.role = Role::Viewer) && !opens(|key| key.role = Role::Billing));
    assert!(!opens(|key| key.expires = Some(Timestamp(1))));
    assert!(opens(|key| key.expires = Some(Timestamp(u64::MAX))));
    gateway.keys("t", &TenantKeys::new());
    gateway.keys("other", &key(KEY, |_| {}));
    assert_eq!(call(&gateway, &[("x-api-key", KEY)]).status, 404, "another tenant's");
}

#[test]
fn what_is_internal_answers_nobody_from_outside_but_the_platform_itself() {
    let Some(wasm) = probe() else { return };
    let gateway = Gateway::start(&wasm, |version| version.invoke = InvokePolicy::Internal);
    gateway.keys("t", &key(KEY, |_| {}));
    assert_eq!(call(&gateway, &[("x-api-key", KEY)]).status, 404);
    assert_eq!(gateway.internal("POST", "/invoke/t/probe", b"{}").status, 200);
}

#[test]
fn a_function_is_told_its_chain_and_a_loop_is_stopped() {
    let Some(wasm) = probe() else { return };
    let gateway = Gateway::start(&wasm, |_| {});
    let call = |chain: &str| gateway.request("GET", "/fn/t/probe/headers", &[("x-rouse-chain", chain)], b"");
    let first = gateway.get("/fn/t/probe/headers");
    assert!(first.text().contains("x-rouse-chain: probe=1"), "{}", first.text());
    let last = call("probe=15,other=3");
    assert!(last.status == 200 && last.text().contains("probe=16"), "{}", last.text());
    let stopped = call("probe=16,other=3");
    assert_eq!((stopped.status, stopped.header("x-rouse-error")), (508, Some("loop-detected")));
    assert!(stopped.text().contains("other=3"), "{}", stopped.text());
    assert_eq!(call("other=99").status, 200, "another's loop is not this one's");
}
