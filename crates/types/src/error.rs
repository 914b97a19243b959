//! What a user is told when something is refused or fails: a stable code with a page in `docs/errors/`,
//! what it is about, and the next step.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal;)*) => {
        /// A stable error code. Each has a page, `docs/errors/<code>.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the source.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status that goes with it (RFC 9110 §15).
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

codes! {
    // Calls.
    /// No function answers at this address.
    FunctionNotFound = "function-not-found", 404;
    /// The function has no such alias or version.
    AliasNotFound = "alias-not-found", 404;
    /// The request's body is larger than the function takes.
    PayloadTooLarge = "payload-too-large", 413;
    /// The client did not send its request in time.
    RequestTimeout = "request-timeout", 408;
    /// The request itself is malformed.
    BadRequest = "bad-request", 400;
    /// Too many invocations already wait for this function.
    TooManyRequests = "too-many-requests", 429;
    /// The tenant, or the function, has as much under way, or as many calls a second, as it is granted.
    QuotaExceeded = "quota-exceeded", 429;
    /// The month's budget has no room for what the call may cost at most.
    BudgetExhausted = "budget-exhausted", 402;
    /// What is left of the month's budget is set aside for calls under way.
    BudgetReserved = "budget-reserved", 429;
    /// How much of the month's budget is left is not known yet.
    BudgetUnknown = "budget-unknown", 503;
    /// No instance became free in time.
    CapacityExhausted = "capacity-exhausted", 503;
    /// The code raised, trapped or exited.
    FunctionError = "function-error", 502;
    /// The code gave an answer that is none.
    InvalidResponse = "invalid-response", 502;
    /// The answer's body is larger than the function may send.
    ResponseTooLarge = "response-too-large", 502;
    /// The code ran over its time.
    FunctionTimeout = "function-timeout", 504;
    /// The code wanted more memory than it may have.
    OutOfMemory = "out-of-memory", 502;
    /// The instance could not be started, or did not get ready.
    StartFailed = "start-failed", 502;
    /// The process that runs this kind of function is not there at the moment.
    NodeUnavailable = "node-unavailable", 503;
    // Events.
    /// The process that keeps events is not there at the moment: the event was not accepted.
    EventsUnavailable = "events-unavailable", 503;
    /// There is no such event, or it has ended well.
    EventNotFound = "event-not-found", 404;
    /// A webhook's request is not signed as its sender signs, or too long ago.
    SignatureInvalid = "signature-invalid", 401;
    /// A chain of calls has passed the function too often.
    LoopDetected = "loop-detected", 508;
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency-key-reused", 422;
    /// There is no such queue.
    QueueNotFound = "queue-not-found", 404;
    // Objects.
    /// The tenant has no such bucket.
    BucketNotFound = "bucket-not-found", 404;
    /// The bucket has no such object.
    ObjectNotFound = "object-not-found", 404;
    /// The process that keeps objects is not there at the moment.
    ObjectsUnavailable = "objects-unavailable", 503;
    // Control.
    /// The manifest has errors.
    ManifestInvalid = "manifest-invalid", 400;
    /// The code is not what it should be: a broken component or archive.
    CodeInvalid = "code-invalid", 422;
    /// The code is larger than allowed.
    CodeTooLarge = "code-too-large", 413;
    /// Code was named that was never uploaded.
    CodeMissing = "code-missing", 409;
    /// The image is not what it should be: broken, of another architecture, without a program.
    ImageInvalid = "image-invalid", 422;
    /// The image cannot be had from its registry.
    ImageUnavailable = "image-unavailable", 502;
    /// The host lacks what runs this function.
    RuntimeMissing = "runtime-missing", 422;
    /// The host cannot confine a function as asked.
    IsolationUnavailable = "isolation-unavailable", 422;
    /// There is no such app.
    AppNotFound = "app-not-found", 404;
    /// There is no such version, or it is no longer kept.
    VersionNotFound = "version-not-found", 404;
    /// The name belongs to another app of the tenant.
    NameTaken = "name-taken", 409;
    /// The domain belongs to another function.
    DomainTaken = "domain-taken", 409;
    /// There is nothing to go back to.
    NothingToRollBack = "nothing-to-roll-back", 409;
    /// No token, or a wrong one.
    Unauthorized = "unauthorized", 401;
    /// The platform has certificates, and the request came over a network without TLS.
    HttpsRequired = "https-required", 403;
    /// Who asks may not do this.
    Forbidden = "forbidden", 403;
    /// There is no such tenant, or none that who asks may know of.
    TenantNotFound = "tenant-not-found", 404;
    /// The tenant still has something that deleting it would lose.
    TenantNotEmpty = "tenant-not-empty", 409;
    /// The tenant has no such key.
    KeyNotFound = "key-not-found", 404;
    /// The cluster has no such node.
    NodeNotFound = "node-not-found", 404;
    /// There is no such provider of identities.
    ProviderNotFound = "provider-not-found", 404;
    /// The tenant has no such member.
    MemberNotFound = "member-not-found", 404;
    /// The tenant has no such trust policy.
    TrustNotFound = "trust-not-found", 404;
    /// Without this member the tenant would have no owner who signs in.
    LastOwner = "last-owner", 409;
    /// The tenant has no such secret.
    SecretNotFound = "secret-not-found", 404;
    /// Functions that are live use the secret.
    SecretInUse = "secret-in-use", 409;
    /// The disk is full: nothing new is taken, what is there goes on.
    StorageFull = "storage-full", 507;
    /// The control process is not there at the moment.
    ControlUnavailable = "control-unavailable", 503;
    /// The engine of the cluster does not answer: nothing is changed or accepted.
    ClusterUnavailable = "cluster-unavailable", 503;
    /// No operation of the API has this method and path.
    OperationNotFound = "operation-not-found", 404;
    /// A fault of ours.
    Internal = "internal", 500;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is said to whoever asked: never anything of our inside, which goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What is refused or failed, and for whom.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When to try again, in milliseconds: becomes `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal with what is said; the next step is added by [`Refusal::hint`].
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, retry_after_ms: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// `Retry-After` in whole seconds, rounded up (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_ms.map(|ms| ms.div_ceil(1_000).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_has_an_error_status() {
        for &code in Code::ALL {
            let json = serde_json::to_string(&code).expect("json");
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).expect("a code"), code);
            assert!((400..600).contains(&code.status()), "{code}");
        }
    }

    #[test]
    fn every_code_has_a_page() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let missing: Vec<_> =
            Code::ALL.iter().filter(|code| !pages.join(format!("{code}.md")).is_file()).collect();
        assert!(missing.is_empty(), "codes without a page in docs/errors: {missing:?}");
    }
}
