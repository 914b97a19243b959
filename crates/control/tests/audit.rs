//! The audit log: what was done is in it, by whom and from where, also when control dies in between; and it proves itself.

mod support;

use std::time::Duration;

use rouse_api::{ApiKeyRequest, Client, DeployRequest, SecretValue};
use rouse_metering::audit::log::{self, Action, Line, Outcome};
use rouse_types::{Alias, Code, Role, Runtime, TenantId};
use support::{Platform, app, component, eventually, function, tenant, wanted};
use tokio::task::JoinSet;

/// The text of a log, as an export has it.
async fn text(client: &Client, tenant: Option<&TenantId>) -> String {
    let mut lines = client.audit_log(tenant).await.expect("it begins");
    let mut text = String::new();
    while let Some(line) = lines.next().await {
        text += line.expect("a line").get();
        text += "\n";
    }
    text
}

fn actions(text: &str) -> Vec<Action> {
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line of a log"));
    lines.filter_map(|line| if let Line::Action(entry) = line { Some(entry.action) } else { None }).collect()
}

#[tokio::test]
async fn what_was_done_is_in_the_log_with_who_and_what_changed_and_the_log_proves_itself() {
    let platform = Platform::start().await;
    let client = &platform.client;
    let wanted_key =
        |role| ApiKeyRequest { role, functions: Vec::new(), expires_in_seconds: None, note: None };
    let key = client.create_api_key(&tenant(), &wanted_key(Role::Owner)).await.expect("a key");
    let viewer = client.create_api_key(&tenant(), &wanted_key(Role::Viewer)).await.expect("a key");
    let owner = Client::new(&platform.url, Some(key.key.clone())).expect("a client");
    let viewer = Client::new(&platform.url, Some(viewer.key)).expect("a client");
    platform.deploy("shop", &[("cart", "one")]).await;
    platform.deploy("shop", &[("cart", "two")]).await;
    let alias: Alias = serde_json::from_str(r#"{"versions":[{"version":1,"weight":1}]}"#).expect("an alias");
    owner
        .put_alias(&tenant(), &function("cart"), &"old".parse().expect("a name"), &alias)
        .await
        .expect("set");
    let value = SecretValue { value: "s3cret-value".to_owned() };
    owner.put_secret(&tenant(), "db", &value).await.expect("set");
    // What was refused changed nothing.
    assert!(viewer.delete_app(&tenant(), &app("shop")).await.is_err());
    assert!(client.rollback(&tenant(), &app("shop"), Some(99)).await.is_err());
    client.create_tenant(&"other".parse().expect("a name")).await.expect("made");

    let text_now = text(&owner, Some(&tenant())).await;
    let found = actions(&text_now);
    let short: Vec<_> = found.iter().map(|action| (action.operation.as_str(), action.who.as_str())).collect();
    let who = format!("key {}", key.info.id);
    assert_eq!(
        short,
        [
            ("createApiKey", "operator"),
            ("createApiKey", "operator"),
            ("deploy", "operator"),
            ("deploy", "operator"),
            ("putAlias", who.as_str()),
            ("putSecret", who.as_str()),
        ]
    );
    assert!(found.iter().all(|action| action.outcome == Outcome::Done && action.from == "127.0.0.1"));
    let (before, after) =
        (found[3].before.as_ref().expect("before"), found[3].after.as_ref().expect("after"));
    assert_eq!((before["live"].as_u64(), after["live"].as_u64()), (Some(1), Some(2)));
    assert_eq!((&found[4].before, found[4].of["alias"].as_str()), (&None, "old"));
    assert_eq!(found[4].after.as_ref().expect("after")["versions"][0]["version"], 1);
    assert!(!text_now.contains("s3cret-value") && !text_now.contains(&key.key), "no secret is in the log");

    let public = client.audit_key().await.expect("the key").key.parse().expect("a public key");
    assert_eq!(log::verify(text_now.as_bytes(), Some(&public)).expect("it is whole").actions, 6);
    let changed = text_now.replacen("putAlias", "putALias", 1);
    assert!(log::verify(changed.as_bytes(), Some(&public)).is_err());

    let refused = viewer.audit_log(Some(&tenant())).await.expect_err("for owners");
    assert_eq!(refused.code, Code::Forbidden);
    assert_eq!(owner.audit_log(None).await.expect_err("for the operator").code, Code::Forbidden);
    let platforms = actions(&text(client, None).await);
    let made: Vec<_> =
        platforms.iter().map(|action| (&action.operation[..], &action.of["tenant"][..])).collect();
    assert_eq!(made, [("createTenant", "other")]);
    assert!(actions(&text(client, Some(&"other".parse().expect("a name"))).await).is_empty());
    platform.stop().await;
}

#[tokio::test]
async fn what_was_under_way_when_control_died_is_in_the_log_as_unknown() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("cart", "one")]).await;
    let code = platform.upload(component("slow")).await;
    let request = DeployRequest { functions: vec![wanted("cart", code, Runtime::Component)], message: None };
    let compiles = platform.compiles();
    let (client, name) = (platform.client.clone(), app("shop"));
    let mut deploying = JoinSet::new();
    deploying.spawn(async move {
        let mut lines = client.deploy(&tenant(), &name, &request).await.expect("it begins");
        while let Some(Ok(_)) = lines.next().await {}
    });
    eventually("it compiles", || platform.compiles() > compiles).await;
    let state = platform.kill().await;
    deploying.shutdown().await;
    let platform = Platform::start_in(state, Duration::from_secs(3_600)).await;
    let text = text(&platform.client, Some(&tenant())).await;
    let outcomes: Vec<_> =
        actions(&text).into_iter().map(|action| (action.operation, action.outcome)).collect();
    assert_eq!(outcomes, [("deploy".to_owned(), Outcome::Done), ("deploy".to_owned(), Outcome::Unknown)]);
    assert_eq!(log::verify(text.as_bytes(), None).expect("it is whole").actions, 2);
    platform.stop().await;
}
