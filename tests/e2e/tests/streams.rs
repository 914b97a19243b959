//! Answers that stream through the platform, and callers who leave before the end.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rouse_e2e::{App, Platform, need, wait_for};

/// Its two parts are this far apart.
const PAUSE: Duration = Duration::from_secs(3);

fn streaming() -> App {
    let code = format!(
        "export const handler = awslambda.streamifyResponse(async (event, stream) => {{\n\
         const head = {{ statusCode: 201, headers: {{ 'content-type': 'text/plain', 'x-own': 'yes' }} }};\n\
         stream = awslambda.HttpResponseStream.from(stream, head);\n\
         stream.write('first ');\n\
         await new Promise((done) => setTimeout(done, {}));\n\
         stream.write('second');\n\
         stream.end();\n\
         }});\n",
        PAUSE.as_millis()
    );
    let lines = "source = \"streaming\"\nhandler = \"index.handler\"\ntimeout = \"30s\"";
    App::new("streaming").file("streaming/index.mjs", code).function("streaming", lines)
}

#[tokio::test]
async fn a_streamed_answer_comes_as_it_is_written_and_ends_with_what_it_cost() {
    let platform = Platform::shared();
    need!(platform, "a_streamed_answer_comes_as_it_is_written_and_ends_with_what_it_cost", "node");
    platform.deploy(streaming().path()).await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(platform.request("/fn/default/streaming", None)).await.expect("an answer");
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(response.headers()["x-own"], "yes");
    assert!(!response.headers().contains_key("x-rouse-billed-ms"), "what it cost is not known yet");
    let mut body = response.into_body();
    let first = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
    assert_eq!(first, "first ");
    let begun = Instant::now();
    let rest = body.collect().await.expect("the rest");
    assert!(begun.elapsed() > PAUSE / 3, "the first part came only with the second: {:?}", begun.elapsed());
    let trailers = rest.trailers().expect("trailers").clone();
    assert_eq!(rest.to_bytes(), "second");
    let billed: u128 =
        trailers["x-rouse-billed-ms"].to_str().expect("text").parse().expect("billed milliseconds");
    assert!(billed >= PAUSE.as_millis(), "{billed}");
    assert!(trailers["server-timing"].to_str().expect("text").contains("run;dur="), "{trailers:?}");
}

#[tokio::test]
async fn a_call_whose_caller_leaves_is_ended_and_billed_as_cancelled() {
    let platform = Platform::start();
    need!(platform, "a_call_whose_caller_leaves_is_ended_and_billed_as_cancelled", "python");
    let app =
        App::new("left").python("left", "print('begun', flush=True)\ntime.sleep(600)", "timeout = \"15m\"");
    platform.deploy(app.path()).await;
    {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut call = std::pin::pin!(client.request(platform.request("/fn/default/left", None)));
        let begun = async {
            wait_for("it runs", Duration::from_secs(30), async || {
                platform.rouse(&["logs", "left"]).await.out.contains("begun")
            })
            .await;
        };
        tokio::select! {
            answer = &mut call => panic!("it answered: {answer:?}"),
            () = begun => {}
        }
    }
    wait_for("its processes are gone", Duration::from_secs(30), async || platform.functions().is_empty())
        .await;
    wait_for("it is on the bill", Duration::from_secs(30), async || {
        platform.json(&["usage"]).await["total"]["invocations"] == 1
    })
    .await;
    let total = platform.json(&["usage"]).await["total"].clone();
    assert_eq!(total["errors"], 1, "{total}");
    let metrics = platform.metrics().await;
    let cancelled = metrics.lines().find(|line| {
        line.starts_with("rouse_node_invocations_total") && line.contains("outcome=\"cancelled\"")
    });
    assert!(cancelled.is_some_and(|line| line.ends_with(" 1")), "{cancelled:?} in\n{metrics}");
}
