//! All that the face holds while it runs, and what a request knows of its surroundings.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ring::rand::SecureRandom as _;
use rouse_store::Blobs;
use rouse_types::{Digest, Timestamp};
use tokio_util::task::TaskTracker;

use crate::{Config, Error, error::AwsError, names::Scope, platform::Platform, state::Store};

/// Disk that code leaves free, so that journals and records have room.
const RESERVE_BYTES: u64 = 256 << 20;

/// The process' state, shared by all that it does.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) config: Config,
    pub(crate) store: Store,
    /// Code as it was uploaded: clients may ask for it again.
    pub(crate) blobs: Blobs,
    pub(crate) platform: Platform,
    /// What goes on when the request that began it has been answered.
    pub(crate) tasks: TaskTracker,
    /// Functions that are being put on the platform, each by one task at a time.
    pub(crate) activating: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Signs addresses of code, for as long as this process lives.
    pub(crate) secret: ring::hmac::Key,
}

/// What surrounds one request.
#[derive(Debug, Clone)]
pub(crate) struct Around {
    pub(crate) scope: Scope,
    /// How the client reaches us: `http://127.0.0.1:4566`.
    pub(crate) url: String,
    pub(crate) now: Timestamp,
}

impl Face {
    pub(crate) fn open(config: Config) -> Result<Arc<Self>, Error> {
        let folder = config.state.join("aws");
        std::fs::create_dir_all(&folder)
            .map_err(|source| Error::Io { action: "make the face's folder", source })?;
        let mut secret = [0; 32];
        ring::rand::SystemRandom::new().fill(&mut secret).map_err(|_| Error::Io {
            action: "ask for random numbers",
            source: std::io::Error::other("none"),
        })?;
        Ok(Arc::new(Self {
            store: Store::open(&folder.join("aws.db"))?,
            blobs: Blobs::open(&folder.join("code"), RESERVE_BYTES)?,
            platform: Platform::new(&config.state),
            tasks: TaskTracker::new(),
            activating: Mutex::default(),
            secret: ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret),
            config,
        }))
    }

    /// Whoever holds this puts the function of this key on the platform, and no one else.
    pub(crate) async fn activating(&self, key: String) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut known = self.activating.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(known.entry(key).or_default())
        };
        lock.lock_owned().await
    }

    /// Stores code, in a thread that may block.
    pub(crate) async fn keep(self: &Arc<Self>, bytes: bytes::Bytes) -> Result<Digest, AwsError> {
        let face = Arc::clone(self);
        let stored = tokio::task::spawn_blocking(move || face.blobs.put(&bytes, None)).await;
        stored.map_err(|error| AwsError::service(error.to_string()))?.map_err(crate::state::failed)
    }

    /// Code that was stored.
    pub(crate) async fn kept(self: &Arc<Self>, digest: Digest) -> Result<Option<Vec<u8>>, AwsError> {
        let face = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || face.blobs.get(&digest)).await;
        read.map_err(|error| AwsError::service(error.to_string()))?.map_err(crate::state::failed)
    }

    /// An address of code that is good for ten minutes, as AWS' are.
    pub(crate) fn code_url(&self, around: &Around, digest: &Digest) -> String {
        let expires = around.now.as_millis() / 1_000 + CODE_URL_AGE.as_secs();
        let hex = digest.hex();
        let signature = hex::encode(ring::hmac::sign(&self.secret, format!("{hex}/{expires}").as_bytes()));
        format!("{}/_rouse/code/{hex}?expires={expires}&signature={signature}", around.url)
    }

    /// Whether an address of code was made by us and is still good.
    pub(crate) fn code_url_is_good(&self, hex: &str, expires: &str, signature: &str) -> bool {
        let now = self.config.clock.now().as_millis() / 1_000;
        let given = hex::decode(signature).unwrap_or_default();
        expires.parse::<u64>().is_ok_and(|expires| expires >= now)
            && ring::hmac::verify(&self.secret, format!("{hex}/{expires}").as_bytes(), &given).is_ok()
    }
}

/// How long an address of code is good.
const CODE_URL_AGE: Duration = Duration::from_secs(600);

/// A random id in the form of a UUID of version 4 (RFC 9562 §5.4).
pub(crate) fn uuid() -> String {
    let mut bytes = [0; 16];
    // It fails on systems without random numbers only, which the start has refused.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    uuid::Uuid::from_bytes(bytes).to_string()
}

/// A time as Lambda writes it: `2026-01-01T00:00:00.000+0000`.
pub(crate) fn time(at: Timestamp) -> String {
    let ms = i64::try_from(at.as_millis()).unwrap_or_default();
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string())
}

/// A time as event source mappings have it: seconds since the epoch.
pub(crate) fn epoch(at: Timestamp) -> serde_json::Value {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds until the year 287396 are exact")]
    let seconds = at.as_millis() as f64 / 1_000.0;
    serde_json::Value::from(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_lambda_writes_them() {
        let at = Timestamp::from_millis(1_440_938_160_007);
        assert_eq!(time(at), "2015-08-30T12:36:00.007+0000");
        assert_eq!(time(Timestamp::from_millis(1_440_938_160_000)), "2015-08-30T12:36:00.000+0000");
        assert_eq!(epoch(at).to_string(), "1440938160.007");
        assert_eq!(uuid().len(), 36);
        assert_ne!(uuid(), uuid());
    }
}
