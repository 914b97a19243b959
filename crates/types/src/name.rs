//! Names that people choose: of tenants, apps, functions, aliases.
//!
//! All are DNS labels (RFC 1123 §2.1, lower case), because a function is also a host name:
//! `http://<function>.<tenant>.<domain>/`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// The longest label that DNS allows, in bytes (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was given.
    #[error("a {what} must not be empty")]
    Empty {
        /// The kind of name, for the reader.
        what: &'static str,
    },
    /// More than [`LABEL_BYTES_MAX`] bytes.
    #[error("the {what} '{text}' has {len} characters; at most {LABEL_BYTES_MAX} are allowed")]
    TooLong {
        /// The kind of name, for the reader.
        what: &'static str,
        /// What was given.
        text: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A character that a DNS label does not have, or a hyphen at an end.
    #[error(
        "the {what} '{text}' is not a name: use a-z, 0-9 and '-', and begin and end with a letter or digit"
    )]
    Character {
        /// The kind of name, for the reader.
        what: &'static str,
        /// What was given.
        text: String,
    },
}

fn check(what: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::Empty { what });
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(Error::TooLong { what, text: text.to_owned(), len: text.len() });
    }
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = alphanumeric(bytes[0]) && alphanumeric(bytes[bytes.len() - 1]);
    // Two hyphens in a row part an alias from its function in a host name.
    let inside = bytes.iter().all(|&b| alphanumeric(b) || b == b'-') && !text.contains("--");
    if ends && inside {
        return Ok(());
    }
    Err(Error::Character { what, text: text.to_owned() })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
        #[serde(transparent)]
        #[schemars(extend("pattern" = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
        pub struct $name(String);

        impl $name {
            /// Checks the text and makes the name of it.
            pub fn new(text: impl Into<String>) -> Result<Self, Error> {
                let text = text.into();
                check($what, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Who is billed and kept apart from others.
    TenantId,
    "tenant"
);
name!(
    /// Functions and triggers that are deployed together.
    AppName,
    "app name"
);
name!(
    /// A function's name, unique within its tenant.
    FunctionName,
    "function name"
);
name!(
    /// A movable name over weighted versions of a function.
    AliasName,
    "alias"
);
name!(
    /// A provider of identities, as the operator calls it.
    ProviderName,
    "provider's name"
);
name!(
    /// A trust policy, unique within its tenant.
    TrustName,
    "trust policy's name"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_label_is_a_name() {
        for text in ["a", "thumb-nail", "v2", &"x".repeat(63)] {
            assert_eq!(FunctionName::new(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn what_is_no_dns_label_is_refused_with_what_is_wrong() {
        for text in ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a--b", "../a", &"x".repeat(64)] {
            let error = FunctionName::new(text).expect_err(text).to_string();
            assert!(error.contains("function name"), "{error}");
        }
    }

    #[test]
    fn a_wrong_name_is_refused_while_reading_json() {
        assert!(serde_json::from_str::<TenantId>("\"Not A Name\"").is_err());
    }
}
