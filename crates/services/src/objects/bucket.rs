//! Buckets: of one tenant each, made and deleted, never shared.

use rouse_store::records::Expect;
use rouse_types::Timestamp;

use super::{
    Caller, Error, Objects, name,
    record::{self, BUCKETS, BucketRecord, OBJECTS, UPLOADS},
};

/// Buckets of one tenant: they are listed at once.
const BUCKETS_MAX: usize = 1_000;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

impl Objects {
    /// Makes a bucket.
    ///
    /// # Errors
    /// [`Error::BucketExists`], [`Error::InvalidBucketName`], [`Error::TooManyBuckets`].
    pub async fn create_bucket(&self, caller: &Caller, bucket: &str) -> Result<(), Error> {
        name::check_bucket(bucket)?;
        let _buckets = self.0.buckets.write().await;
        if self.buckets(caller).await?.len() >= BUCKETS_MAX {
            return Err(Error::TooManyBuckets(BUCKETS_MAX));
        }
        let value = BucketRecord { created: self.0.clock.now() };
        let key = record::bucket_key(&caller.tenant, bucket);
        let write = record::write(BUCKETS, key, Expect::Absent, Some(&value))?;
        match self.0.records.commit(vec![write]).await {
            Ok(_) => Ok(()),
            Err(rouse_store::Error::Conflict { .. }) => Err(Error::BucketExists(bucket.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// The tenant's buckets, by name.
    ///
    /// # Errors
    /// What the store says.
    pub async fn buckets(&self, caller: &Caller) -> Result<Vec<Bucket>, Error> {
        let prefix = record::bucket_key(&caller.tenant, "");
        let page = self.0.records.scan(BUCKETS, &prefix, None, BUCKETS_MAX).await?;
        let bucket = |found| {
            let BucketRecord { created } = record::read(found)?;
            Ok(Bucket { name: found.key[prefix.len()..].to_owned(), created })
        };
        page.records.iter().map(bucket).collect()
    }

    /// A bucket, if it is there.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn head_bucket(&self, caller: &Caller, bucket: &str) -> Result<Bucket, Error> {
        let BucketRecord { created } = self.0.bucket(caller, bucket).await?;
        Ok(Bucket { name: bucket.to_owned(), created })
    }

    /// Deletes an empty bucket.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::BucketNotEmpty`].
    pub async fn delete_bucket(&self, caller: &Caller, bucket: &str) -> Result<(), Error> {
        // Nothing is put into a bucket meanwhile.
        let _buckets = self.0.buckets.write().await;
        self.0.bucket(caller, bucket).await?;
        let key = record::bucket_key(&caller.tenant, bucket);
        for namespace in [OBJECTS, UPLOADS] {
            let page = self.0.records.scan(namespace, &format!("{key}/"), None, 1).await?;
            if !page.records.is_empty() {
                return Err(Error::BucketNotEmpty(bucket.to_owned()));
            }
        }
        self.0.records.commit(vec![record::delete(BUCKETS, key, Expect::Any)]).await?;
        Ok(())
    }
}
