//! What the tests with other people's clients share: a platform with an access key, and a client's program run
//! against it.

use std::path::PathBuf;

pub use rouse_e2e::{environment, environment_of, run, tool};

/// A script of this package.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}
