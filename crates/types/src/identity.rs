//! Who signs in: providers of identities, members of tenants, and trust policies for programs without a stored secret.
//!
//! ```text
//!   token of a provider ─▶ member (a person) ──────▶ role, for hours ─┐
//!                     └──▶ trust policy (a build) ─▶ role, for less ──┴─▶ a session's API key
//! ```
//!
//! How tokens are checked and matched: `rouse_identity`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Digest, FunctionName, Role, Timestamp, TrustName};

/// The longest pattern and the longest text that is matched against one, in bytes.
pub const PATTERN_BYTES_MAX: usize = 512;
/// Stars in one pattern.
const STARS_MAX: usize = 8;

/// A provider of identities (OpenID Connect), as the operator configures it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its identifier: an https URL, exactly as its tokens say it in `iss`.
    pub issuer: String,
    /// Rouse's name there. Without it nobody signs in with it, and trust policies alone may name the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Further audiences whose tokens are taken as those of people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The claim that lists a person's groups.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// What `rouse login` asks for besides `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Whether all of its e-mail addresses are known to be their holders', also where a token does not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified_emails: bool,
    /// Authorities that its certificate may be from, besides those that the host trusts: PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

fn groups() -> String {
    "groups".to_owned()
}

fn scopes() -> Vec<String> {
    ["email", "profile", "offline_access"].map(str::to_owned).into()
}

/// By what a person is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MemberIs {
    /// Who has this e-mail address, which the provider has verified.
    Email(String),
    /// Who the provider calls so (`sub`).
    Subject(String),
    /// Whoever is in this group.
    Group(String),
}

impl fmt::Display for MemberIs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(email) => f.write_str(email),
            Self::Subject(subject) => write!(f, "subject={subject}"),
            Self::Group(group) => write!(f, "group={group}"),
        }
    }
}

/// A text that is no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is nobody: write an e-mail address, subject=<the provider's name for a person> or group=<a group>"
)]
pub struct MemberError(String);

impl FromStr for MemberIs {
    type Err = MemberError;
    fn from_str(text: &str) -> Result<Self, MemberError> {
        /// An e-mail address has 254 bytes at most (RFC 5321), `sub` 255 (OpenID Connect Core §2).
        const BYTES_MAX: usize = 255;
        let wrong = || MemberError(text.chars().take(60).collect());
        let is = match text.split_once('=') {
            Some(("subject", subject)) => Self::Subject(subject.to_owned()),
            Some(("group", group)) => Self::Group(group.to_owned()),
            _ => {
                let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
                if local.is_empty() || domain.is_empty() || text.contains(char::is_whitespace) {
                    return Err(wrong());
                }
                Self::Email(text.to_ascii_lowercase())
            }
        };
        let (Self::Email(value) | Self::Subject(value) | Self::Group(value)) = &is;
        let usable = (1..=BYTES_MAX).contains(&value.len()) && !value.contains(char::is_control);
        if usable { Ok(is) } else { Err(wrong()) }
    }
}

/// A member of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The provider that says who they are.
    pub issuer: String,
    /// Who they are there.
    pub is: MemberIs,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub created: Timestamp,
}

impl Member {
    /// The member's id: the same for the same person or group of the same provider.
    #[must_use]
    pub fn id(issuer: &str, is: &MemberIs) -> String {
        Digest::of(format!("{issuer}\n{is}").as_bytes()).hex()[..16].to_owned()
    }
}

/// Whom a tenant trusts without a stored secret: programs that show a token of this issuer with these claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Who signed the token.
    pub issuer: String,
    /// Whom it is for: one of the token's `aud`.
    pub audience: String,
    /// Whom it is about: its `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Pattern>,
    /// What other claims must say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Pattern>,
    /// What its holder may do.
    pub role: Role,
    /// The functions that it is for; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionName>,
}

/// A text in which `*` stands for anything but a colon, so that no part of a subject reaches into the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Pattern(String);

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no pattern: 1 to {PATTERN_BYTES_MAX} bytes of printable text, at most {STARS_MAX} stars, the first not at its start"
)]
pub struct PatternError(String);

impl Pattern {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What each text that matches begins with.
    #[must_use]
    pub fn start(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    /// Whether it stands for one text alone.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether the text is one that it stands for.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if text.len() > PATTERN_BYTES_MAX {
            return false;
        }
        let (mut patterns, mut parts) = (self.0.split(':'), text.split(':'));
        loop {
            match (patterns.next(), parts.next()) {
                (None, None) => return true,
                (Some(pattern), Some(part)) if part_matches(pattern.as_bytes(), part.as_bytes()) => {}
                _ => return false,
            }
        }
    }
}

