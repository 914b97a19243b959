//! Work for the CPU: as many rounds as the query says.

use std::hint::black_box;

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

struct Spin;

wasip2::http::proxy::export!(Spin);

impl Guest for Spin {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let rounds = path.rsplit('=').next().and_then(|rounds| rounds.parse::<u64>().ok()).unwrap_or_default();
        let mut sum = 0u64;
        for round in 0..rounds {
            sum = black_box(sum.rotate_left(7) ^ round);
        }
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(format!("{sum}\n").as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
