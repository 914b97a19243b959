//! The head of a streamed HTTP answer: JSON, eight zero bytes, then the body.
//!
//! Source: AWS Lambda Developer Guide, "Response streaming for custom runtimes" and the content type
//! `application/vnd.awslambda.http-integration-response`.

use bytes::{Bytes, BytesMut};

use super::http_answer::{Head, Invalid};

/// The content type that says that a prelude comes first.
pub const CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";
const END: [u8; 8] = [0; 8];
/// As long as all headers of an answer may be, and some.
const BYTES_MAX: usize = 64 << 10;

/// Gathers a prelude from the pieces of a stream.
#[derive(Debug, Default)]
pub struct Reader {
    seen: BytesMut,
}

impl Reader {
    /// Takes the next piece. Gives the head and the first bytes of the body once the prelude is whole.
    ///
    /// # Errors
    /// [`Invalid`] if it is too long, or no head.
    pub fn push(&mut self, piece: &[u8]) -> Result<Option<(Head, Bytes)>, Invalid> {
        // The end may begin in what was there before.
        let from = self.seen.len().saturating_sub(END.len() - 1);
        self.seen.extend_from_slice(piece);
        let found = self.seen[from..].windows(END.len()).position(|window| window == END);
        let Some(at) = found.map(|at| at + from) else {
            if self.seen.len() > BYTES_MAX {
                return Err(Invalid::new("the head of the streamed answer has no end within 64 KiB"));
            }
            return Ok(None);
        };
        let json = self.seen.split_to(at);
        let body = std::mem::take(&mut self.seen).freeze().slice(END.len()..);
        Head::read(&json).map(|head| Some((head, body)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn however_it_is_parted_the_head_and_the_body_are_the_same(
            body in prop::collection::vec(1u8.., 0..20), cuts in prop::collection::vec(0usize..70, 0..4),
        ) {
            let mut whole = br#"{"statusCode":201,"headers":{"a":"b"}}"#.to_vec();
            whole.extend_from_slice(&END);
            whole.extend_from_slice(&body);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(whole.len())).chain([0, whole.len()]).collect();
            cuts.sort_unstable();
            let mut reader = Reader::default();
            let (mut head, mut rest) = (None, Vec::new());
            for pair in cuts.windows(2) {
                let piece = &whole[pair[0]..pair[1]];
                if head.is_some() {
                    rest.extend_from_slice(piece);
                } else if let Some((found, first)) = reader.push(piece).expect("valid") {
                    head = Some(found);
                    rest.extend_from_slice(&first);
                }
            }
            prop_assert_eq!(head.expect("a head").status, http::StatusCode::CREATED);
            prop_assert_eq!(rest, body);
        }
    }

    #[test]
    fn a_prelude_without_end_is_refused() {
        let mut reader = Reader::default();
        assert!(reader.push(&vec![b' '; BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_prelude_that_is_no_json_is_refused() {
        assert!(Reader::default().push(b"hello\0\0\0\0\0\0\0\0").is_err());
    }
}
