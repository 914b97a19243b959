//! Hands what the outbox holds to the process of events, which answers once what follows from it is on the disk; only
//! then is it forgotten here. A crash between the two hands it over once more, under the same numbers, by which the other
//! side knows it again.
//!
//! ```text
//!  wait for the outbox ─▶ POST /objects ─▶ answered ─▶ forget ─▶ …
//!                              └─ not ─▶ pause, then the same again
//! ```

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use rouse_api::wire::{self, Address, Timeouts};
use rouse_types::{ObjectEvent, object::EVENTS_AT_ONCE_MAX};
use tokio_util::sync::CancellationToken;

use crate::objects::Outbox;

const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(1), head: Duration::from_secs(30), idle: Duration::from_secs(5) };
/// The pause after a first failure, and the longest one.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const WORTH_SAYING: Duration = Duration::from_secs(2);

/// Runs until told to stop.
pub(crate) async fn run(outbox: &Outbox, events: &Path, stop: &CancellationToken) {
    let mut shown = outbox.watch();
    let mut pause = Duration::ZERO;
    while !stop.is_cancelled() {
        shown.mark_unchanged();
        match step(outbox, events).await {
            Ok(true) => pause = Duration::ZERO,
            Ok(false) => {
                pause = Duration::ZERO;
                let _ = stop.run_until_cancelled(shown.changed()).await;
            }
            Err(error) => {
                // Said once, when it is no mere restart of the other side any more.
                if pause < WORTH_SAYING && pause * 2 >= WORTH_SAYING {
                    tracing::warn!(
                        error,
                        waiting = outbox.waiting(),
                        "events of objects wait to be delivered"
                    );
                }
                pause = (pause * 2).clamp(PAUSE, PAUSE_MAX);
                let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }
}

/// Hands over what is there, up to a bound; tells whether there was anything.
async fn step(outbox: &Outbox, socket: &Path) -> Result<bool, String> {
    let events = outbox.pending(0, EVENTS_AT_ONCE_MAX).await.map_err(|error| error.to_string())?;
    let Some(last) = events.last().map(|event| event.sequence) else { return Ok(false) };
    hand_over(&events, socket).await?;
    outbox.done(last).await.map_err(|error| error.to_string())?;
    Ok(true)
}

async fn hand_over(events: &[ObjectEvent], socket: &Path) -> Result<(), String> {
    let body = serde_json::to_vec(events).map_err(|error| error.to_string())?;
    let request = Request::post("/objects")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let address = Address::Unix(socket.to_owned());
    let answer = Box::pin(wire::exchange(&address, request, TIMEOUTS)).await;
    match answer.map_err(|error| error.to_string())?.status() {
        StatusCode::NO_CONTENT => Ok(()),
        status => Err(format!("the process of events answered {status}")),
    }
}
