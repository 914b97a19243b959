//! Leases: who alone does something at the moment, and a number that tells a later holder from an earlier one.
//!
//! ```text
//!   free ──acquire──▶ held ──renew──▶ held
//!     ▲                 │
//!     └── released, or not renewed in time: the engine drops the message
//! ```
//!
//! A lease is the message of a subject with a time to live, written only over what its writer has seen. The number of
//! the acquisition is its **fence**: every later holder's is higher. A holder that was stopped and comes back may
//! believe that it still holds, so what it writes must be refused by what is written to: [`Fence`] does that for
//! records.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};

use super::{
    Cluster,
    stream::{Entry, Published, Spec, Stream},
};
use crate::{
    Error, Records,
    records::{Expect, Revision, Write},
};

/// The shortest and the longest time that a lease lasts without being renewed. The engine counts in seconds.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// See [`TTL_MIN`].
pub const TTL_MAX: Duration = Duration::from_secs(3_600);
/// What is said of a holder, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// All leases together.
const STREAM_BYTES_MAX: i64 = 64 << 20;
/// Where fences stand in records.
const FENCES: &str = "fences";

/// The leases of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases {
    stream: Stream,
}

/// A lease that was acquired.
#[derive(Debug, Clone)]
pub struct Lease {
    name: String,
    value: Vec<u8>,
    ttl: Duration,
    fence: u64,
    revision: u64,
    until: Instant,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The lease's name.
    pub name: String,
    /// What it says of itself.
    pub value: Vec<u8>,
    /// The number of its acquisition.
    pub fence: u64,
    revision: u64,
}

/// What came of acquiring.
#[derive(Debug)]
pub enum Acquired {
    /// It is ours.
    Held(Lease),
    /// Someone else holds it.
    Taken(Holder),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// None in the first message: its own number is the fence.
    fence: Option<u64>,
    value: Vec<u8>,
}

fn subject(name: &str) -> String {
    format!("rouse.lease.{name}")
}

impl Leases {
    /// The leases of a cluster; a first caller makes their stream.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Engine`].
    pub async fn open(cluster: &Cluster) -> Result<Self, Error> {
        let spec = Spec {
            name: "ROUSE_LEASES".to_owned(),
            subjects: vec!["rouse.lease.>".to_owned()],
            bytes_max: Some(STREAM_BYTES_MAX),
            last_only: true,
            may_expire: true,
        };
        Ok(Self { stream: Stream::open(cluster, &spec).await? })
    }

    /// What tells this cluster from others: random, made with it.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.stream.id
    }

    /// Takes a lease that is free. It is free again after `ttl`, in whole seconds, unless it is renewed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is out of bounds, [`Error::Away`], [`Error::Unknown`].
    pub async fn acquire(&self, name: &str, value: Vec<u8>, ttl: Duration) -> Result<Acquired, Error> {
        self.take_over(name, value, ttl, |_| false).await
    }

    /// Takes a lease that is free, or whose holder `is_ours`: this process, before it was started again.
    ///
    /// # Errors
    /// As [`Leases::acquire`].
    pub async fn take_over(
        &self,
        name: &str,
        value: Vec<u8>,
        ttl: Duration,
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Result<Acquired, Error> {
        check(name, &value, ttl)?;
        let (found, expected) = self.find(name).await?;
        if let Some(holder) = found.filter(|holder| !is_ours(&holder.value)) {
            return Ok(Acquired::Taken(holder));
        }
        let from = Instant::now();
        match self.write(name, None, &value, ttl, expected).await? {
            Published::At(revision) => Ok(Acquired::Held(Lease {
                name: name.to_owned(),
                value,
                ttl,
                fence: revision,
                revision,
                until: from + ttl,
            })),
            Published::Refused => match self.find(name).await? {
                // An acknowledgement that was lost on its way: it was this very write.
                (Some(holder), revision) if holder.value == value => Ok(Acquired::Held(Lease {
                    name: name.to_owned(),
                    value,
                    ttl,
                    fence: holder.fence,
                    revision,
                    until: from + ttl,
                })),
                (Some(holder), _) => Ok(Acquired::Taken(holder)),
                (None, _) => Err(Error::Away(format!("the lease {name} changed hands; try again"))),
            },
        }
    }

    /// Holds on to a lease for its time from now on. Tells whether it still held; else it is over for good.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Unknown`]: it may be tried again as long as [`Lease::holds`].
    pub async fn renew(&self, lease: &mut Lease) -> Result<bool, Error> {
        let from = Instant::now();
        let written =
            self.write(&lease.name, Some(lease.fence), &lease.value, lease.ttl, lease.revision).await?;
        let revision = match written {
            Published::At(revision) => revision,
            // A renewal whose acknowledgement was lost is seen by its fence.
            Published::Refused => match self.find(&lease.name).await? {
                (Some(holder), revision) if holder.fence == lease.fence => revision,
                _ => return Ok(false),
            },
        };
        lease.revision = revision;
        lease.until = from + lease.ttl;
        Ok(true)
    }

    /// Gives a lease back. One that is over already is no error.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Unknown`].
    pub async fn release(&self, lease: Lease) -> Result<(), Error> {
        let headers = headers(TTL_MIN, lease.revision);
        self.stream.publish(&subject(&lease.name), headers, bytes::Bytes::new()).await.map(drop)
    }

    /// Who holds a lease.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn holder(&self, name: &str) -> Result<Option<Holder>, Error> {
        check(name, &[], TTL_MIN)?;
        Ok(self.find(name).await?.0)
    }

    /// Who holds the leases whose names are `prefix`, a dot and one more word, in no order.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn holders(&self, prefix: &str) -> Result<Vec<Holder>, Error> {
        check(prefix, &[], TTL_MIN)?;
        let (mut found, mut from) = (Vec::new(), 1);
        let filter = format!("{}.*", subject(prefix));
        while let Some(entry) = self.stream.next(from, &filter).await? {
            from = entry.sequence + 1;
            found.extend(read(&entry)?);
        }
        Ok(found)
    }

    /// The holder, and the revision that a writer must expect.
    async fn find(&self, name: &str) -> Result<(Option<Holder>, u64), Error> {
        match self.stream.last(&subject(name)).await? {
            Some(entry) => Ok((read(&entry)?, entry.sequence)),
            None => Ok((None, 0)),
        }
    }

    async fn write(
        &self,
        name: &str,
        fence: Option<u64>,
        value: &[u8],
        ttl: Duration,
        expected: u64,
    ) -> Result<Published, Error> {
        let body = serde_json::to_vec(&Body { fence, value: value.to_vec() });
        let body = body.map_err(|error| Error::Invalid(format!("the lease {name}: {error}")))?;
        self.stream.publish(&subject(name), headers(ttl, expected), body.into()).await
    }
}

