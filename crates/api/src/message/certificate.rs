//! Messages about certificates.

use rouse_types::{Domain, FunctionName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What HTTPS at a domain is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateInfo {
    /// The domain.
    pub domain: Domain,
    /// The function that has it; none for the platform's own.
    pub function: Option<FunctionName>,
    /// Where the certificate comes from: the operator's file, or the directory of an ACME authority. None if there is
    /// no certificate.
    pub from: Option<String>,
    /// Until when it holds.
    pub until: Option<Timestamp>,
    /// Why the last attempt to get one failed, if it did.
    pub error: Option<String>,
    /// When the next attempt is made after one that failed.
    pub next: Option<Timestamp>,
}
