//! What each sender signs, and where it writes the signature.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use rouse_types::trigger::Signer;
use sha2::{Digest as _, Sha256};

use super::{Error, Rejected};

/// How a sender signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// GitHub, with SHA-256.
    GitHub,
    /// GitLab's secret token.
    GitLab,
    /// Stripe.
    Stripe,
    /// Standard Webhooks 1.0, with a symmetric secret; Svix' names of the headers too.
    StandardWebhooks,
    /// Slack.
    Slack,
    /// HMAC of the body, in a header of the sender's choice.
    Own(Own),
}

/// A scheme that is described by its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The header with the signature, in lower case.
    pub header: String,
    /// The hash function of the HMAC.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// What stands before it, such as `sha256=`.
    pub prefix: String,
    /// A header with an id of the event, if there is one, in lower case.
    pub id_header: Option<String>,
}

/// The hash function of an HMAC (RFC 2104).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// For senders that have nothing newer.
    Sha1,
    /// The usual one.
    Sha256,
    /// The long one.
    Sha512,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal, in either case.
    Hex,
    /// Base64 of RFC 4648 §4.
    Base64,
}

/// What a request says of itself, before any of it is believed.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    pub(super) signatures: Vec<Vec<u8>>,
    pub(super) id: Option<&'a str>,
    /// The time as it is written, which is what was signed.
    time: &'a str,
    /// Seconds since 1970.
    pub(super) time_s: Option<u64>,
}

impl Scheme {
    /// As a trigger names it.
    pub(super) fn of(signer: &Signer) -> Result<Self, Error> {
        Ok(match signer {
            Signer::Github => Self::GitHub,
            Signer::Gitlab => Self::GitLab,
            Signer::Stripe => Self::Stripe,
            Signer::Standard => Self::StandardWebhooks,
            Signer::Slack => Self::Slack,
            Signer::Hmac(hmac) => Self::Own(Own {
                // Names of headers are the same in either case (RFC 9110 §5.1).
                header: hmac.header.to_ascii_lowercase(),
                algorithm: match hmac.algorithm.as_str() {
                    "sha1" => Algorithm::Sha1,
                    "sha256" => Algorithm::Sha256,
                    "sha512" => Algorithm::Sha512,
                    other => return Err(Error::Form(other.to_owned())),
                },
                encoding: match hmac.encoding.as_str() {
                    "hex" => Encoding::Hex,
                    "base64" => Encoding::Base64,
                    other => return Err(Error::Form(other.to_owned())),
                },
                prefix: hmac.prefix.clone(),
                id_header: hmac.id_header.as_ref().map(|name| name.to_ascii_lowercase()),
            }),
        })
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let Self::Own(own) = self else { return Ok(()) };
        for name in std::iter::once(&own.header).chain(&own.id_header) {
            // RFC 9110 §5.1, in lower case as HTTP/2 has it.
            let fits =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
            if name.is_empty() || !name.bytes().all(fits) {
                return Err(Error::Header(name.clone()));
            }
        }
        Ok(())
    }

    /// The key that a secret stands for.
    pub(super) fn key(&self, secret: &str) -> Result<Vec<u8>, Error> {
        let key = match self {
            Self::StandardWebhooks => {
                let text = secret.strip_prefix("whsec_").unwrap_or(secret);
                STANDARD.decode(text).map_err(|_| Error::NotBase64)?
            }
            _ => secret.as_bytes().to_vec(),
        };
        if key.is_empty() { Err(Error::Empty) } else { Ok(key) }
    }

    /// The signature that the key gives.
    pub(super) fn sign(&self, key: &[u8], claims: &Claims<'_>, body: &[u8]) -> Vec<u8> {
        let time = claims.time.as_bytes();
        let sha256 = |parts: &[&[u8]]| super::hmac(hmac::HMAC_SHA256, key, parts);
        match self {
            Self::GitHub => sha256(&[body]),
            // Hashed, so that comparing takes as long for a short guess as for a long one.
            Self::GitLab => Sha256::digest(key).to_vec(),
            Self::Stripe => sha256(&[time, b".", body]),
            Self::StandardWebhooks => {
                sha256(&[claims.id.unwrap_or_default().as_bytes(), b".", time, b".", body])
            }
            Self::Slack => sha256(&[b"v0:", time, b":", body]),
            Self::Own(own) => super::hmac(own.algorithm.ring(), key, &[body]),
        }
    }
}

