//! The words of `rouse bucket` and `rouse object`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Where `rouse serve` keeps the bytes of objects.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Objects")]
pub(crate) struct PlaceArgs {
    /// Keep the bytes of objects in a bucket of any S3, such as s3://bucket/prefix [default: below the state folder].
    #[arg(long, value_name = "URL")]
    pub(crate) objects: Option<String>,
    /// That S3's address, such as `https://s3.example.com` [default: AWS'].
    #[arg(long, value_name = "URL", requires = "objects")]
    pub(crate) objects_endpoint: Option<String>,
    /// The region that requests to it are signed for [default: us-east-1].
    #[arg(long, value_name = "REGION", requires = "objects")]
    pub(crate) objects_region: Option<String>,
    /// The file with its access key, as AWS' clients have it, mode 0600 [default: AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY].
    #[arg(long, value_name = "FILE", requires = "objects")]
    pub(crate) objects_credentials: Option<PathBuf>,
}

/// What `rouse bucket` takes.
#[derive(Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// List the buckets.
    List,
    /// Make a bucket; one that is there stays as it is.
    Create {
        /// Its name: 3 to 63 of a-z, 0-9, '-' and '.'.
        bucket: String,
    },
    /// Delete an empty bucket.
    Delete {
        /// Its name.
        bucket: String,
    },
}

/// What `rouse object` takes.
#[derive(Debug, Subcommand)]
pub(crate) enum ObjectCommand {
    /// List the objects of a bucket.
    Ls {
        /// The bucket.
        bucket: String,
        /// Only keys that begin so.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Put a file as an object.
    Put {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
        /// The file.
        file: PathBuf,
        /// Its media type; by the key's ending when left out.
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
    },
    /// Get an object: into a file, or to standard output.
    Get {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
        /// The file: there once all of it has come.
        file: Option<PathBuf>,
    },
    /// Delete an object.
    Rm {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
}
