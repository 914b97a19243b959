//! A part of a bucket of any S3 for what is no object of a tenant's: backups.

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, aws::AmazonS3, path::Path as Key};

use super::{
    Error,
    files::connect,
    place::{Credentials, S3Place},
};

/// A bucket's prefix.
#[derive(Debug)]
pub struct Depot {
    store: AmazonS3,
    prefix: String,
}

impl Depot {
    /// Does not speak to it yet.
    ///
    /// # Errors
    /// [`Error::Place`] if it cannot be spoken to.
    pub fn open(place: &S3Place, credentials: &Credentials) -> Result<Self, Error> {
        Ok(Self { store: connect(place, credentials)?, prefix: place.prefix.clone() })
    }

    /// Puts at most 8 MiB under a name, instead of what is there.
    ///
    /// # Errors
    /// [`Error::Away`] if the store does not take them, after some tries.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let put = self.store.put(&self.key(name), bytes.into()).await;
        put.map(drop).map_err(|error| Error::Away { action: "write", source: Box::new(error) })
    }

    /// What is under a name, at most 8 MiB.
    ///
    /// # Errors
    /// [`Error::Away`] if the store does not answer as it should, after some tries.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let failed = |error| Error::Away { action: "read", source: Box::new(error) };
        match self.store.get(&self.key(name)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn key(&self, name: &str) -> Key {
        Key::from(format!("{}{name}", self.prefix))
    }
}
