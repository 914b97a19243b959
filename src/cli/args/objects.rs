//! The words of `rouse bucket` and `rouse object`.

use std::path::PathBuf;

use clap::Subcommand;

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
