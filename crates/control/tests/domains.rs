//! Domains of functions: one belongs to one function, comes and goes with its deployments.

mod support;

use rouse_api::{Client, DeployEvent, DeployFunction, DeployRequest};
use rouse_types::{Code, Digest, Runtime, TenantId};
use support::{Platform, app, component, tenant, wanted};

fn with(name: &str, code: Digest, domains: &[&str]) -> DeployFunction {
    DeployFunction {
        domains: domains.iter().map(|text| text.parse().expect("a domain")).collect(),
        ..wanted(name, code, Runtime::Component)
    }
}

/// The code and message of a deployment that is refused; nothing of one that is live.
async fn deploy(
    client: &Client,
    tenant: &TenantId,
    name: &str,
    functions: Vec<DeployFunction>,
) -> Option<(Code, String)> {
    let request = DeployRequest { functions, message: None };
    let mut last = None;
    let mut events = match client.deploy(tenant, &app(name), &request).await {
        Ok(events) => events,
        Err(refusal) => return Some((refusal.code, refusal.message)),
    };
    while let Some(event) = events.next().await {
        last = Some(event.expect("an event"));
    }
    match last.expect("an event") {
        DeployEvent::Failed { refusal } => Some((refusal.code, refusal.message)),
        _ => None,
    }
}

#[tokio::test]
async fn a_domain_belongs_to_one_function_until_it_is_let_go() {
    let platform = Platform::start().await;
    let client = &platform.client;
    let code = platform.upload(component("1")).await;
    let live = |name: &str| {
        let snapshot = platform.snapshot(name)?;
        Some(
            snapshot
                .functions
                .into_iter()
                .flat_map(|route| route.domains)
                .map(|one| one.to_string())
                .collect::<Vec<_>>(),
        )
    };
    let first = vec![with("a", code, &["a.example.com", "www.example.com"])];
    assert_eq!(deploy(client, &tenant(), "shop", first.clone()).await, None);
    assert_eq!(live("shop").expect("live"), ["a.example.com", "www.example.com"]);

    // Neither another app nor another tenant takes it, and neither learns whose it is.
    let stranger: TenantId = "stranger".parse().expect("a name");
    client.create_tenant(&stranger).await.expect("made");
    for (tenant, name) in [(&tenant(), "other"), (&stranger, "shop")] {
        let (refused, message) =
            deploy(client, tenant, name, vec![with("b", code, &["www.example.com"])]).await.expect("refused");
        assert_eq!(refused, Code::DomainTaken);
        assert_eq!(message, "function 'b': the domain 'www.example.com' is another function's");
        assert!(platform.snapshot("other").is_none());
    }
    let twice = vec![with("a", code, &["x.example.com"]), with("b", code, &["x.example.com"])];
    assert_eq!(deploy(client, &tenant(), "shop", twice).await.expect("refused").0, Code::ManifestInvalid);

    // It moves within its app, is let go by a deployment without it, and comes back with a rollback.
    let moved = vec![with("a", code, &["a.example.com"]), with("b", code, &["www.example.com"])];
    assert_eq!(deploy(client, &tenant(), "shop", moved).await, None);
    assert_eq!(deploy(client, &tenant(), "shop", vec![with("a", code, &["a.example.com"])]).await, None);
    assert_eq!(live("shop").expect("live"), ["a.example.com"]);
    assert_eq!(deploy(client, &stranger, "shop", vec![with("b", code, &["www.example.com"])]).await, None);
    let back = client.rollback(&tenant(), &app("shop"), None).await.expect_err("another has it by now");
    assert_eq!(back.code, Code::DomainTaken);
    client.delete_app(&stranger, &app("shop")).await.expect("deleted");
    client.rollback(&tenant(), &app("shop"), None).await.expect("it is free again");
    assert_eq!(live("shop").expect("live"), ["a.example.com", "www.example.com"]);
    platform.stop().await;
}
