//! What an attempt came to, of what a gateway answered. Pure; what becomes of the event then is decided by
//! `rouse_triggers::retry`.
//!
//! | what was answered | what it means |
//! |---|---|
//! | 2xx | the function did well |
//! | any other status of the function's own | it failed |
//! | a refusal for want of room, or a fault of the platform | it was not tried: the attempt does not count |
//! | too large for the function | it would fail at each attempt |

use std::time::Duration;

use http::StatusCode;
use rouse_triggers::retry::{Failure, Policy};
use rouse_types::{Code, EventSettings, InvocationId, Outcome};

/// The longest time that an answer may ask for with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The function did well.
    Well,
    /// It did not, for this reason; the answer may have said when to come again.
    Failed { failure: Failure, reason: String, retry_after: Option<Duration> },
}

impl Verdict {
    pub(crate) fn failed(failure: Failure, reason: impl Into<String>) -> Self {
        Self::Failed { failure, reason: reason.into(), retry_after: None }
    }
}

/// Reads a gateway's answer: its status, and the code of what was refused or failed, if anything was.
pub(crate) fn verdict(
    status: StatusCode,
    error: Option<&str>,
    message: &str,
    retry_after: Option<Duration>,
) -> Verdict {
    let retry_after = retry_after.map(|after| after.min(RETRY_AFTER_MAX));
    let Some(error) = error else {
        if status.is_success() {
            return Verdict::Well;
        }
        // The function's own word: what it does not want it may want when its next version is live.
        let reason = format!("the function answered {status}");
        return Verdict::Failed { failure: Failure::Function, reason, retry_after };
    };
    let reason = if message.is_empty() { error.to_owned() } else { format!("{error}: {message}") };
    let is = |codes: &[Code]| codes.iter().any(|code| code.as_str() == error);
    let failure = if is(&[
        Code::TooManyRequests,
        Code::CapacityExhausted,
        Code::QuotaExceeded,
        Code::BudgetReserved,
        Code::BudgetExhausted,
    ]) {
        Failure::Throttled
    } else if is(&[
        Code::NodeUnavailable,
        Code::BudgetUnknown,
        Code::RequestTimeout,
        Code::StorageFull,
        Code::Internal,
    ]) || error == Outcome::PlatformError.as_str()
    {
        Failure::Platform
    } else if is(&[Code::PayloadTooLarge, Code::BadRequest]) {
        Failure::Permanent
    } else if is(&[Code::FunctionTimeout]) {
        Failure::Timeout
    } else {
        // What is not there may be deployed again: that, too, is tried as often as a failure.
        Failure::Function
    };
    Verdict::Failed { failure, reason, retry_after }
}

/// How the events of a function are retried.
pub(crate) fn policy(settings: &EventSettings) -> Policy {
    Policy {
        attempts_max: settings.attempts.max(1),
        age_max: Duration::from_millis(settings.age_max_ms),
        pause_first: Duration::from_millis(settings.backoff_ms),
        pause_max: Duration::from_millis(settings.backoff_max_ms),
    }
}

/// A number for the pause after an attempt: the end of an event's id is chance, and each attempt has its own.
pub(crate) fn chance(id: InvocationId, number: u64) -> u64 {
    let bytes = id.as_bytes();
    let seed = u64::from(u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]));
    let mixed = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_answer_says_whose_fault_it_was() {
        let of = |status: u16, error: Option<&str>| match verdict(
            StatusCode::from_u16(status).expect("a status"),
            error,
            "",
            None,
        ) {
            Verdict::Well => None,
            Verdict::Failed { failure, .. } => Some(failure),
        };
        assert_eq!(of(204, None), None);
        assert_eq!(of(500, None), Some(Failure::Function));
        assert_eq!(of(302, None), Some(Failure::Function), "no one follows it");
        for code in ["function-error", "out-of-memory", "function-not-found", "start-failed"] {
            assert_eq!(of(502, Some(code)), Some(Failure::Function), "{code}");
        }
        assert_eq!(of(504, Some("function-timeout")), Some(Failure::Timeout));
        for (status, code) in [(429, "too-many-requests"), (429, "quota-exceeded"), (402, "budget-exhausted")]
        {
            assert_eq!(of(status, Some(code)), Some(Failure::Throttled), "{code}");
        }
        for code in ["node-unavailable", "platform-error", "internal"] {
            assert_eq!(of(503, Some(code)), Some(Failure::Platform), "{code}");
        }
        assert_eq!(of(413, Some("payload-too-large")), Some(Failure::Permanent));
    }

    #[test]
    fn an_answer_may_say_when_to_come_again_but_not_for_ever() {
        let told = verdict(StatusCode::SERVICE_UNAVAILABLE, None, "", Some(RETRY_AFTER_MAX * 9));
        assert!(matches!(told, Verdict::Failed { retry_after: Some(RETRY_AFTER_MAX), .. }));
    }

    #[test]
    fn each_attempt_of_each_event_has_a_pause_of_its_own() {
        let (a, b) = (InvocationId::new(), InvocationId::new());
        assert_ne!(chance(a, 1) % 1_000_000, chance(a, 2) % 1_000_000);
        assert_ne!(chance(a, 1), chance(b, 1));
    }
}
