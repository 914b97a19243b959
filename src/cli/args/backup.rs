//! The words of `rouse backup` and `rouse restore`.

use std::path::PathBuf;

use clap::Args;

/// What `rouse backup` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
In it are: what is deployed with its code, versions and aliases; tenants, members and API keys (as digests); access keys of AWS' \
clients with their secrets; events, queues and dead letters; usage, the ledger with the key that seals it, the audit log, and what \
functions printed; buckets and objects; certificates got by ACME. So keep it as you keep the state folder: it is written with \
mode 0600.

Not in it are: the operator's token (control/token), which the platform makes anew; the keys of secrets (secrets/keys), unless asked \
for; certificates of your own (--tls-…); credentials of --objects, and the bytes that lie in its bucket.")]
pub(crate) struct BackupArgs {
    /// A file that is not there yet, or s3://BUCKET/PREFIX.
    #[arg(value_name = "FILE|s3://BUCKET/PREFIX")]
    pub(crate) to: String,
    /// Put the keys of secrets into it, too: whoever has the backup then reads all secrets.
    #[arg(long)]
    pub(crate) with_secret_keys: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `rouse restore` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
The backup is checked to its end before anything is in the state folder (--state), which must be empty. Then start the platform \
on it: it has a new operator's token, unpacks and compiles code again, and delivers what was waiting.")]
pub(crate) struct RestoreArgs {
    /// What `rouse backup` wrote.
    #[arg(value_name = "FILE|s3://BUCKET/PREFIX")]
    pub(crate) from: String,
    /// Check it only.
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// How a bucket of any S3 is reached.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "S3")]
pub(crate) struct StoreArgs {
    /// That S3's address, such as `https://s3.example.com` [default: AWS'].
    #[arg(long, value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,
    /// The region that requests to it are signed for [default: us-east-1].
    #[arg(long, value_name = "REGION")]
    pub(crate) s3_region: Option<String>,
    /// The file with its access key, as AWS' clients have it, mode 0600 [default: AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY].
    #[arg(long, value_name = "FILE")]
    pub(crate) s3_credentials: Option<PathBuf>,
}
