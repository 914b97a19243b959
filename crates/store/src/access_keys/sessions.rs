//! Keys of sessions: what `AssumeRole` gives whoever asks with a key, for some time. The id says until when the key is good and
//! which key it was made for, and the secret is made from the id: nothing is written down, whoever checks a signature makes the
//! key again, and a session ends with the key that it was made for.
//!
//! ```text
//!   ASIA 69214C80 9f86d081884c7d65 _ AKIA…
//!        until    digest of token    whose
//! ```

use std::{io, path::Path};

use rouse_types::{Clock as _, Digest, SystemClock, Timestamp};

use super::FunctionKeys;

/// What AWS' ids of such keys begin with. Other keys' ids have no underscore after it.
const BEGIN: &str = "ASIA";
const UNTIL_DIGITS: usize = 8;
const TOKEN_DIGITS: usize = 16;

/// A session, as the id of its key tells it. That it is one of this installation is proven by a signature alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session<'a> {
    /// When it ends, in seconds since the epoch.
    until: u32,
    /// The beginning of its token's digest.
    token: &'a str,
    /// The key that it was made for.
    of: &'a str,
}

impl<'a> Session<'a> {
    /// The session whose key has this id, if it is that of one.
    #[must_use]
    pub fn of(id: &'a str) -> Option<Self> {
        let (head, of) = id.strip_prefix(BEGIN)?.split_once('_')?;
        let (until, token) = head.split_at_checked(UNTIL_DIGITS)?;
        let until = u32::from_str_radix(until, 16).ok()?;
        (token.len() == TOKEN_DIGITS && !of.is_empty()).then_some(Self { until, token, of })
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        u64::from(self.until) <= SystemClock.now().as_millis() / 1_000
    }

    /// Whether this is the token that it was made with.
    #[must_use]
    pub fn has_token(&self, token: &str) -> bool {
        digits(token) == self.token
    }

    /// The key that it was made for.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.of
    }
}

/// The key whose powers the key of this id has: its own, or those of the one that a session was made for.
#[must_use]
pub fn root(id: &str) -> &str {
    Session::of(id).map_or(id, |session| session.of)
}

/// Makes a session for a key, or for the key of another session: its id and secret. `token` is told to clients besides.
///
/// # Errors
/// The installation's secret cannot be read.
pub fn begin(state: &Path, key: &str, until: Timestamp, token: &str) -> io::Result<(String, String)> {
    let seconds = u32::try_from(until.as_millis() / 1_000).unwrap_or(u32::MAX);
    let id = format!("{BEGIN}{seconds:08X}{}_{}", digits(token), root(key));
    let secret = FunctionKeys::open(state)?.secret(&id);
    Ok((id, secret))
}

fn digits(token: &str) -> String {
    Digest::of(token.as_bytes()).hex()[..TOKEN_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rouse_types::AccessKey;

    use super::{
        super::{Ring, replace},
        *,
    };

    #[test]
    fn a_session_is_good_until_its_end_or_that_of_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        fs::create_dir_all(state.join("aws")).expect("a folder");
        FunctionKeys::prepare(state).expect("a secret");
        let key = AccessKey {
            tenant: "default".parse().expect("a tenant"),
            secret: "s".to_owned(),
            created: Default::default(),
            role: rouse_types::Role::Viewer,
        };
        replace(state, &[("AKIA".to_owned(), key)].into()).expect("written");
        let ring = Ring::new(state);
        let hour = Timestamp::from_millis(SystemClock.now().as_millis() + 3_600_000);
        let (id, secret) = begin(state, "AKIA", hour, "token").expect("a session");
        let found = ring.find(&id).expect("it is good");
        assert_eq!((found.secret.as_str(), found.tenant.as_str()), (secret.as_str(), "default"));
        assert_eq!(found.role, rouse_types::Role::Viewer, "a session may no more than its key");
        let session = Session::of(&id).expect("a session");
        assert!(session.has_token("token") && !session.has_token("other") && !session.is_over());
        assert_eq!((root(&id), root("AKIA")), ("AKIA", "AKIA"));
        let (again, _) = begin(state, &id, hour, "another").expect("a session of a session");
        assert_eq!(root(&again), "AKIA");
        let (over, _) = begin(state, "AKIA", Timestamp::from_millis(1_000), "token").expect("a session");
        assert!(Session::of(&over).expect("a session").is_over() && ring.find(&over).is_none());
        replace(state, &Default::default()).expect("written");
        assert_eq!(ring.find(&id), None, "its key is gone");
    }
}
