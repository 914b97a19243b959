//! The words of `rouse secret`.

use std::path::PathBuf;

use clap::Subcommand;

/// `rouse secret …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Set a secret: from the standard input, so that it stands in no list of processes and no shell's history.
    Set {
        /// Its name, such as db-password.
        name: String,
        /// Read it from this file instead. One line's end at the end does not count.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the secrets, without their values, and the functions that have them.
    List,
    /// Delete a secret that no live function has.
    Delete {
        /// Its name.
        name: String,
    },
    /// Seal all secrets of all tenants under a new key. For the operator.
    RotateKey,
}
