//! An answer that the Runtime API streams: passed on until it ends, the caller goes, or the time is up.

use bytes::Bytes;
use http::HeaderValue;
use http_body::Frame;
use rouse_contract::lambda::{Body, Failure, StreamEnd, http_answer::Head, prelude};
use rouse_sandbox::Sandbox;
use rouse_types::{Code, Source};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout},
};

use super::{
    EXPLAIN, Ended, Fate, PARTS_MAX, Place,
    account::Account,
    end::{End, broke_off, failed, invalid, raised, too_large},
};
use crate::job::Reply;

/// A streamed answer whose body follows.
pub(super) async fn answer<S: Sandbox>(
    mut account: Account<'_, S>,
    source: Source,
    (content_type, mut body): (Option<String>, Body),
    mut reply: oneshot::Sender<Reply>,
) -> Ended {
    let place = account.place;
    let begun = tokio::select! {
        begun = begin(place, &mut body, source, content_type) => begun,
        () = reply.closed() => Err(End::CANCELLED),
    };
    let (head, first) = match begun {
        Ok(begun) => begun,
        Err(end) => {
            let closed = account.close(end.outcome);
            if let Some(refusal) = end.refusal {
                drop(reply.send(Reply::Failed(refusal, closed.head.clone())));
            }
            // The rest of the stream was not read.
            return closed.ended(Fate::Spent);
        }
    };
    let (parts, receiver) = mpsc::channel(PARTS_MAX);
    let (tell, told) = oneshot::channel();
    let end = if reply.send(Reply::Streamed(head, receiver, told)).is_ok() {
        pass(place, &mut body, first, &parts, &mut account.usage.bytes_out).await
    } else {
        End::CANCELLED
    };
    if let Some(refusal) = &end.refusal {
        place.around.say(&place.version, Some(account.usage.id), refusal.message.clone());
    }
    let closed = account.close(end.outcome);
    drop(tell.send(closed.head.clone()));
    closed.ended(end.fate)
}

/// The head of a streamed answer, and what came of its body with it.
async fn begin<S: Sandbox>(
    place: &Place<S>,
    body: &mut Body,
    source: Source,
    content_type: Option<String>,
) -> Result<(Head, Bytes), End> {
    if source == Source::Invoke || content_type.as_deref() != Some(prelude::CONTENT_TYPE) {
        let octets = HeaderValue::from_static("application/octet-stream");
        let content_type = content_type.and_then(|text| HeaderValue::from_str(&text).ok());
        return Ok((Head::plain(content_type.unwrap_or(octets)), Bytes::new()));
    }
    let mut reader = prelude::Reader::default();
    loop {
        match body.chunk().await {
            Ok(Ok(data)) => match reader.push(&data) {
                Ok(Some(begun)) => return Ok(begun),
                Ok(None) => {}
                Err(error) => return Err(invalid(&place.version, &error)),
            },
            Ok(Err(end)) => {
                let end = ended(place, end).await;
                let headless =
                    || End::error(Code::InvalidResponse, "the stream ended before its head".into());
                return Err(if end.refusal.is_some() { end } else { headless() });
            }
            Err(failure) => return Err(failed(place, failure)),
        }
    }
}

async fn pass<S: Sandbox>(
    place: &Place<S>,
    body: &mut Body,
    first: Bytes,
    parts: &mpsc::Sender<Frame<Bytes>>,
    bytes_out: &mut u64,
) -> End {
    let mut data = first;
    loop {
        if !data.is_empty() {
            let bytes = data.len() as u64;
            tokio::select! {
                biased;
                sent = parts.send(Frame::data(data)) => if sent.is_err() { return End::CANCELLED },
                () = sleep_until(body.deadline()) => return failed(place, Failure::Timeout),
            }
            *bytes_out += bytes;
        }
        data = tokio::select! {
            biased;
            chunk = body.chunk() => match chunk {
                Ok(Ok(data)) => data,
                Ok(Err(end)) => return ended(place, end).await,
                Err(failure) => return failed(place, failure),
            },
            () = parts.closed() => return End::CANCELLED,
        };
    }
}

async fn ended<S: Sandbox>(place: &Place<S>, end: StreamEnd) -> End {
    let version = &place.version;
    match end {
        StreamEnd::Complete => End::OK,
        StreamEnd::Error(error) => raised(version, Source::Invoke, &error),
        StreamEnd::TooLarge(max) => End { fate: Fate::Spent, ..too_large(version, max) },
        StreamEnd::Broken => match timeout(EXPLAIN, place.worker.exited()).await {
            Ok(exit) => failed(place, Failure::Exited(exit)),
            Err(_) => broke_off(version),
        },
    }
}