impl Algorithm {
    fn ring(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => STANDARD.decode(text).ok(),
        }
    }
}

/// Reads what the headers claim.
pub(super) fn claims<'a>(
    scheme: &Scheme,
    header: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Claims<'a>, Rejected> {
    let need = |name: &str| header(name).ok_or_else(|| Rejected::Missing(name.to_owned()));
    let malformed = |name: &str, why| Rejected::Malformed { header: name.to_owned(), why };
    let one = |name: &str, prefix: &str, encoding: Encoding| {
        let text = need(name)?
            .trim()
            .strip_prefix(prefix)
            .ok_or_else(|| malformed(name, "its prefix is another"))?;
        encoding.decode(text).ok_or_else(|| malformed(name, "it is not encoded as it should be"))
    };
    let seconds = |name: &str, text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let time_s = text.parse().ok().filter(|_| digits);
        time_s.ok_or_else(|| malformed(name, "its time is not in seconds since 1970"))
    };
    match scheme {
        Scheme::GitHub => Ok(Claims {
            signatures: vec![one("x-hub-signature-256", "sha256=", Encoding::Hex)?],
            id: header("x-github-delivery"),
            time: "",
            time_s: None,
        }),
        Scheme::GitLab => Ok(Claims {
            signatures: vec![Sha256::digest(need("x-gitlab-token")?).to_vec()],
            // The first is the same for each attempt, the second older.
            id: header("idempotency-key").or_else(|| header("x-gitlab-event-uuid")),
            time: "",
            time_s: None,
        }),
        Scheme::Stripe => {
            let name = "stripe-signature";
            let (mut time, mut signatures) = ("", Vec::new());
            for (key, value) in need(name)?.split(',').filter_map(|part| part.trim().split_once('=')) {
                match key {
                    "t" => time = value,
                    "v1" => signatures.extend(Encoding::Hex.decode(value)),
                    // v0 and what may come later are not for us.
                    _ => {}
                }
            }
            if signatures.is_empty() {
                return Err(malformed(name, "it has no v1="));
            }
            Ok(Claims { signatures, id: None, time, time_s: Some(seconds(name, time)?) })
        }
        Scheme::StandardWebhooks => {
            let prefix = if header("webhook-signature").is_some() { "webhook" } else { "svix" };
            let get = |part: &str| {
                let name = format!("{prefix}-{part}");
                // Of a request with neither, the standard's name is told.
                header(&name).ok_or_else(|| Rejected::Missing(name.replace("svix", "webhook")))
            };
            let (signature, id, time) = (get("signature")?, get("id")?, get("timestamp")?);
            let v1 = signature.split(' ').filter_map(|part| part.strip_prefix("v1,"));
            let signatures: Vec<_> = v1.filter_map(|text| Encoding::Base64.decode(text)).collect();
            if signatures.is_empty() {
                return Err(malformed(&format!("{prefix}-signature"), "it has no v1,"));
            }
            Ok(Claims {
                signatures,
                id: Some(id),
                time,
                time_s: Some(seconds(&format!("{prefix}-timestamp"), time)?),
            })
        }
        Scheme::Slack => {
            let signatures = vec![one("x-slack-signature", "v0=", Encoding::Hex)?];
            let name = "x-slack-request-timestamp";
            let time = need(name)?;
            Ok(Claims { signatures, id: None, time, time_s: Some(seconds(name, time)?) })
        }
        Scheme::Own(own) => Ok(Claims {
            signatures: vec![one(&own.header, &own.prefix, own.encoding)?],
            id: own.id_header.as_deref().and_then(header),
            time: "",
            time_s: None,
        }),
    }
}
