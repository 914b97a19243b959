//! OCI images: found in a registry or an archive, checked, and unpacked once for each layer.
//!
//! ```text
//!  reference ─▶ registry ─▶ manifest, config (this architecture) ─▶ layers: download ─▶ digest ─▶ unpack ─▶ Image
//!  archive ────────────────────────▲                                (resumed)          (checked)  (bounded)
//! ```
//!
//! Sources: OCI image format and distribution specifications 1.1; Docker's registry API v2 and `docker save`.
//!
//! Invariant: nothing is believed that a registry or an archive says: blobs are what their digests say before
//! anything is made of them, and a layer writes below its own folder alone, within bounds. No privileges are needed.

pub mod archive;
pub mod auth;
pub mod layers;
pub mod manifest;
pub mod reference;
pub mod registry;
pub mod tar;
pub mod unpack;

mod blob;
mod http;
mod url;
mod zstd;

pub use auth::Credentials;
pub use http::authorities;
pub use layers::Store;
pub use reference::Reference;
pub use registry::Registry;

use rouse_types::{Code, Refusal};

/// What is said of an image that cannot be run.
fn invalid(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::ImageInvalid, what)
}

/// What is said of an image that cannot be had.
fn unavailable(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::ImageUnavailable, what)
}

/// What is said of an error of this machine's file system.
fn io(action: &'static str) -> impl Fn(std::io::Error) -> Refusal {
    move |error| match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Refusal::new(Code::StorageFull, "the platform's disk is full: the image does not fit")
                .hint("free space below the state folder, or delete apps with `rouse delete`")
        }
        _ => {
            tracing::error!(%error, "cannot {action}");
            Refusal::new(Code::Internal, format!("the platform cannot {action}: {error}"))
        }
    }
}

/// A name as it is shown: whatever bytes it has, printable and short.
fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).chars().take(120).flat_map(char::escape_debug).collect()
}
