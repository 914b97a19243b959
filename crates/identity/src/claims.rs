//! What a checked token says, and whether it holds now. Pure.

use serde_json::{Map, Value};

use crate::Error;

/// How much clocks may differ, in seconds.
pub const SKEW_SECONDS: u64 = 60;
/// The longest life of a token that is taken, in seconds: one that leaked is of use for no longer.
pub const LIFE_SECONDS_MAX: u64 = 24 * 3_600;
/// The longest name of whom a token is about, in bytes.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// What a token says, its signature checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// A claim that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A claim that is a text or texts.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let (one, many) = match self.0.get(name) {
            Some(Value::String(text)) => (Some(text.as_str()), &[][..]),
            Some(Value::Array(texts)) => (None, &texts[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().filter_map(Value::as_str))
    }

    /// A claim as trust policies compare it: numbers and truth values as they are written.
    #[must_use]
    pub fn compared(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    /// Whether a claim says yes. Some providers write it as a text.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Bool(true))) || self.text(name) == Some("true")
    }

    /// Whom it is about.
    ///
    /// # Errors
    /// It does not say, or at too great length.
    pub fn subject(&self) -> Result<&str, Error> {
        let fits = |text: &&str| (1..=SUBJECT_BYTES_MAX).contains(&text.len());
        self.text("sub").filter(fits).ok_or(Error::Claim("sub"))
    }

    /// A name for people to read.
    #[must_use]
    pub fn name(&self) -> &str {
        let names = ["email", "preferred_username", "name", "sub"];
        names.into_iter().find_map(|name| self.text(name)).unwrap_or_default()
    }

    /// Until when it holds, in seconds since the epoch.
    ///
    /// # Errors
    /// It does not say.
    pub fn expires(&self) -> Result<u64, Error> {
        self.time("exp")?.ok_or(Error::Claim("exp"))
    }

    /// A time in seconds since the epoch; a part of a second is left out (RFC 7519 §2, `NumericDate`).
    fn time(&self, name: &'static str) -> Result<Option<u64>, Error> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let whole = match value {
            Value::Number(number) => number.to_string().split('.').next().and_then(|text| text.parse().ok()),
            _ => None,
        };
        whole.map(Some).ok_or(Error::Claim(name))
    }

    /// Whether it is of this issuer and holds now.
    ///
    /// # Errors
    /// It is not, or does not.
    pub fn check(&self, issuer: &str, now: u64) -> Result<(), Error> {
        if self.text("iss") != Some(issuer) {
            return Err(Error::Claim("iss"));
        }
        let expires = self.expires()?;
        let issued = self.time("iat")?.ok_or(Error::Claim("iat"))?;
        let begins = self.time("nbf")?.unwrap_or(issued);
        if expires.saturating_add(SKEW_SECONDS) <= now {
            return Err(Error::Expired);
        }
        if issued.max(begins) > now.saturating_add(SKEW_SECONDS) {
            return Err(Error::Early);
        }
        if expires.saturating_sub(issued) > LIFE_SECONDS_MAX {
            return Err(Error::LongLived);
        }
        self.subject().map(drop)
    }

    /// Whether it is of the sign-in that sent this nonce; one that was asked for without has none.
    ///
    /// # Errors
    /// It is not.
    pub fn check_nonce(&self, sent: Option<&str>) -> Result<(), Error> {
        if self.text("nonce") == sent && self.0.contains_key("nonce") == sent.is_some() {
            return Ok(());
        }
        Err(Error::Nonce)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn claims(value: Value) -> Claims {
        let Value::Object(map) = value else { panic!("an object") };
        Claims(map)
    }

    /// A good token, with some claims otherwise; `null` leaves one out.
    fn with(changes: Value) -> Claims {
        let mut all = json!({"iss": "https://id", "sub": "me", "iat": NOW - 10, "exp": NOW + 300});
        for (name, value) in changes.as_object().expect("an object") {
            match value {
                Value::Null => drop(all.as_object_mut().expect("an object").remove(name)),
                value => all[name] = value.clone(),
            }
        }
        claims(all)
    }

    #[test]
    fn a_token_holds_from_its_begin_to_its_end_give_or_take_a_minute() {
        let rows = [
            (json!({}), Ok(())),
            (json!({"exp": NOW - SKEW_SECONDS + 1}), Ok(())),
            (json!({"exp": NOW - SKEW_SECONDS}), Err(Error::Expired)),
            (json!({"exp": 0}), Err(Error::Expired)),
            (json!({"nbf": NOW + SKEW_SECONDS}), Ok(())),
            (json!({"nbf": NOW + SKEW_SECONDS + 1}), Err(Error::Early)),
            (json!({"iat": NOW + SKEW_SECONDS}), Ok(())),
            (json!({"iat": NOW + SKEW_SECONDS + 1}), Err(Error::Early)),
            (json!({"exp": NOW - 10 + LIFE_SECONDS_MAX}), Ok(())),
            (json!({"exp": NOW - 9 + LIFE_SECONDS_MAX}), Err(Error::LongLived)),
            (json!({"exp": u64::MAX}), Err(Error::LongLived)),
            (json!({"exp": null}), Err(Error::Claim("exp"))),
            (json!({"exp": "1900000000"}), Err(Error::Claim("exp"))),
            (json!({"exp": -1}), Err(Error::Claim("exp"))),
            (json!({"iat": null}), Err(Error::Claim("iat"))),
            (json!({"nbf": true}), Err(Error::Claim("nbf"))),
            (json!({"exp": 1_800_000_300.5}), Ok(())),
            (json!({"iss": "https://id/"}), Err(Error::Claim("iss"))),
            (json!({"iss": ["https://id"]}), Err(Error::Claim("iss"))),
            (json!({"sub": null}), Err(Error::Claim("sub"))),
            (json!({"sub": ""}), Err(Error::Claim("sub"))),
            (json!({"sub": 7}), Err(Error::Claim("sub"))),
            (json!({"sub": "x".repeat(2_000)}), Err(Error::Claim("sub"))),
        ];
        for (changes, expected) in rows {
            assert_eq!(with(changes.clone()).check("https://id", NOW), expected, "{changes}");
        }
    }

    #[test]
    fn a_nonce_is_the_one_that_was_sent_and_none_where_none_was() {
        let rows = [
            (json!({}), None, true),
            (json!({"nonce": "a"}), Some("a"), true),
            (json!({"nonce": "a"}), Some("b"), false),
            (json!({"nonce": "a"}), None, false),
            (json!({"nonce": 7}), None, false),
            (json!({}), Some("a"), false),
        ];
        for (changes, sent, expected) in rows {
            assert_eq!(with(changes.clone()).check_nonce(sent).is_ok(), expected, "{changes} {sent:?}");
        }
    }

    #[test]
    fn claims_are_read_as_providers_write_them() {
        let all = with(json!({"aud": ["a", "b", 7], "email_verified": "true", "n": 42, "b": false, "o": {}}));
        assert_eq!(all.texts("aud").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all.texts("iss").collect::<Vec<_>>(), ["https://id"]);
        assert_eq!(all.texts("n").count(), 0);
        assert!(all.is_true("email_verified") && !all.is_true("b") && !all.is_true("none"));
        assert_eq!(all.compared("n").as_deref(), Some("42"));
        assert_eq!(all.compared("b").as_deref(), Some("false"));
        assert_eq!(all.compared("o"), None);
        assert_eq!(all.name(), "me");
    }
}
