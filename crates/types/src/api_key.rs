//! API keys: what their text looks like, and how one is checked.
//!
//! ```text
//!   rouse_<id>_<secret>      id: 12 of a-z2-7, names the key      secret: 256 random bits, base64url
//! ```
//!
//! Only SHA-256 of the text is kept. A password would want a slow hash; 256 random bits are not to be guessed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, FunctionName, Role, Session, TenantId, Timestamp};

/// What every key begins with, so that scanners of repositories and logs know one when they see it.
pub const PREFIX: &str = "rouse_";
/// Characters of an id.
pub const ID_CHARS: usize = 12;
/// The header that a caller may put its key into, besides `authorization`.
pub const HEADER: &str = "x-api-key";
/// The folder, below the state folder, of the keys that gateways check: a file for each tenant, of [`TenantKeys`].
pub const FOLDER: &str = "keys";

/// The id of a text that looks like a key; says nothing of whether it is one.
#[must_use]
pub fn id(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let whole = id.len() == ID_CHARS && id.bytes().all(|b| b.is_ascii_alphanumeric()) && !secret.is_empty();
    whole.then_some(id)
}

/// What is kept of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// The functions that it is for; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionName>,
    /// SHA-256 of its text.
    pub digest: Digest,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The id of the key that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_to: Option<String>,
    /// Who signed in for it; none for a key that an owner made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

impl ApiKey {
    /// Whether this text is the key's. Takes as long for a wrong one.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.digest.same(&Digest::of(text.as_bytes()))
    }

    /// Whether it is refused by its age.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it is for this function.
    #[must_use]
    pub fn is_for(&self, function: &str) -> bool {
        self.functions.is_empty() || self.functions.iter().any(|each| each.as_str() == function)
    }
}

/// A tenant's keys, by their ids.
pub type TenantKeys = BTreeMap<String, ApiKey>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_itself() {
        assert_eq!(id("rouse_abcdefghij23_x_y-z"), Some("abcdefghij23"));
        for wrong in
            ["", "rouse_", "rouse_abcdefghij23", "rouse_abcdefghij23_", "rouse_abc_x", "x_abcdefghij23_x"]
        {
            assert_eq!(id(wrong), None, "{wrong}");
        }
        assert_eq!(id("rouse_../../abcde_x"), None);
    }

    #[test]
    fn only_its_own_text_is_the_key_until_it_expires() {
        let text = "rouse_abcdefghij23_secret";
        let key = ApiKey {
            tenant: "shop".parse().expect("a name"),
            role: Role::Invoker,
            functions: vec!["cart".parse().expect("a name")],
            digest: Digest::of(text.as_bytes()),
            created: Timestamp(1),
            expires: Some(Timestamp(10)),
            note: None,
            rotated_to: None,
            session: None,
        };
        assert!(key.is(text) && !key.is("rouse_abcdefghij23_secreT") && !key.is(""));
        assert!(!key.has_expired(Timestamp(9)) && key.has_expired(Timestamp(10)));
        assert!(key.is_for("cart") && !key.is_for("car"));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
