//! `InvokeWithResponseStream`: an answer passed on piece by piece, in AWS' event stream encoding.
//!
//! Source: AWS documentation, "Event stream encoding" (Amazon Transcribe Developer Guide; Smithy specification,
//! `application/vnd.amazon.eventstream`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use rouse_api::wire::Answer;
use rouse_types::{
    LambdaCall,
    invocation::{ERROR_HEADER, FUNCTION_ERROR_HEADER, ID_HEADER},
};
use serde_json::{Value, json};

use super::{
    config::platform_alias,
    invoke::{self, checked, put},
    op::Op,
};
use crate::{Body, error::AwsError, logs, names};

/// The largest piece of one event: what AWS' clients take is 16 MiB.
const PIECE_BYTES_MAX: usize = 1 << 20;

impl Op<'_> {
    pub(crate) async fn invoke_with_response_stream(
        &self,
        payload: Bytes,
    ) -> Result<Response<Body>, AwsError> {
        let payload = checked(payload)?;
        let reached = self.reach().await?;
        if self.text("InvocationType") == Some("DryRun") {
            let mut response = Response::new(crate::server::body_of(""));
            *response.status_mut() = http::StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let client_context = self.text("ClientContext").map(str::to_owned);
        let call = LambdaCall { arn: reached.arn.clone(), client_context };
        let (function, alias) = (names::platform(&reached.name), platform_alias(&reached.version));
        let tenant = &self.around.scope.tenant;
        let answer = self.face.platform.invoke(tenant, &function, &alias, &call, payload).await;
        let answer = answer.map_err(|refusal| invoke::error(&reached, &refusal))?;
        let (head, body) = answer.into_parts();
        let text =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (id, kind) = (text(ID_HEADER).unwrap_or_default(), text("content-type"));
        let failed = text(FUNCTION_ERROR_HEADER).is_some() || text(ERROR_HEADER).is_some();
        let body = if failed {
            // What failed before its first byte is held whole already, and small.
            let outcome = Box::pin(invoke::whole(&reached, Response::from_parts(head, body))).await?;
            let told: Value = serde_json::from_slice(&outcome.payload).unwrap_or_default();
            let kind = told.get("errorType").and_then(Value::as_str).unwrap_or("Unhandled").to_owned();
            let details = String::from_utf8_lossy(&outcome.payload).into_owned();
            crate::server::body_of(complete(&json!({ "ErrorCode": kind, "ErrorDetails": details })))
        } else {
            let tail = (self.text("LogType") == Some("Tail")).then(|| {
                let (face, around, reached) =
                    (std::sync::Arc::clone(self.face), self.around.clone(), reached.clone());
                let id = id.clone();
                Box::pin(async move {
                    let outcome = invoke::Outcome {
                        id,
                        billed_ms: 0,
                        payload: Bytes::new(),
                        failed: false,
                        run_us: 0,
                        init_us: None,
                    };
                    logs::tail(&face, &around, &reached, &outcome).await
                }) as Tail
            });
            let begun = Passing { body: Some(body), tail, left: Bytes::new() };
            StreamBody::new(stream::unfold(begun, Passing::next)).boxed_unsync()
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.amazon.eventstream"));
        put(headers, "x-amz-executed-version", &reached.version);
        put(headers, "x-amzn-requestid", &id);
        if let Some(kind) = kind {
            put(headers, "x-amzn-remapped-content-type", &kind);
        }
        Ok(response)
    }
}

type Tail = std::pin::Pin<Box<dyn Future<Output = String> + Send>>;

/// An answer on its way.
struct Passing {
    /// None once its end was told.
    body: Option<Answer>,
    tail: Option<Tail>,
    /// What did not fit into the last event.
    left: Bytes,
}

impl Passing {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, std::io::Error>, Self)> {
        if !self.left.is_empty() {
            let piece = self.left.split_to(self.left.len().min(PIECE_BYTES_MAX));
            return Some((Ok(Frame::data(chunk(&piece))), self));
        }
        let body = self.body.as_mut()?;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if data.is_empty() {
                        continue;
                    }
                    self.left = data;
                    let piece = self.left.split_to(self.left.len().min(PIECE_BYTES_MAX));
                    return Some((Ok(Frame::data(chunk(&piece))), self));
                }
                Some(Err(error)) => {
                    self.body = None;
                    let text = "The function failed after it had begun to answer";
                    tracing::debug!(%error, "a streamed answer broke off");
                    let told = json!({ "ErrorCode": "Unhandled", "ErrorDetails": text });
                    return Some((Ok(Frame::data(complete(&told))), self));
                }
                None => {
                    self.body = None;
                    let told = match self.tail.take() {
                        Some(tail) => json!({ "LogResult": STANDARD.encode(tail.await) }),
                        None => json!({}),
                    };
                    return Some((Ok(Frame::data(complete(&told))), self));
                }
            }
        }
    }
}

fn chunk(payload: &[u8]) -> Bytes {
    event("PayloadChunk", "application/octet-stream", payload)
}

fn complete(told: &Value) -> Bytes {
    event("InvokeComplete", "application/json", told.to_string().as_bytes())
}

/// One event: lengths, their checksum, headers, payload, the checksum of all.
fn event(kind: &str, content_type: &str, payload: &[u8]) -> Bytes {
    /// The type of a header whose value is a text.
    const TEXT: u8 = 7;
    let mut headers = BytesMut::new();
    for (name, value) in [(":event-type", kind), (":content-type", content_type), (":message-type", "event")]
    {
        headers.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        headers.put_slice(value.as_bytes());
    }
    let total = 12 + headers.len() + payload.len() + 4;
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(headers.len()).unwrap_or(u32::MAX));
    let checksum = crc32fast::hash(&out);
    out.put_u32(checksum);
    out.put_slice(&headers);
    out.put_slice(payload);
    let checksum = crc32fast::hash(&out);
    out.put_u32(checksum);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_framed_with_both_checksums() {
        let event = event("PayloadChunk", "application/octet-stream", b"hello");
        let word = |at: usize| u32::from_be_bytes(event[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(word(0) as usize, event.len());
        assert_eq!(word(8), crc32fast::hash(&event[..8]));
        assert_eq!(word(event.len() - 4), crc32fast::hash(&event[..event.len() - 4]));
        assert_eq!(&event[12 + word(4) as usize..event.len() - 4], b"hello");
    }
}
