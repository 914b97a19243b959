//! Buckets that are named by the host: `photos.localhost:4566`, `photos.s3.example.com`. At any other host they are named
//! by the path.

use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
};

/// The name of each loopback: what is below it leads there, too (RFC 6761 §6.3).
const LOCALHOST: &str = ".localhost";
/// What AWS' own clients put behind the bucket.
const SERVICE: &str = ".s3.";

pub(super) struct ByName;

impl S3Host for ByName {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let found = VirtualHost::new(host);
        Ok(match bucket(host) {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

fn bucket(host: &str) -> Option<&str> {
    let name = host.split(':').next().unwrap_or_default();
    let bucket =
        name.strip_suffix(LOCALHOST).or_else(|| name.split_once(SERVICE).map(|(bucket, _)| bucket))?;
    // `s3.localhost` itself is a name for the service.
    (!matches!(bucket, "" | "s3")).then_some(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_by_the_host_or_the_path() {
        for (host, expected) in [
            ("photos.localhost:4566", Some("photos")),
            ("my.photos.localhost", Some("my.photos")),
            ("photos.s3.example.com", Some("photos")),
            ("photos.s3.us-east-1.example.com:80", Some("photos")),
            ("localhost:4566", None),
            ("s3.localhost:4566", None),
            ("127.0.0.1:4566", None),
            ("[::1]:4566", None),
            ("objects.example.com", None),
        ] {
            assert_eq!(bucket(host), expected, "{host}");
        }
    }
}
