//! A component of `wasi:http` 0.3: answers its path, or a body that comes in pieces after the head.

use wasip3::{
    http::types::{ErrorCode, Fields, Request, Response},
    wit_bindgen, wit_future, wit_stream,
};

wasip3::http::service::export!(Probe);

struct Probe;

impl wasip3::exports::http::handler::Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        if target == "/panic" {
            panic!("asked to panic");
        }
        if target == "/error" {
            return Err(ErrorCode::InternalError(Some("asked to fail".to_owned())));
        }
        let (mut body, contents) = wit_stream::new();
        let (ended, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers);
        drop(ended);
        wit_bindgen::spawn_local(async move {
            if target == "/pieces" {
                for piece in ["one ", "two ", "three"] {
                    wasip3::clocks::monotonic_clock::wait_for(50_000_000).await;
                    body.write_all(piece.as_bytes().to_vec()).await;
                }
            } else {
                body.write_all(target.into_bytes()).await;
            }
        });
        Ok(response)
    }
}
