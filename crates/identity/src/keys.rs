//! A provider's public keys (RFC 7517), each with the one family of algorithms that it may check.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, token::Head};

/// Keys of one provider: the largest ones have a dozen.
const KEYS_MAX: usize = 100;

/// The keys.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Keys {
    /// Reads a set of keys. Those that are of no use here are left out: other kinds, symmetric ones, for encryption.
    ///
    /// # Errors
    /// It is none, or too large.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let wrong = |what: &str| Error::Unreachable(format!("the issuer's keys {what}"));
        let Set { keys } = serde_json::from_slice(body).map_err(|_| wrong("are not a set of keys"))?;
        if keys.len() > KEYS_MAX {
            return Err(wrong("are too many"));
        }
        let keys = keys.into_iter().filter_map(|each| serde_json::from_value(each).ok());
        Ok(Self(keys.filter_map(|jwk: Jwk| usable(&jwk)).collect()))
    }

    /// Whether a token of this head can be checked; else the issuer may have a newer key.
    #[must_use]
    pub fn know(&self, head: &Head) -> bool {
        !matches!(self.find(head), Err(Error::UnknownKey(_)))
    }

    /// The key that checks a token of this head.
    ///
    /// # Errors
    /// There is none, or it is for other algorithms.
    pub(crate) fn find(&self, head: &Head) -> Result<&DecodingKey, Error> {
        let named = |key: &&Key| match &head.key {
            Some(id) => key.id.as_ref() == Some(id),
            None => key.algorithms.contains(&head.algorithm),
        };
        let mut found = self.0.iter().filter(named);
        let unknown = || Error::UnknownKey(head.key.clone().unwrap_or_default());
        let key = found.next().ok_or_else(unknown)?;
        // Without a name it must be clear which one is meant.
        if head.key.is_none() && found.next().is_some() {
            return Err(unknown());
        }
        if key.algorithms.contains(&head.algorithm) {
            return Ok(&key.key);
        }
        Err(Error::Algorithm(format!("{:?}", head.algorithm)))
    }
}

/// Whether both are the same.
fn is(algorithm: Algorithm, of_key: KeyAlgorithm) -> bool {
    matches!(
        (algorithm, of_key),
        (Algorithm::RS256, KeyAlgorithm::RS256)
            | (Algorithm::PS256, KeyAlgorithm::PS256)
            | (Algorithm::ES256, KeyAlgorithm::ES256)
            | (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
    )
}

/// A key that may check signatures, with what it may check: its own kind says so, never the token.
fn usable(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|its| *its != PublicKeyUse::Signature) {
        return None;
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => vec![Algorithm::RS256, Algorithm::PS256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        _ => return None,
    };
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|each| is(*each, only));
    }
    if algorithms.is_empty() {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: jwk.common.key_id.clone(), algorithms, key })
}
