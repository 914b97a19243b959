//! Tenants, API keys and roles, as clients meet them.

mod support;

use std::time::Duration;

use rouse_api::{ApiKeyRequest, Client, NewApiKey, RotateRequest};
use rouse_types::{Code, Digest, Refusal, Role, Runtime, TenantId};
use support::{Platform, app, component, function, tenant, wanted};

fn named(name: &str) -> TenantId {
    name.parse().expect("a name")
}

fn of(role: Role) -> ApiKeyRequest {
    ApiKeyRequest { role, functions: Vec::new(), expires_in_seconds: None, note: None }
}

async fn key(platform: &Platform, tenant: &TenantId, role: Role) -> (NewApiKey, Client) {
    let key = platform.client.create_api_key(tenant, &of(role)).await.expect("a key");
    let client = Client::new(&platform.url, Some(key.key.clone())).expect("a client");
    (key, client)
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
    let refusal = result.expect_err("refused");
    assert!(refusal.hint.is_some(), "the next step is told: {refusal}");
    refusal.code
}

#[tokio::test]
async fn a_tenant_is_made_shown_and_never_made_of_a_name_alone() {
    let platform = Platform::start().await;
    let client = &platform.client;
    assert_eq!(client.tenants().await.expect("tenants")[0].tenant, tenant());
    let shop = named("shop");
    assert_eq!(code(client.apps(&shop).await), Code::TenantNotFound);
    assert_eq!(code(client.create_api_key(&shop, &of(Role::Owner)).await), Code::TenantNotFound);
    let made = client.create_tenant(&shop).await.expect("made");
    assert_eq!(client.create_tenant(&shop).await.expect("again"), made);
    assert_eq!(client.tenant(&shop).await.expect("shown"), made);
    assert!(client.apps(&shop).await.expect("apps").is_empty());
    assert_eq!(client.tenants().await.expect("tenants").len(), 2);
    assert_eq!(code(client.delete_tenant(&tenant()).await), Code::BadRequest);
    platform.stop().await;
}

#[tokio::test]
async fn a_key_is_told_once_kept_hashed_and_does_what_its_role_does() {
    let platform = Platform::start().await;
    let (owner, as_owner) = key(&platform, &tenant(), Role::Owner).await;
    let (_, as_viewer) = key(&platform, &tenant(), Role::Viewer).await;
    let (_, as_billing) = key(&platform, &tenant(), Role::Billing).await;
    let who = as_owner.who_am_i().await.expect("known");
    assert_eq!(
        (who.tenant, who.role, who.key),
        (Some(tenant()), Some(Role::Owner), Some(owner.info.id.clone()))
    );
    assert_eq!(
        as_owner.create_api_key(&tenant(), &of(Role::Invoker)).await.expect("made").info.role,
        Role::Invoker
    );
    assert!(as_viewer.functions(&tenant()).await.expect("read").is_empty());
    assert_eq!(code(as_viewer.delete_app(&tenant(), &app("shop")).await), Code::Forbidden);
    assert_eq!(code(as_viewer.create_api_key(&tenant(), &of(Role::Owner)).await), Code::Forbidden);
    assert_eq!(code(as_billing.functions(&tenant()).await), Code::Forbidden);
    assert_eq!(code(as_owner.tenants().await), Code::Forbidden);
    assert_eq!(code(as_owner.metrics().await), Code::Forbidden);
    // Nowhere on the disk is the key itself.
    let mut searched = 0;
    let mut folders = vec![platform.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            match entry.file_type().expect("a type") {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    let bytes = std::fs::read(entry.path()).expect("read");
                    let found = bytes.windows(owner.key.len()).any(|window| window == owner.key.as_bytes());
                    assert!(!found, "{}", entry.path().display());
                    searched += 1;
                }
                _ => {}
            }
        }
    }
    assert!(searched > 3);
    platform.stop().await;
}

#[tokio::test]
async fn another_tenants_key_learns_nothing_that_a_name_from_nowhere_would_not_tell() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("hello", "a")]).await;
    platform.client.create_tenant(&named("other")).await.expect("made");
    let (_, stranger) = key(&platform, &named("other"), Role::Owner).await;
    let there = stranger.app(&tenant(), &app("shop")).await.expect_err("not theirs");
    let nowhere = stranger.app(&named("nowhere"), &app("shop")).await.expect_err("not there");
    assert_eq!(there.message.replace("default", "x"), nowhere.message.replace("nowhere", "x"));
    assert_eq!((there.code, there.hint), (Code::TenantNotFound, nowhere.hint));
    assert_eq!(nowhere.code, Code::TenantNotFound);
    // Nor by the digest of code, and what they know the digest of they cannot deploy.
    let code_of = Digest::of(&component("a"));
    assert!(platform.client.has_blob(&code_of).await.expect("the operator knows"));
    assert!(!stranger.has_blob(&code_of).await.expect("an answer"));
    let request = rouse_api::DeployRequest {
        functions: vec![wanted("mine", code_of, Runtime::Component)],
        message: None,
    };
    let theirs = deployed(&stranger, &named("other"), &request).await.expect_err("not theirs");
    assert_eq!(theirs.code, Code::CodeMissing);
    let mut never = request.clone();
    never.functions[0].code = Some(Digest::of(b"never"));
    let unknown = deployed(&stranger, &named("other"), &never).await.expect_err("not there");
    assert_eq!(
        theirs.message.replace(&code_of.to_string(), ""),
        unknown.message.replace(&Digest::of(b"never").to_string(), "")
    );
    // Until they upload it themselves.
    stranger.put_blob_bytes(component("a")).await.expect("uploaded");
    assert!(stranger.has_blob(&code_of).await.expect("an answer"));
    deployed(&stranger, &named("other"), &request).await.expect("live");
    platform.stop().await;
}

