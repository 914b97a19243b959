//! The token of the API: made at the first start, kept where only the platform's user reads it.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rouse_store::file;
use rouse_types::Digest;

/// Random bytes of a token.
const BYTES: usize = 32;

/// The token, as far as the server needs it.
#[derive(Debug)]
pub(crate) struct Token(Digest);

impl Token {
    /// Reads the token of this state folder, or makes one.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let path = state.join("control").join("token");
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(Self(Digest::of(text.trim().as_bytes()))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut random = [0; BYTES];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let text = URL_SAFE_NO_PAD.encode(random);
        // A token that was cut off by a crash would lock everyone out.
        file::replace(&path, text.as_bytes())?;
        Ok(Self(Digest::of(text.as_bytes())))
    }

    /// Whether this is the platform's token. The time that it takes tells nothing of the token.
    pub(crate) fn is(&self, given: &str) -> bool {
        self.0.same(&Digest::of(given.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_is_private_and_lets_only_its_bearer_in() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir(state.path().join("control")).expect("a folder");
        Token::open(state.path()).expect("a token");
        let file = state.path().join("control/token");
        let text = fs::read_to_string(&file).expect("the token");
        assert_eq!(text.len(), 43);
        assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
        let token = Token::open(state.path()).expect("again");
        assert_eq!(fs::read_to_string(&file).expect("the token"), text);
        assert!(token.is(&text));
        for wrong in ["", " ", &format!("{text}x"), &text[1..]] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }
}
