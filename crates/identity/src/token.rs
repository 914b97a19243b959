//! Signed JSON Web Tokens (RFC 7519, RFC 8725): read without belief, then checked with the key of the issuer.

use jsonwebtoken::{Algorithm, Validation, dangerous::insecure_decode, decode, decode_header};
use serde_json::{Map, Value};

use crate::{Claims, Error, Keys, ring};

/// The largest token that is looked at: one with some hundred groups.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The longest name of a key.
const KEY_BYTES_MAX: usize = 256;
/// What tokens may be signed by: public keys alone, so that no issuer's key can be taken for a shared secret.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

/// What an unchecked token says: enough to find who could check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Who signed it, as it says.
    pub issuer: String,
    /// The name of the key.
    pub key: Option<String>,
    pub(crate) algorithm: Algorithm,
}

impl Head {
    /// Reads it; believes nothing.
    ///
    /// # Errors
    /// It is no token, is too large, or is signed by what is not taken.
    pub fn read(token: &str) -> Result<Self, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Malformed(format!("it has more than {TOKEN_BYTES_MAX} bytes")));
        }
        let malformed = |error: jsonwebtoken::errors::Error| Error::Malformed(error.to_string());
        let header = decode_header(token).map_err(malformed)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Error::Algorithm(format!("{:?}", header.alg)));
        }
        if header.kid.as_ref().is_some_and(|id| id.len() > KEY_BYTES_MAX) {
            return Err(Error::Malformed("the name of its key is too long".to_owned()));
        }
        let claims = insecure_decode::<Map<String, Value>>(token).map_err(malformed)?.claims;
        let issuer = claims.get("iss").and_then(Value::as_str).ok_or(Error::Claim("iss"))?;
        Ok(Self { issuer: issuer.to_owned(), key: header.kid, algorithm: header.alg })
    }
}

/// Checks the signature, and gives what the token says. Who it is for, and when, is not looked at:
/// [`Claims::check`] does.
///
/// # Errors
/// No key of the issuer has signed it so.
pub fn verify(token: &str, head: &Head, keys: &Keys) -> Result<Claims, Error> {
    ring::install();
    let key = keys.find(head)?;
    let mut validation = Validation::new(head.algorithm);
    // By our own clock and rules, in one place.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = decode::<Map<String, Value>>(token, key, &validation).map_err(|_| Error::Signature)?;
    Ok(Claims::new(decoded.claims))
}

/// The nonce that an unchecked token carries.
///
/// # Errors
/// It is no token.
pub(crate) fn claimed_nonce(token: &str) -> Result<Option<String>, Error> {
    let malformed = |error: jsonwebtoken::errors::Error| Error::Malformed(error.to_string());
    let claims = insecure_decode::<Map<String, Value>>(token).map_err(malformed)?.claims;
    Ok(claims.get("nonce").and_then(Value::as_str).map(str::to_owned))
}

/// What of a token is signed: equal for all tokens that say the same, whatever their signature's encoding is.
#[must_use]
pub fn signed_part(token: &str) -> &str {
    token.rsplit_once('.').map_or(token, |(signed, _)| signed)
}

#[cfg(test)]
mod tests;
