//! The walk over the control API and the gateway.

use http::{Method, Request};
use http_body_util::Full;
use rouse_api::operation::{ALL, Access, Id, Operation, access};
use rouse_e2e::Answer;

use crate::world::{NOWHERE, OTHER, World, ZEBRA, body, plain};

/// What is made anew each time has another id each time.
const MAKES: [Id; 5] =
    [Id::CreateKey, Id::CreateApiKey, Id::SendMessage, Id::PublishEvents, Id::ReceiveMessages];

fn of_a_tenant() -> impl Iterator<Item = &'static Operation> {
    ALL.iter().filter(|operation| operation.path.contains("{tenant}"))
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), plain(&answer.text()))
}

/// Asks for what is zebra's, and for the same that never was, within a tenant each.
async fn twice(
    world: &World,
    key: Option<&str>,
    operation: &Operation,
    tenants: (&str, &str),
) -> ((u16, String), (u16, String)) {
    let real = world.path(operation, tenants.0);
    let never = world.nowhere(&world.path(operation, tenants.1));
    assert!(operation.path == "/v1/tenants/{tenant}" || !never.contains(ZEBRA), "{never}");
    let real = world.ask(key, &operation.method, &real, body(operation.id)).await;
    let never = world.ask(key, &operation.method, &never, body(operation.id)).await;
    let (status, text) = told(&real);
    ((status, world.nowhere(&text)), told(&never))
}

pub(crate) async fn a_strangers_key_gets_nothing_of_another_tenant_whatever_it_asks_for(world: &World) {
    let mut walked = 0;
    for (role, key) in &world.strangers {
        for operation in of_a_tenant() {
            let (real, never) = twice(world, Some(key), operation, (ZEBRA, NOWHERE)).await;
            let what = format!("{role}: {} {}", operation.method, operation.path);
            assert_eq!(real, never, "{what}: an answer tells what is there");
            assert_eq!(real.0, 404, "{what}: {}", real.1);
            walked += 1;
        }
    }
    assert!(walked > 200, "{walked}");
    is_whole(world).await;
}

pub(crate) async fn within_its_own_tenant_a_stranger_finds_none_of_the_names_of_another(world: &World) {
    let (_, key) = &world.strangers[0];
    for operation in of_a_tenant() {
        let (real, never) = twice(world, Some(key), operation, (OTHER, OTHER)).await;
        let what = format!("{} {}", operation.method, operation.path);
        assert_eq!(real.0, never.0, "{what}: {} {}", real.1, never.1);
        assert!(!real.1.contains("-message") && !real.1.contains("-content"), "{what}: {}", real.1);
        if !MAKES.contains(&operation.id) {
            // The audit log has what this walk itself did before, under both names.
            assert_eq!(real.1, world.nowhere(&never.1), "{what}: an answer tells what is there");
        }
    }
    is_whole(world).await;
}

pub(crate) async fn what_is_no_tenants_tells_nothing_of_any_tenant(world: &World) {
    for (role, key) in &world.strangers {
        for operation in ALL.iter().filter(|operation| !operation.path.contains("{tenant}")) {
            let (real, never) = twice(world, Some(key), operation, (OTHER, OTHER)).await;
            let what = format!("{role}: {} {}", operation.method, operation.path);
            assert_eq!(real, never, "{what}");
            // The document of the API has examples, none of which is called so.
            assert!(!real.1.contains(NOWHERE) && !real.1.contains(ZEBRA), "{what}: {}", real.1);
            if access(operation.id) == Access::Operator {
                assert_eq!(real.0, 403, "{what}");
            }
        }
    }
}

pub(crate) async fn without_a_key_or_with_a_wrong_one_everything_is_the_same_401(world: &World) {
    let wrong = format!("{}x", world.owner);
    for key in [None, Some(wrong.as_str()), Some("rouse_aaaaaaaaaaaa_x"), Some("x")] {
        for operation in ALL.iter().filter(|operation| !operation.open) {
            let (real, never) = twice(world, key, operation, (ZEBRA, NOWHERE)).await;
            assert_eq!(real, never, "{} {}", operation.method, operation.path);
            assert_eq!(real.0, 401, "{} {}: {}", operation.method, operation.path, real.1);
        }
    }
}

/// What is zebra's is found by zebra's owner, whole, at the very paths that the stranger walks.
pub(crate) async fn is_whole(world: &World) {
    let reads = of_a_tenant().filter(|operation| operation.method == Method::GET);
    for operation in reads.filter(|operation| access(operation.id) != Access::Operator) {
        let path = world.path(operation, ZEBRA);
        let answer = world.ask(Some(&world.owner), &operation.method, &path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let object = world.path(Id::GetObject.operation(), ZEBRA);
    let object = world.ask(Some(&world.owner), &Method::GET, &object, "").await;
    assert_eq!(object.text(), "zebra-content");
    let queue = world.owned("/v1/tenants/zebra/queues/zebra-queue").await;
    let kept = ["ready", "held"].map(|kind| queue[kind].as_u64().unwrap_or_default());
    assert_eq!(kept.iter().sum::<u64>(), 2, "{queue}");
    let version = world.owned("/v1/tenants/zebra/functions/zebra-fn/versions").await;
    assert_eq!(version.as_array().map(Vec::len), Some(1), "{version}");
}

pub(crate) async fn at_its_address_a_closed_function_is_not_there_for_a_stranger(world: &World) {
    let gateway = world.platform.gateway;
    let call = async |method: &str, host: &str, path: &str, key: Option<&str>| {
        let mut request = Request::builder().method(method).uri(format!("http://{gateway}{path}"));
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.header("host", host).body(Full::default()).expect("a request");
        world.platform.send(request).await
    };
    let owned = call("GET", "localhost", "/fn/zebra/zebra-fn/", Some(&world.owner)).await;
    assert_eq!((owned.status.as_u16(), owned.text()), (200, "zebra-answer".to_owned()));
    let before = world.invocations(ZEBRA).await;
    let keys = world.strangers.iter().map(|(_, key)| Some(key.as_str())).chain([None]);
    for key in keys {
        for method in ["GET", "POST", "OPTIONS"] {
            for (host, path) in [
                ("localhost", "/fn/zebra/zebra-fn/"),
                ("localhost", "/fn/zebra/zebra-fn@zebra-alias/"),
                ("localhost", "/fn/zebra/zebra-fn@1/"),
                ("localhost", "/fn/zebra/zebra-fn@77/"),
                ("localhost", "/fn/zebra/zebra-fn@$LATEST/"),
                ("zebra-fn.zebra.localhost", "/"),
                ("zebra-alias--zebra-fn.zebra.localhost", "/"),
            ] {
                let real = call(method, host, path, key).await;
                let never = call(method, &world.nowhere(host), &world.nowhere(path), key).await;
                let told = |answer: &Answer| {
                    let id = answer.header("x-rouse-invocation-id").to_owned();
                    (answer.status, answer.text().replace(&id, "ID"))
                };
                let (status, text) = told(&real);
                assert_eq!((status, world.nowhere(&text)), told(&never), "{method} {host}{path}");
                assert_eq!(status, 404, "{method} {host}{path}");
            }
        }
    }
    assert_eq!(world.invocations(ZEBRA).await, before, "nobody's calls are billed");
}
