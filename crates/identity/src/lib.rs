//! Identities of others: what OpenID Connect's providers say, fetched, checked, and matched with who may what.
//!
//! ```text
//!   token ─▶ token::Head (unverified) ─▶ whose keys? ─▶ http: discovery, keys ─▶ token::verify ─▶ Claims
//!                                                                                      │
//!                       role ◀── decide: members, trust policies (pure) ◀── claims: times, audience (pure)
//! ```
//!
//! Invariant: nothing is fetched from where a token says; who calls this names the issuers that it knows.

pub mod claims;
pub mod decide;
pub mod device;
pub mod discovery;
pub mod flow;
pub mod http;
pub mod keys;
mod ring;
pub mod token;
mod url;

pub use claims::Claims;
pub use discovery::Discovery;
pub use http::Http;
pub use keys::Keys;
pub use url::check as check_url;

/// Why a token is not taken. For the operator's log: whoever showed the token is told nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none, or too large.
    #[error("it is no signed JSON Web Token: {0}")]
    Malformed(String),
    /// It is signed by what is not taken, or not as the key says.
    #[error("it is signed by the algorithm {0}, which is not taken")]
    Algorithm(String),
    /// The issuer has no such key.
    #[error("its issuer has no key '{0}' to check it with")]
    UnknownKey(String),
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// A claim is missing or of a wrong kind.
    #[error("its claim '{0}' is missing or not what it must be")]
    Claim(&'static str),
    /// It is too old.
    #[error("it has expired")]
    Expired,
    /// It is from the future, by more than clocks may differ.
    #[error("it is not valid yet; do the clocks differ?")]
    Early,
    /// It lives longer than is taken.
    #[error("it lives longer than a day")]
    LongLived,
    /// It is for someone else.
    #[error("it is for another audience")]
    Audience,
    /// It is not of this sign-in.
    #[error("its nonce is not the one that was asked with")]
    Nonce,
    /// It is genuine, and nobody here knows whom it is about.
    #[error("no member and no trust policy of the tenant is what it says")]
    Nobody,
    /// The issuer could not be asked.
    #[error("the issuer cannot be asked: {0}")]
    Unreachable(String),
}
