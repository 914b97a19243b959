//! The words of `rouse runtime`.

use clap::Subcommand;

/// `rouse runtime …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Put a runtime's support in place, such as python3.11 or functions-framework-python3.11.
    Install {
        /// The runtime.
        runtime: String,
    },
    /// List the runtimes and whether they can be used.
    List,
}
