//! Every kind of trigger, with the same names on both sides: what happens at one tenant rouses nobody of the other.

use http::Request;
use http_body_util::Full;
use rouse_e2e::{App, wait_for};

use crate::world::{LIMIT, World, ZEBRA};

/// A stranger whose own names are zebra's.
const SPY: &str = "third";

pub(crate) async fn what_happens_at_one_tenant_rouses_nobody_of_the_other(world: &World) {
    let spy = App::new("spy").python(
        "spy",
        "print('spy-log', json.dumps(event))\nreturn {}",
        "events = { attempts = 1 }\n\
         env = { SECRET = \"the-strangers-own\" }\n\
         [[functions.spy.triggers]]\nqueue = \"zebra-work\"\n\
         [[functions.spy.triggers]]\ntopic = \"zebra-topic\"\n\
         [[functions.spy.triggers]]\nobject = { bucket = \"zebra-bucket\", events = [\"created\"] }\n\
         [[functions.spy.triggers]]\n\
         webhook = { path = \"/hook\", signer = \"github\", secrets = [\"env:SECRET\"] }",
    );
    let rouse = async |tenant: &str, args: &[&str]| {
        let cli = world.platform.rouse(&[args, &["--tenant", tenant]].concat()).await;
        assert!(cli.ok, "rouse {args:?}: {}{}", cli.out, cli.err);
    };
    let file = spy.path().join("content").display().to_string();
    std::fs::write(&file, "x").expect("a file");
    rouse(SPY, &["tenant", "create", SPY]).await;
    rouse(SPY, &["deploy", &spy.path().display().to_string()]).await;
    let happen = async |tenant: &str| {
        rouse(tenant, &["queue", "send", "zebra-work", &format!("{tenant}-sent")]).await;
        let data = format!("{{\"of\":\"{tenant}-published\"}}");
        rouse(tenant, &["topic", "publish", "zebra-topic", &data, "--type", "t", "--source", "/s"]).await;
        rouse(tenant, &["object", "put", "zebra-bucket", &format!("in/{tenant}-put"), &file]).await;
    };
    let (zebra, other) = (world.invocations(ZEBRA).await, world.invocations(SPY).await);
    happen(ZEBRA).await;
    wait_for("zebra's function hears of all three", LIMIT, async || {
        world.invocations(ZEBRA).await >= zebra + 3
    })
    .await;
    happen(SPY).await;
    wait_for("the stranger's function hears of its own three", LIMIT, async || {
        world.invocations(SPY).await >= other + 3
    })
    .await;
    // Whatever was to come of zebra's three would have come before the stranger's own.
    assert_eq!(world.invocations(SPY).await, other + 3);
    let logs = world.platform.rouse(&["logs", "spy", "--since", "1h", "--tenant", SPY]).await;
    assert!(logs.ok && logs.out.contains("third-sent"), "{logs:?}");
    assert!(!logs.out.contains("zebra-sent") && !logs.out.contains("zebra-published"), "{}", logs.out);
    // A webhook is open to all and takes what is signed alone: with the stranger's own secret nothing comes of it.
    let before = world.invocations(ZEBRA).await;
    let body = "{}";
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"the-strangers-own");
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let pushed = async |tenant: &str, function: &str| {
        let uri = format!("http://{}/fn/{tenant}/{function}/hook", world.platform.gateway);
        let request = Request::post(uri)
            .header("x-github-event", "push")
            .header("x-github-delivery", "1")
            .header("x-hub-signature-256", format!("sha256={hex}"))
            .body(Full::new(body.into()))
            .expect("a request");
        world.platform.send(request).await.status.as_u16()
    };
    assert_eq!((pushed(SPY, "spy").await, pushed(ZEBRA, "zebra-fn").await), (202, 401));
    assert_eq!(world.invocations(ZEBRA).await, before);
    // A tenant goes when it is empty, and its name with it.
    let refused = async |args: &[&str], code: &str| {
        let cli = world.platform.rouse(args).await;
        assert!(!cli.ok && cli.err.contains(code), "{code}: {cli:?}");
    };
    refused(&["tenant", "delete", SPY], "still has apps: spy").await;
    rouse(SPY, &["delete", "spy", "--yes"]).await;
    refused(&["tenant", "delete", SPY], "still has buckets: zebra-bucket").await;
    rouse(SPY, &["object", "rm", "zebra-bucket", "in/third-put"]).await;
    rouse(SPY, &["bucket", "delete", "zebra-bucket"]).await;
    refused(&["tenant", "delete", SPY], "still has queues: zebra-work").await;
    rouse(SPY, &["queue", "delete", "zebra-work"]).await;
    rouse(SPY, &["tenant", "delete", SPY]).await;
    refused(&["tenant", "create", SPY], "name-taken").await;
    refused(&["list", "--tenant", SPY], "tenant-not-found").await;
}
