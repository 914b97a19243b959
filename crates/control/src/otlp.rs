//! Traces, exported by OTLP over HTTP in JSON (OpenTelemetry Protocol 1.x) when an endpoint is set.
//!
//! ```text
//!  usage journal ──read each second──▶ spans (pure) ──POST /v1/traces──▶ collector
//! ```
//!
//! Off the path of calls: whoever runs them writes one usage record as always, and spans are made of it here. The
//! journal is the buffer: while the collector is away nothing is read further, so memory stays as it is. Spans are
//! telemetry, not money: what is written while control is away, or refused again and again, is not sent.

mod spans;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use rouse_api::wire::{Address, Timeouts, exchange};
use rouse_store::journal::{Batch, Reader};
use rouse_types::Usage;
use tokio_util::sync::CancellationToken;

use crate::control::Control;

/// How often the journal is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// Invocations of one request: five spans each, some 2 KiB of JSON.
const BATCH_MAX: usize = 500;
/// How often one batch is tried, with pauses of 1, 2 and 4 seconds between.
const TRIES: u32 = 4;
/// The longest pause that a collector may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// A collector answers at once; one that does not is as one that is away.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(3), head: Duration::from_secs(10), idle: Duration::from_secs(3) };

/// Where traces go.
#[derive(Clone)]
pub struct Otlp {
    authority: String,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Otlp {
    /// The endpoint of a collector, such as `http://127.0.0.1:4318`, to which `/v1/traces` is added; and headers as
    /// `name=value,name=value`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right, in words.
    pub fn new(endpoint: &str, headers: &str) -> Result<Self, String> {
        let rest = endpoint.strip_prefix("http://").ok_or_else(|| {
            format!("'{endpoint}' is no endpoint: plain http:// to a collector on this machine or network is what works today")
        })?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let wrong =
            || format!("'{endpoint}' is no endpoint: write http://host:port, such as http://127.0.0.1:4318");
        let authority: http::uri::Authority = host.parse().map_err(|_| wrong())?;
        let authority = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(4318));
        let path = format!("/{}/v1/traces", path.trim_matches('/')).replace("//", "/");
        path.parse::<http::uri::PathAndQuery>().map_err(|_| wrong())?;
        let pairs = headers.split(',').filter(|pair| !pair.trim().is_empty());
        let headers = pairs.map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
        });
        let headers = headers.collect::<Option<_>>().ok_or("headers are written name=value,name=value")?;
        Ok(Self { authority, path, headers })
    }

    fn request(&self, json: String) -> Request<Full<bytes::Bytes>> {
        let mut request = Request::new(Full::new(json.into()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        request.headers_mut().extend(self.headers.iter().cloned());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    /// One try. Nothing is read of the answer but its head.
    async fn try_once(&self, json: &str) -> Tried {
        match exchange(&Address::Tcp(self.authority.clone()), self.request(json.to_owned()), TIMEOUTS).await {
            Ok(answer) if answer.status().is_success() => Tried::Taken,
            Ok(answer) => match answer.status() {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => {
                    let after = answer.headers().get(header::RETRY_AFTER);
                    let seconds = after.and_then(|value| value.to_str().ok()?.parse().ok());
                    Tried::Later(seconds.map(Duration::from_secs))
                }
                status => Tried::Refused(status),
            },
            Err(error) => {
                tracing::debug!(%error, "the collector of traces is away");
                Tried::Later(None)
            }
        }
    }
}

enum Tried {
    Taken,
    Refused(StatusCode),
    Later(Option<Duration>),
}

/// The pause after a try that failed for now: what the collector asked for, or twice the last one.
fn pause(tried: u32, asked: Option<Duration>) -> Duration {
    asked.map_or_else(|| Duration::from_secs(1 << tried.min(10)), |asked| asked.min(RETRY_AFTER_MAX))
}

/// Follows the usage journal from where the ledger stands, and sends what it finds.
pub(crate) async fn follow(control: Arc<Control>, otlp: Otlp, stop: CancellationToken) {
    let from = control.usage.cursor().await.unwrap_or_default();
    let mut reader = Reader::open(&control.config.state.join("journal/usage"), from);
    let mut caught_up = true;
    loop {
        if caught_up && stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
        let read = tokio::task::spawn_blocking(move || {
            let batch = reader.read(BATCH_MAX);
            (reader, batch)
        });
        let Ok((same, batch)) = read.await else { return };
        reader = same;
        let batch = batch.unwrap_or_else(|error| {
            tracing::warn!(%error, "the usage journal cannot be read for traces");
            Batch { caught_up: true, ..Batch::default() }
        });
        caught_up = batch.caught_up;
        // What cannot be read is the ledger's to tell of.
        let payloads = batch.records.iter().filter_map(|record| Usage::read(&record.payload).ok());
        let usages: Vec<Usage> = payloads.filter(spans::is_sampled).collect();
        if usages.is_empty() {
            continue;
        }
        let json = spans::encode(&usages).to_string();
        let Some(sent) = stop.run_until_cancelled(send(&otlp, &json)).await else { return };
        control.metrics.exported(sent, usages.len());
    }
}

/// Sends one batch; whether it was taken in the end.
async fn send(otlp: &Otlp, json: &str) -> bool {
    for tried in 0..TRIES {
        match otlp.try_once(json).await {
            Tried::Taken => return true,
            Tried::Refused(status) => {
                tracing::warn!(%status, "the collector refuses traces; they are dropped");
                return false;
            }
            Tried::Later(_) if tried + 1 == TRIES => break,
            Tried::Later(asked) => tokio::time::sleep(pause(tried, asked)).await,
        }
    }
    tracing::warn!("the collector of traces is away; a batch is dropped");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_and_a_wrong_one_is_told() {
        let otlp = Otlp::new("http://collector/prefix/", "a=b, c=d").expect("an endpoint");
        assert_eq!((otlp.authority.as_str(), otlp.path.as_str()), ("collector:4318", "/prefix/v1/traces"));
        assert_eq!(otlp.headers.len(), 2);
        assert_eq!(Otlp::new("http://127.0.0.1:9", "").expect("an endpoint").path, "/v1/traces");
        for (endpoint, headers) in
            [("https://x", ""), ("x:4318", ""), ("http://", ""), ("http://x", "novalue")]
        {
            assert!(Otlp::new(endpoint, headers).is_err(), "{endpoint} {headers}");
        }
    }

    #[test]
    fn pauses_double_and_a_collector_may_ask_for_another() {
        assert_eq!([0, 1, 2].map(|tried| pause(tried, None).as_secs()), [1, 2, 4]);
        assert_eq!(pause(0, Some(Duration::from_secs(7))).as_secs(), 7);
        assert_eq!(pause(0, Some(Duration::from_secs(9_999))), RETRY_AFTER_MAX);
    }
}