async fn deployed(
    client: &Client,
    tenant: &TenantId,
    request: &rouse_api::DeployRequest,
) -> Result<(), Refusal> {
    let mut lines = client.deploy(tenant, &app("theirs"), request).await?;
    let mut last = None;
    while let Some(event) = lines.next().await {
        last = Some(event?);
    }
    match last {
        Some(rouse_api::DeployEvent::Live { .. }) => Ok(()),
        Some(rouse_api::DeployEvent::Failed { refusal }) => Err(refusal),
        other => panic!("the last event is {other:?}"),
    }
}

#[tokio::test]
async fn a_key_is_rotated_with_an_overlap_expires_and_is_revoked_at_once() {
    let platform = Platform::start().await;
    let (old, as_old) = key(&platform, &tenant(), Role::Deployer).await;
    let rotate = |id: String, seconds| {
        let client = platform.client.clone();
        async move {
            client.rotate_api_key(&tenant(), &id, &RotateRequest { overlap_seconds: Some(seconds) }).await
        }
    };
    let new = rotate(old.info.id.clone(), 3_600).await.expect("rotated");
    assert_eq!(new.info.role, Role::Deployer);
    as_old.info().await.expect("the old key does for an hour");
    let as_new = Client::new(&platform.url, Some(new.key.clone())).expect("a client");
    as_new.info().await.expect("and the new one");
    assert_eq!(code(rotate(old.info.id.clone(), 1).await), Code::BadRequest);
    let newest = rotate(new.info.id.clone(), 0).await.expect("rotated");
    assert_eq!(code(as_new.info().await), Code::Unauthorized);
    let as_newest = Client::new(&platform.url, Some(newest.key.clone())).expect("a client");
    as_newest.info().await.expect("it does");
    platform.client.revoke_api_key(&tenant(), &newest.info.id).await.expect("revoked");
    assert_eq!(code(as_newest.info().await), Code::Unauthorized);
    assert_eq!(code(platform.client.revoke_api_key(&tenant(), &newest.info.id).await), Code::KeyNotFound);
    assert_eq!(code(platform.client.revoke_api_key(&tenant(), "../../x").await), Code::KeyNotFound);
    // One that lives for a second is gone after it.
    let request = ApiKeyRequest { expires_in_seconds: Some(1), ..of(Role::Viewer) };
    let short = platform.client.create_api_key(&tenant(), &request).await.expect("made");
    let as_short = Client::new(&platform.url, Some(short.key.clone())).expect("a client");
    let mut expired = false;
    for _ in 0..1_500 {
        match as_short.info().await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(refusal) => {
                assert_eq!(refusal.code, Code::Unauthorized);
                expired = true;
                break;
            }
        }
    }
    assert!(expired, "it never expired");
    let wrong = ApiKeyRequest { expires_in_seconds: Some(0), ..of(Role::Viewer) };
    assert_eq!(code(platform.client.create_api_key(&tenant(), &wrong).await), Code::BadRequest);
    platform.stop().await;
}

#[tokio::test]
async fn a_key_for_one_function_is_for_no_other() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("hello", "a"), ("other", "b")]).await;
    let request = ApiKeyRequest { functions: vec![function("hello")], ..of(Role::Invoker) };
    let key = platform.client.create_api_key(&tenant(), &request).await.expect("a key");
    let client = Client::new(&platform.url, Some(key.key)).expect("a client");
    let call = async |name: &str| {
        client.invoke(&tenant(), &function(name), None, "application/json", "{}".into()).await
    };
    assert_eq!(call("hello").await.expect("called").status, 200);
    assert_eq!(code(call("other").await), Code::FunctionNotFound);
    assert_eq!(code(client.apps(&tenant()).await), Code::Forbidden);
    platform.stop().await;
}

#[tokio::test]
async fn keys_survive_a_restart_and_a_tenant_of_a_release_before_becomes_a_record() {
    let platform = Platform::start().await;
    platform.client.create_tenant(&named("shop")).await.expect("made");
    platform.client.create_key(&named("shop"), &Default::default()).await.expect("an access key");
    let (key, _) = key(&platform, &named("shop"), Role::Viewer).await;
    let state = platform.kill().await;
    // As if it had been a name alone.
    let records = rouse_store::Records::open(&state.path().join("control/rouse.db")).expect("the records");
    records.delete("tenants", "shop", rouse_store::records::Expect::Any).await.expect("deleted");
    drop(records);
    let again = Platform::start_in(state, Duration::from_secs(3_600)).await;
    assert_eq!(again.client.tenants().await.expect("tenants").len(), 2);
    let client = Client::new(&again.url, Some(key.key)).expect("a client");
    assert!(client.apps(&named("shop")).await.expect("known").is_empty());
    again.stop().await;
}
