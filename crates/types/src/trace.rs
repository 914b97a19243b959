//! The trace that a call belongs to: W3C Trace Context, level 1 (`traceparent`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A `traceparent`: which trace, which span called us, whether it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: u128,
    /// 8 bytes, not all zero.
    pub span_id: u64,
    /// Bit 0: sampled.
    pub flags: u8,
}

/// A text that is no `traceparent`. The specification says to begin a new trace then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of version 00 (W3C Trace Context, §3.2)")]
pub struct Error;

impl TraceContext {
    /// A new trace that begins at an invocation: its id is the trace's, so that one finds the other.
    #[must_use]
    pub fn begin(id: crate::InvocationId) -> Self {
        let trace_id = u128::from_be_bytes(*id.as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "the low half is the random one")]
        let span_id = trace_id as u64;
        Self { trace_id, span_id: span_id.max(1), flags: 0 }
    }

    /// The span of an invocation: in its caller's trace, or in one that begins with it.
    #[must_use]
    pub fn of(caller: Option<Self>, id: crate::InvocationId) -> Self {
        caller.map_or_else(|| Self::begin(id), |caller| caller.child(id))
    }

    /// The same trace, with the span of this invocation as parent of what the function does.
    #[must_use]
    pub fn child(self, id: crate::InvocationId) -> Self {
        Self { span_id: Self::begin(id).span_id, ..self }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.split('-');
        let (Some(version), Some(trace), Some(span), Some(flags)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error);
        };
        let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        let digits = [version, trace, span, flags].into_iter().all(lower);
        // A later version may add fields; version 00 has none more, and ff is forbidden.
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        if !(lengths && digits && known) {
            return Err(Error);
        }
        let trace_id = u128::from_str_radix(trace, 16).map_err(|_| Error)?;
        let span_id = u64::from_str_radix(span, 16).map_err(|_| Error)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| Error)?;
        if trace_id == 0 || span_id == 0 {
            return Err(Error);
        }
        Ok(Self { trace_id, span_id, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_reads_back_what_it_wrote() {
        let trace: TraceContext = EXAMPLE.parse().expect("the specification's example");
        assert_eq!(trace.to_string(), EXAMPLE);
    }

    #[test]
    fn what_is_malformed_or_zero_is_refused() {
        let wrong = [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c8031+c-b7ad6b7169203331-01",
        ];
        for text in wrong {
            assert_eq!(text.parse::<TraceContext>(), Err(Error), "{text}");
        }
    }

    #[test]
    fn a_later_version_with_more_fields_is_read_as_far_as_known() {
        assert!(
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more".parse::<TraceContext>().is_ok()
        );
    }
}
