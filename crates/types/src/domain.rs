//! Domains that people own, at which a function answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use crate::name::LABEL_BYTES_MAX;

/// The longest name that DNS allows, written as people do (RFC 1035 §2.3.4).
const BYTES_MAX: usize = 253;
/// Domains of one function.
pub const DOMAINS_MAX: usize = 20;

/// Why a text is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a domain: {why}")]
pub struct Error {
    text: String,
    why: &'static str,
}

/// A host's full name in lower case, such as `api.example.com`: two labels at least, no address, no wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
pub struct Domain(String);

impl Domain {
    /// Checks the text and makes the domain of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        match wrong(&text) {
            None => Ok(Self(text)),
            Some(why) => Err(Error { text: text.chars().take(80).collect(), why }),
        }
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this domain or lies below it.
    #[must_use]
    pub fn is_within(&self, domain: &str) -> bool {
        let rest = self.0.strip_suffix(&domain.to_ascii_lowercase());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

fn wrong(text: &str) -> Option<&'static str> {
    if text.len() > BYTES_MAX {
        return Some("it has more than 253 characters");
    }
    if text.contains(['/', ':']) {
        return Some("write the host's name alone, without scheme, port and path");
    }
    if text.starts_with("*.") {
        return Some("name each host; a wildcard is none");
    }
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = label.as_bytes();
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && bytes.iter().all(|&b| plain(b) || b == b'-')
            && plain(bytes[0])
            && plain(bytes[bytes.len() - 1])
    };
    if !text.split('.').all(label) {
        return Some("use a-z, 0-9 and '-' between its dots; names in other letters are written as xn--…");
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.len() == text.len() {
        return Some("it has no dot: write the full name, such as api.example.com");
    }
    last.bytes().all(|b| b.is_ascii_digit()).then_some("it is an address: name a host")
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl std::borrow::Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_host_name_is_a_domain_and_nothing_else_is() {
        for text in ["api.example.com", "a.b", "xn--bcher-kva.example", "1.2.example", "a--b.example"] {
            assert_eq!(Domain::new(text).expect(text).as_str(), text);
        }
        let long = format!("{}.example", "a.".repeat(130));
        for (text, why) in [
            ("", "use a-z"),
            ("localhost", "no dot"),
            ("API.example.com", "use a-z"),
            ("api.example.com.", "use a-z"),
            ("api..com", "use a-z"),
            ("-a.example", "use a-z"),
            ("bücher.example", "xn--"),
            ("*.example.com", "wildcard"),
            ("https://a.example", "without scheme"),
            ("a.example:443", "without scheme"),
            ("192.0.2.1", "an address"),
            (&long, "253"),
        ] {
            let error = Domain::new(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_domain_is_within_itself_and_its_parents() {
        let domain = Domain::new("a.fn.example.com").expect("a domain");
        for parent in ["a.fn.example.com", "fn.example.com", "FN.example.com", "com"] {
            assert!(domain.is_within(parent), "{parent}");
        }
        for other in ["n.example.com", "b.a.fn.example.com", "localhost"] {
            assert!(!domain.is_within(other), "{other}");
        }
    }
}
