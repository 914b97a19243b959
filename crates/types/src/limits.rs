//! What one function may use, and the platform's own bounds. Every number has its reason beside it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one instance or one invocation of a function may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory of one instance, in MiB.
    pub memory_mib: u32,
    /// How long one invocation may run, in milliseconds, cold start left out.
    pub timeout_ms: u64,
    /// How long code may take from its start until it asks for work, in milliseconds.
    pub init_timeout_ms: u64,
    /// Bytes of a request's body.
    pub request_body_bytes: u64,
    /// Bytes of an answer's body.
    pub response_body_bytes: u64,
    /// `/tmp` of one instance, in MiB.
    pub tmp_mib: u32,
    /// Processes and threads of one instance.
    pub processes: u32,
    /// Bytes of log lines that one invocation may write; what is over is dropped and counted.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 128,
            timeout_ms: 30_000,
            init_timeout_ms: 10_000,
            // AWS Lambda takes 6 MiB; people's functions expect no less.
            request_body_bytes: 6 << 20,
            response_body_bytes: 20 << 20,
            tmp_mib: 512,
            processes: 256,
            log_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// The time-out as a duration.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// The least memory that a function may ask for: a Wasm instance is happy with it.
pub const MEMORY_MIB_MIN: u32 = 16;
/// The most memory that a function may ask for: AWS Lambda's 10,240 MB.
pub const MEMORY_MIB_MAX: u32 = 10_240;
/// The longest time-out: AWS Lambda's 15 minutes are too short for some; Cloud Run's hour is not.
pub const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// Environment variables of one function, names and values together: AWS Lambda's 4 KiB times four.
pub const ENV_BYTES_MAX: usize = 16 << 10;
/// Code as it is uploaded: AWS Lambda takes 50 MB zipped; components of interpreted languages are large.
pub const CODE_BYTES_MAX: u64 = 256 << 20;
/// Code once unpacked: what AWS Lambda takes, times two.
pub const CODE_UNPACKED_BYTES_MAX: u64 = 512 << 20;
/// Files in one archive.
pub const CODE_FILES_MAX: usize = 50_000;
/// An image as it is pulled or uploaded: all its layers, compressed.
pub const IMAGE_BYTES_MAX: u64 = 4 << 30;
/// An image once unpacked: what AWS Lambda takes.
pub const IMAGE_UNPACKED_BYTES_MAX: u64 = 10 << 30;
/// Files and folders of one image: full distributions with their documentation have 200,000.
pub const IMAGE_FILES_MAX: usize = 500_000;
/// Layers of one image: what Docker takes.
pub const IMAGE_LAYERS_MAX: usize = 127;
/// Functions of one app: bounds a deployment's size.
pub const FUNCTIONS_PER_APP_MAX: usize = 1_000;
/// Invocation headers together, in bytes: what nginx and hyper take by default, doubled.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Headers of one request.
pub const HEADERS_MAX: usize = 128;
/// How long a client may take to send its headers.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
