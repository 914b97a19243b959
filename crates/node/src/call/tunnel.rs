//! A connection that became another protocol (RFC 9110 §7.8), as WebSockets do: bytes pass both ways, and the call
//! lasts until it ends.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rouse_contract::{
    http::AnswerBody,
    lambda::{self, http_answer::Head},
};
use rouse_sandbox::Sandbox;
use rouse_types::Code;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Ended, Fate,
    account::Account,
    end::{End, failed},
};
use crate::job::Reply;

/// A tunnel without a byte for this long is closed, at the latest after twice as long: one end is gone, and nobody
/// told. Browsers and servers that want to keep a quiet one open send a ping each half a minute or so.
const IDLE: Duration = Duration::from_secs(120);
/// Bytes that are read at once, each way.
const BUFFER_BYTES: usize = 16 << 10;

/// Answers that the protocol changes, and passes bytes until either end closes.
pub(super) async fn run<S: Sandbox>(
    mut account: Account<'_, S>,
    mut response: Response<AnswerBody>,
    caller: Option<OnUpgrade>,
    reply: oneshot::Sender<Reply>,
    deadline: Instant,
) -> Ended {
    let place = account.place;
    let code = hyper::upgrade::on(&mut response);
    let (head, _body) = response.into_parts();
    let head = Head { status: head.status, headers: head.headers };
    let (inward, outward) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = match caller {
        None => End::error(
            Code::InvalidResponse,
            format!("{} changed the protocol, and nobody had asked for it", place.version.key()),
        ),
        Some(caller) => {
            if reply.send(Reply::Switched(head)).is_err() {
                let closed = account.close(End::CANCELLED.outcome);
                return closed.ended(Fate::Reusable);
            }
            let mut over = place.around.over.subscribe();
            let end = tokio::select! {
                // An end that breaks is an end as any other: who closes a page says no word.
                _ = pass(caller, code, &inward, &outward) => End::OK,
                () = idle(&inward, &outward) => End::OK,
                _ = over.wait_for(|over| *over) => End::CANCELLED,
                () = sleep_until(deadline) => failed(place, lambda::Failure::Timeout),
            };
            account.usage.bytes_in = inward.into_inner();
            account.usage.bytes_out = outward.into_inner();
            if let Some(refusal) = &end.refusal {
                place.around.say(&place.version, Some(account.usage.id), refusal.message.clone());
            }
            // The code sees its connection close, and is done with it.
            return account.close(end.outcome).ended(Fate::Reusable);
        }
    };
    end.say(&place.around, account.usage.id, &place.version);
    let closed = account.close(end.outcome);
    let (refusal, fate) = end.told();
    drop(reply.send(Reply::Failed(refusal, closed.head.clone())));
    closed.ended(fate)
}

async fn pass(
    caller: OnUpgrade,
    code: OnUpgrade,
    inward: &AtomicU64,
    outward: &AtomicU64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (caller, code) = tokio::try_join!(caller, code)?;
    let (from_caller, to_caller) = split(TokioIo::new(caller));
    let (from_code, to_code) = split(TokioIo::new(code));
    tokio::try_join!(one_way(from_caller, to_code, inward), one_way(from_code, to_caller, outward))?;
    Ok(())
}

/// Passes bytes until their end, and then the end.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passed: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..bytes]).await?;
        passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Waits until nothing has passed for a while.
async fn idle(inward: &AtomicU64, outward: &AtomicU64) {
    let passed = || (inward.load(Ordering::Relaxed), outward.load(Ordering::Relaxed));
    loop {
        let before = passed();
        sleep(IDLE).await;
        if passed() == before {
            return;
        }
    }
}
