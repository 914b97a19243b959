//! A certificate with its chain and its key, as PEM (RFC 7468), and what it is once read and checked.

use std::{fmt, sync::Arc};

use rouse_types::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::{
    self, InconsistentKeys,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::validity::validity;

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no certificate in it.
    #[error(
        "{0} has no certificate: expected '-----BEGIN CERTIFICATE-----', the server's own first, then its chain"
    )]
    NoCertificate(String),
    /// There is no key in it.
    #[error("{0} has no private key: expected '-----BEGIN PRIVATE KEY-----'")]
    NoKey(String),
    /// The key needs a passphrase.
    #[error(
        "the key of {0} is encrypted, and nobody is there to type its passphrase: write it without one, mode 0600"
    )]
    Encrypted(String),
    /// Key and certificate belong to others.
    #[error("the key of {0} is not the one of its certificate")]
    Mismatch(String),
    /// Something of it is not understood.
    #[error("{from} cannot be used: {why}")]
    Unusable {
        /// Which.
        from: String,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate names no host.
    #[error("the certificate of {0} names no host: its subjectAltName has no DNS name")]
    NoNames(String),
    /// A certificate without its key, or the other way round.
    #[error("{0}")]
    Unpaired(String),
}

/// A certificate and its key, as text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Where it comes from, for people: a file, or an ACME authority.
    pub from: String,
    /// The certificate and its chain.
    pub certificates: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("from", &self.from).finish_non_exhaustive()
    }
}

/// A pair that was checked.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Where it comes from.
    pub from: String,
    /// The hosts that it names, in lower case; `*.` before one stands for one label.
    pub names: Vec<String>,
    /// When it began to hold.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
    pub(crate) key: Arc<CertifiedKey>,
}

impl Pair {
    /// Reads and checks it. Not whether it holds now: clients do that, and the operator is told.
    ///
    /// # Errors
    /// What is wrong with it, and with which.
    pub fn load(&self) -> Result<Certificate, Error> {
        let from = || self.from.clone();
        let unusable = |why: String| Error::Unusable { from: self.from.clone(), why };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(self.certificates.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| unusable(format!("its certificates are no PEM: {error}")))?;
        let Some(own) = chain.first().cloned() else { return Err(Error::NoCertificate(from())) };
        let Ok(key) = PrivateKeyDer::from_pem_slice(self.key.as_bytes()) else {
            let encrypted = self.key.contains("ENCRYPTED");
            return Err(if encrypted { Error::Encrypted(from()) } else { Error::NoKey(from()) });
        };
        let key =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::Mismatch(from()),
                error => unusable(error.to_string()),
            })?;
        let parsed = webpki::EndEntityCert::try_from(&own).map_err(|error| unusable(error.to_string()))?;
        let names: Vec<String> = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        if names.is_empty() {
            return Err(Error::NoNames(from()));
        }
        let (not_before, not_after) =
            validity(&own).map_err(|error| unusable(format!("its dates cannot be read: {error}")))?;
        Ok(Certificate { from: from(), names, not_before, not_after, key: Arc::new(key) })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pair(names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Pair {
            from: "a.pem".to_owned(),
            certificates: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    #[test]
    fn a_pair_tells_its_names_and_dates() {
        let mut params =
            rcgen::CertificateParams::new(["API.example.com".to_owned(), "*.example.org".to_owned()])
                .expect("names");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        // From 2050 on the other form of time is used (RFC 5280 §4.1.2.5).
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificates = params.self_signed(&key).expect("a certificate").pem();
        let made = Pair { from: "a.pem".to_owned(), certificates, key: key.serialize_pem() };
        let read = made.load().expect("it is good");
        assert_eq!(read.names, ["api.example.com", "*.example.org"]);
        assert_eq!(read.not_before, Timestamp::from_millis(1_767_225_600_000));
        assert_eq!(read.not_after, Timestamp::from_millis(2_556_144_000_000));
        assert!(!format!("{made:?}").contains("PRIVATE"), "a key is never printed");
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said() {
        let (one, other) = (pair(&["a.example"]), pair(&["b.example"]));
        let wrong = |pair: Pair| pair.load().expect_err("it is wrong").to_string();
        let with = |certificates: &str, key: &str| Pair {
            from: "a.pem".to_owned(),
            certificates: certificates.to_owned(),
            key: key.to_owned(),
        };
        assert!(wrong(with(&one.certificates, &other.key)).contains("not the one of its certificate"));
        assert!(wrong(with("hello", &one.key)).contains("has no certificate"));
        assert!(wrong(with(&one.certificates, "hello")).contains("has no private key"));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(wrong(with(&one.certificates, encrypted)).contains("passphrase"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(wrong(with(broken, &one.key)).contains("a.pem cannot be used"));
        assert!(wrong(pair(&[])).contains("names no host"));
    }
}
