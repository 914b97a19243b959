//! What functions print, line by line.

use serde::{Deserialize, Serialize};

use crate::{FunctionName, InvocationId, TenantId, Timestamp};

/// The longest line that is kept, in bytes; what is longer is cut, and says so.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The code's standard output.
    Stdout,
    /// The code's standard error.
    Stderr,
    /// The platform, about this function: a trap, a time-out, an exit.
    Platform,
}

/// One line of a function's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogLine {
    /// When it was read.
    pub time: Timestamp,
    /// Whose function.
    pub tenant: TenantId,
    /// The function.
    pub function: FunctionName,
    /// The version's number.
    pub version: u64,
    /// The invocation that ran then; none while the code was starting.
    pub invocation: Option<InvocationId>,
    /// Where it was written to.
    pub stream: Stream,
    /// The line, without its end.
    pub text: String,
}
