//! How a call can end without an answer, and what is said of it: to the caller, and to the function's log.

use rouse_contract::lambda::{Failure, RuntimeError, describe, http_answer::Invalid};
use rouse_sandbox::{Exit, Sandbox, Stats};
use rouse_types::{Code, FunctionVersion, InvocationId, Outcome, Refusal, Source};

use super::{Fate, Place};
use crate::instance::Around;

/// How a call ended, before it is told to anyone.
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) refusal: Option<Refusal>,
    pub(super) fate: Fate,
}

impl End {
    pub(super) const OK: Self = Self { outcome: Outcome::Ok, refusal: None, fate: Fate::Reusable };
    pub(super) const CANCELLED: Self = Self { outcome: Outcome::Cancelled, refusal: None, fate: Fate::Spent };

    pub(super) fn error(code: Code, text: String) -> Self {
        let refusal = Refusal::new(code, text);
        Self { outcome: Outcome::FunctionError, refusal: Some(refusal), fate: Fate::Reusable }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.refusal = self.refusal.map(|refusal| refusal.hint(hint));
        self
    }

    /// What the caller is told, and what becomes of the instance.
    pub(super) fn told(self) -> (Refusal, Fate) {
        let unknown = || Refusal::new(Code::Internal, "it ended without a reason");
        (self.refusal.unwrap_or_else(unknown), self.fate)
    }

    /// What the code cannot write to its log itself, the platform does.
    pub(super) fn say(&self, around: &Around, id: InvocationId, version: &FunctionVersion) {
        let own_words =
            |refusal: &&Refusal| refusal.code != Code::FunctionError || matches!(self.fate, Fate::Spent);
        if let Some(refusal) = self.refusal.as_ref().filter(own_words) {
            around.say(version, Some(id), refusal.message.clone());
        }
    }
}

/// What the code raised is for the developer, who calls it by `rouse invoke`; not for strangers.
pub(super) fn raised(version: &FunctionVersion, source: Source, error: &RuntimeError) -> End {
    let text = match source {
        Source::Invoke => format!("{} raised {}: {}", version.key(), error.error_type, error.message),
        Source::Http => format!("{} raised an error", version.key()),
    };
    End::error(Code::FunctionError, text).hint(see_log(version))
}

pub(super) fn invalid(version: &FunctionVersion, error: &Invalid) -> End {
    End::error(Code::InvalidResponse, format!("{} gave no HTTP answer: {error}", version.key()))
        .hint("return a JSON object with `statusCode`, or any other JSON as the body of a 200")
}

pub(super) fn too_large(version: &FunctionVersion, max: u64) -> End {
    let text = format!("the answer of {} is larger than its {max} bytes", version.key());
    End::error(Code::ResponseTooLarge, text).hint("answer with less, or raise the function's response limit")
}

pub(super) fn broke_off(version: &FunctionVersion) -> End {
    let text = format!("{} broke off its answer", version.key());
    End { fate: Fate::Spent, ..End::error(Code::InvalidResponse, text) }
}

pub(super) fn failed<S: Sandbox>(place: &Place<S>, failure: Failure) -> End {
    let version = &place.version;
    let key = version.key();
    let (outcome, refusal) = match failure {
        Failure::Timeout => {
            let text = format!("{key} ran over its {} ms", version.limits.timeout_ms);
            let hint = "make it quicker, or raise `timeout`";
            (Outcome::Timeout, Refusal::new(Code::FunctionTimeout, text).hint(hint))
        }
        Failure::Exited(Exit::OutOfMemory) => {
            let used = peak(place.worker.sandbox().stats());
            let text = format!("{key} used up its {} MiB of memory{used}", version.limits.memory_mib);
            let hint = "use less, or raise `memory`";
            (Outcome::OutOfMemory, Refusal::new(Code::OutOfMemory, text).hint(hint))
        }
        Failure::Exited(exit) => {
            let text = format!("{key} did not answer: {}", describe(exit));
            (Outcome::FunctionError, Refusal::new(Code::FunctionError, text).hint(see_log(version)))
        }
    };
    End { outcome, refusal: Some(refusal), fate: Fate::Spent }
}

fn see_log(version: &FunctionVersion) -> String {
    format!("see its log: `rouse logs {}`", version.function)
}

/// What an instance held of memory at most, as the end of a sentence; nothing where the host cannot say.
pub(crate) fn peak(stats: Stats) -> String {
    match stats.memory_peak_bytes {
        0 => String::new(),
        bytes => format!("; it held {} MiB at its peak", bytes.div_ceil(1 << 20)),
    }
}