fn headers(ttl: Duration, expected: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-TTL", format!("{}s", ttl.as_secs()));
    headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
    headers
}

/// None for one that was given back.
fn read(entry: &Entry) -> Result<Option<Holder>, Error> {
    if entry.payload.is_empty() {
        return Ok(None);
    }
    let name = entry.subject.strip_prefix("rouse.lease.").unwrap_or_default().to_owned();
    let body: Body = serde_json::from_slice(&entry.payload).map_err(|error| {
        Error::Engine(format!("the lease {name} cannot be read: {error}; use a later release"))
    })?;
    let fence = body.fence.unwrap_or(entry.sequence);
    Ok(Some(Holder { name, value: body.value, fence, revision: entry.sequence }))
}

fn check(name: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let words = name.split('.').all(|word| !word.is_empty());
    if name.len() > 128 || !name.bytes().all(plain) || !words {
        return Err(Error::Invalid(format!(
            "'{}' is not a lease's name: use 1 to 128 letters, digits, '-' and '_', and single dots between them",
            name.chars().take(80).collect::<String>()
        )));
    }
    if value.len() > VALUE_BYTES_MAX || !(TTL_MIN..=TTL_MAX).contains(&ttl) || ttl.subsec_nanos() != 0 {
        return Err(Error::Invalid(format!(
            "the lease {name}: at most {VALUE_BYTES_MAX} bytes, for 1 to {} whole seconds",
            TTL_MAX.as_secs()
        )));
    }
    Ok(())
}

impl Holder {
    /// The number of the message that says so: it changes with each renewal.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl Lease {
    /// Changes what is said of the holder, from the next renewal on.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is too long.
    pub fn say(&mut self, value: Vec<u8>) -> Result<(), Error> {
        check(&self.name, &value, self.ttl)?;
        self.value = value;
        Ok(())
    }

    /// The number of its acquisition, higher than that of every holder before.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether it can still be ours, by this machine's clock that only goes forward: counted from before it was
    /// written, so that it is over here before it is over there. A process that was stopped must look again.
    #[must_use]
    pub fn holds(&self) -> bool {
        Instant::now() < self.until
    }
}

/// Writes records only as long as no later holder has begun to.
#[derive(Debug, Clone)]
pub struct Fence {
    records: Records,
    name: String,
    fence: u64,
    revision: Revision,
}

impl Fence {
    /// Begins to write under a lease: from now on, holders before are refused.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a later holder has begun already.
    pub async fn raise(records: &Records, lease: &Lease) -> Result<Self, Error> {
        let (name, fence) = (lease.name.clone(), lease.fence);
        loop {
            records.catch_up().await?;
            let found = records.get(FENCES, &name).await?;
            let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::At(found.revision));
            let at = found.as_ref().map_or(0, |found| number(&found.value));
            if at > fence {
                let found = found.map(|found| found.revision);
                return Err(Error::Conflict {
                    namespace: FENCES.to_owned(),
                    key: name,
                    expected: None,
                    found,
                });
            }
            let write = Write {
                namespace: FENCES.to_owned(),
                key: name.clone(),
                expect,
                value: Some(fence.to_string().into_bytes()),
            };
            match records.commit(vec![write]).await {
                Ok(revision) => return Ok(Self { records: records.clone(), name, fence, revision }),
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes all writes or none, as [`Records::commit`], and none once a later holder has begun.
    ///
    /// # Errors
    /// [`Error::Conflict`] of the namespace `fences` if this holder's time is over.
    pub async fn commit(&mut self, mut writes: Vec<Write>) -> Result<Revision, Error> {
        // Last, so that the revision of the transaction is that of the fence.
        writes.push(Write {
            namespace: FENCES.to_owned(),
            key: self.name.clone(),
            expect: Expect::At(self.revision),
            value: Some(self.fence.to_string().into_bytes()),
        });
        self.revision = self.records.commit(writes).await?;
        Ok(self.revision)
    }
}

/// What is not a number stands above all: nobody goes on over what this release cannot read.
fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}
