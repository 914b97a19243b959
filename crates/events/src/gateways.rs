//! The gateways, through which functions are called: the least busy first, another when one is gone.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rouse_api::wire::{self, Address, Answer, Timeouts};

/// The longest time-out of a function, and the wait for its turn and its start.
const CALL: Duration = Duration::from_secs(3_600 + 120);
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(1), head: CALL, idle: CALL };

#[derive(Debug)]
struct Gateway {
    socket: PathBuf,
    busy: AtomicUsize,
}

/// The gateways of this machine.
#[derive(Debug)]
pub(crate) struct Gateways {
    all: Vec<Gateway>,
    turn: AtomicUsize,
}

/// Counts a call while it lasts.
struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gateways {
    pub(crate) fn new(state: &Path, count: usize) -> Self {
        let socket = |index| state.join("run").join(format!("gateway-{index}.sock"));
        let all = (0..count).map(|index| Gateway { socket: socket(index), busy: AtomicUsize::new(0) });
        Self { all: all.collect(), turn: AtomicUsize::new(0) }
    }

    /// Sends a request to one of them, and reads the answer by `read`. Only a request that never left is sent to
    /// another one.
    ///
    /// # Errors
    /// [`wire::Error::Connect`] if none is there; else the request may have had its effect.
    pub(crate) async fn call<T>(
        &self,
        request: &Request<Bytes>,
        read: impl AsyncFnOnce(Response<Answer>) -> Result<T, wire::Error>,
    ) -> Result<T, wire::Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<&Gateway> = self.all.iter().collect();
        let middle = turn % order.len().max(1);
        order.rotate_left(middle);
        // Stable: of equally busy ones the one whose turn it is.
        order.sort_by_key(|gateway| gateway.busy.load(Ordering::Relaxed));
        let mut last = None;
        for gateway in order {
            gateway.busy.fetch_add(1, Ordering::Relaxed);
            let _busy = Busy(&gateway.busy);
            let address = Address::Unix(gateway.socket.clone());
            let sent = request.clone().map(Full::new);
            match Box::pin(wire::exchange(&address, sent, TIMEOUTS)).await {
                Ok(answer) => return read(answer).await,
                Err(error @ wire::Error::Connect { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| wire::Error::Connect {
            address: Address::Unix(PathBuf::new()),
            source: std::io::ErrorKind::NotFound.into(),
        }))
    }
}