/// Whether a part matches, in time that is bounded by the product of both lengths: only the last star is tried again.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos, mut star) = (0, 0, None);
    while pos < text.len() {
        // A star first: the text may have stars of its own.
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, pos));
            at += 1;
        } else if pattern.get(at) == Some(&text[pos]) {
            at += 1;
            pos += 1;
        } else if let Some((star_at, from)) = star {
            star = Some((star_at, from + 1));
            at = star_at + 1;
            pos = from + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fits = (1..=PATTERN_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
        if fits && !text.starts_with('*') && text.matches('*').count() <= STARS_MAX {
            return Ok(Self(text.to_owned()));
        }
        Err(PatternError(text.chars().take(60).collect()))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who signed in for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Who says so.
    pub issuer: String,
    /// What they are called there (`sub`).
    pub subject: String,
    /// A name for people to read: an e-mail address, if there is one.
    pub name: String,
    /// What let them in; when it goes, so does the session.
    pub by: Grant,
}

/// What let someone in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Grant {
    /// A membership, by the member's id.
    Member(String),
    /// A trust policy, by its name.
    Trust(TrustName),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().expect(text)
    }

    #[test]
    fn a_star_stands_for_anything_within_its_part() {
        let rows = [
            ("repo:acme/shop:ref:refs/heads/main", "repo:acme/shop:ref:refs/heads/main", true),
            ("repo:acme/shop:ref:refs/heads/main", "repo:acme/shop:ref:refs/heads/main2", false),
            ("repo:acme/shop:ref:refs/heads/*", "repo:acme/shop:ref:refs/heads/a/b", true),
            ("repo:acme/shop:*", "repo:acme/shop:pull_request", true),
            ("repo:acme/shop:*", "repo:acme/shop:ref:refs/heads/main", false),
            ("repo:acme/*:ref:refs/heads/main", "repo:acme/x:ref:refs/heads/main", true),
            ("repo:acme/*:ref:refs/heads/main", "repo:acme/x:environment:y:ref:refs/heads/main", false),
            ("repo:acme/*:environment:production", "repo:evil/acme/:environment:production", false),
            ("a*b*c", "a__b__c", true),
            ("a*b*c", "a*b*c", true),
            ("a*b*c", "a__c__b", false),
            ("a*", "a", true),
            ("a*", "A", false),
        ];
        for (text, subject, expected) in rows {
            assert_eq!(pattern(text).matches(subject), expected, "{text} ~ {subject}");
        }
        assert!(!pattern("a*").matches(&"a".repeat(PATTERN_BYTES_MAX + 1)));
        assert_eq!(pattern("repo:acme/*:x").start(), "repo:acme/");
    }

    #[test]
    fn what_is_too_wide_or_too_long_is_no_pattern() {
        for wrong in ["", "*", "*x", "a\n", &"*a".repeat(9), &"a".repeat(PATTERN_BYTES_MAX + 1), "a*********"]
        {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Pattern>("\"*\"").is_err());
    }

    #[test]
    fn a_member_is_written_as_it_is_read() {
        for text in ["anna@acme.example", "subject=00u1", "group=shop deployers"] {
            assert_eq!(text.parse::<MemberIs>().expect(text).to_string(), text);
        }
        assert_eq!("Anna@Acme.Example".parse(), Ok(MemberIs::Email("anna@acme.example".to_owned())));
        for wrong in ["", "anna", "@acme", "anna@", "a b@c", "subject=", "group=", &"a".repeat(300)] {
            assert!(wrong.parse::<MemberIs>().is_err(), "{wrong}");
        }
        let id = Member::id("https://id", &MemberIs::Group("x".to_owned()));
        assert!(id.len() == 16 && id != Member::id("https://id", &MemberIs::Subject("x".to_owned())));
    }

    proptest! {
        #[test]
        fn a_pattern_without_a_star_is_its_own_text_alone(text in "[a-c:/]{1,20}", other in "[a-c:/]{1,20}") {
            prop_assert!(pattern(&text).matches(&text));
            prop_assert_eq!(pattern(&text).matches(&other), text == other);
        }

        #[test]
        fn a_star_grows_what_matches_and_crosses_no_colon(a in "[a-c]{1,5}", b in "[a-c*]{0,5}", c in "[a-c]{0,5}") {
            let wide = pattern(&format!("{a}*{c}"));
            let (inside, across) = (format!("{a}{b}{c}"), format!("{a}:{b}{c}"));
            prop_assert!(wide.matches(&inside));
            prop_assert!(!wide.matches(&across));
        }
    }
}
