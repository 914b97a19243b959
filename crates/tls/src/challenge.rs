//! What ACME's authorities ask for to see that a name is ours: a file below `/.well-known/acme-challenge/`
//! (RFC 8555 §8.3). Control writes it, any gateway answers with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The path that authorities ask at, before the token.
pub const PATH: &str = "/.well-known/acme-challenge/";
/// Where the answers are, below the state folder.
const FOLDER: &str = "tls/challenges";
/// A token has at least 128 bits, so 22 characters; none known has 100.
const TOKEN_CHARS_MAX: usize = 128;

/// The token of a path, if it is one: base64url characters alone, so that it is no path of its own.
fn token(path: &str) -> Option<&str> {
    let token = path.strip_prefix(PATH)?;
    let plain = token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (plain && (1..=TOKEN_CHARS_MAX).contains(&token.len())).then_some(token)
}

fn file(state: &Path, token: &str) -> PathBuf {
    state.join(FOLDER).join(token)
}

/// What is answered at a path: none when nobody was told to ask there.
#[must_use]
pub fn answer(state: &Path, path: &str) -> Option<String> {
    fs::read_to_string(file(state, token(path)?)).ok()
}

/// Puts the answer to a token in place.
///
/// # Errors
/// What the disk says; a token that is none.
pub fn put(state: &Path, asked: &str, answer: &str) -> io::Result<()> {
    let path = format!("{PATH}{asked}");
    let token =
        token(&path).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no token of ACME"))?;
    crate::replace(&file(state, token), answer.as_bytes(), None)
}

/// Takes all answers away: those of orders that a predecessor did not end.
pub fn clear(state: &Path) {
    let _ = fs::remove_dir_all(state.join(FOLDER));
}

/// Takes the answer to a token away.
pub fn remove(state: &Path, asked: &str) {
    if let Some(token) = token(&format!("{PATH}{asked}")) {
        let _ = fs::remove_file(file(state, token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_its_token_and_nothing_else_is() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(state.path().join("tls")).expect("made");
        fs::write(state.path().join("tls/acme.json"), "secret").expect("written");
        put(state.path(), "a-Token_1", "a-Token_1.thumb").expect("written");
        assert_eq!(
            answer(state.path(), "/.well-known/acme-challenge/a-Token_1").as_deref(),
            Some("a-Token_1.thumb")
        );
        for other in
            ["", "other", "../acme.json", "..%2Facme.json", "a-Token_1/", "./a-Token_1", &"x".repeat(500)]
        {
            assert_eq!(answer(state.path(), &format!("{PATH}{other}")), None, "{other}");
        }
        assert_eq!(answer(state.path(), "/a-Token_1"), None);
        put(state.path(), "../x", "y").expect_err("that is a path");
        remove(state.path(), "a-Token_1");
        assert_eq!(answer(state.path(), "/.well-known/acme-challenge/a-Token_1"), None);
    }
}
