//! Questions and answers of the domain name system, as far as programs need them to find an address: RFC 1035 §4.

use std::net::IpAddr;

/// The type of an address of version 4, and of version 6 (RFC 3596).
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// The class that asks for any.
const CLASS_ANY: u16 = 255;
const HEADER_BYTES: usize = 12;
/// The largest message over UDP that every program takes.
const ANSWER_BYTES_MAX: usize = 512;
/// How long an answer may be kept, in seconds: an address of the sandbox' own never changes, one outside may.
const TTL: u32 = 60;

/// One question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'a> {
    id: [u8; 2],
    /// Recursion desired: handed back as it came.
    recursion: u8,
    /// The question as it stands in the query.
    text: &'a [u8],
    /// In lower case, without the dot at its end.
    pub(super) name: String,
    /// What is asked for.
    pub(super) kind: u16,
}

/// How a question is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These addresses, of which those of the type that was asked for are told; none of it is an answer too.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// It cannot be told now.
    Failed,
}

impl<'a> Question<'a> {
    /// Reads a query. None for what is no query with one question for the internet, which gets no answer.
    pub(super) fn read(query: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = query.first_chunk()?;
        let count = u16::from_be_bytes([header[4], header[5]]);
        // The first bit says that it is an answer; the next four, what kind of query.
        if header[2] & 0xf8 != 0 || count != 1 {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER_BYTES;
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // What is longer is a pointer, which a first name has no use for.
            let label = query.get(at..at + length).filter(|_| length <= 63)?;
            at += length;
            if !name.is_empty() {
                name.push('.');
            }
            // A dot or a strange byte within a label must not read like another name.
            name.extend(label.iter().map(|&byte| match byte {
                b'.' | 0..=b' ' | 127.. => '?',
                byte => char::from(byte.to_ascii_lowercase()),
            }));
            if name.len() > 253 {
                return None;
            }
        }
        let [kind_high, kind_low, class_high, class_low] = *query.get(at..)?.first_chunk()?;
        let class = u16::from_be_bytes([class_high, class_low]);
        if class != CLASS_IN && class != CLASS_ANY {
            return None;
        }
        let kind = u16::from_be_bytes([kind_high, kind_low]);
        let text = query.get(HEADER_BYTES..at + 4)?;
        Some(Self { id: [header[0], header[1]], recursion: header[2] & 1, text, name, kind })
    }

    /// The answer's message.
    pub(super) fn answer(&self, answer: &Answer) -> Vec<u8> {
        let (code, addresses) = match answer {
            Answer::Addresses(addresses) => (0, addresses.as_slice()),
            Answer::Failed => (2, [].as_slice()),
            Answer::NoName => (3, [].as_slice()),
        };
        let records = addresses.iter().filter_map(|address| match (address, self.kind) {
            (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
            _ => None,
        });
        let mut message = Vec::with_capacity(ANSWER_BYTES_MAX);
        message.extend(self.id);
        // An answer; recursion is available.
        message.extend([0x80 | self.recursion, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(self.text);
        let mut count: u16 = 0;
        for record in records {
            if message.len() + 12 + record.len() > ANSWER_BYTES_MAX {
                break;
            }
            // The name is where the question has it.
            message.extend([0xc0, 12]);
            message.extend(self.kind.to_be_bytes());
            message.extend(CLASS_IN.to_be_bytes());
            message.extend(TTL.to_be_bytes());
            message.extend([0, if record.len() == 4 { 4 } else { 16 }]);
            message.extend(record);
            count += 1;
        }
        message[6..8].copy_from_slice(&count.to_be_bytes());
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).expect("short"));
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        bytes
    }

    #[test]
    fn an_address_is_asked_for_and_told() {
        let bytes = query("API.example.com", A);
        let question = Question::read(&bytes).expect("a question");
        assert_eq!((question.name.as_str(), question.kind), ("api.example.com", A));
        let told = question
            .answer(&Answer::Addresses(vec!["::1".parse().expect("v6"), "127.8.0.1".parse().expect("v4")]));
        assert_eq!(told[..12], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(told[told.len() - 4..], [127, 8, 0, 1]);
        let missing = question.answer(&Answer::NoName);
        assert_eq!((missing[3], missing[7]), (0x83, 0));
    }

    #[test]
    fn an_answer_fits_whatever_there_is_to_tell() {
        let bytes = query("a.example.com", AAAA);
        let question = Question::read(&bytes).expect("a question");
        let told = question.answer(&Answer::Addresses(vec!["2001:db8::1".parse().expect("v6"); 100]));
        assert!(told.len() <= ANSWER_BYTES_MAX && told[7] > 10, "{}", told.len());
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let good = query("a.example.com", A);
        for length in 0..good.len() {
            assert_eq!(Question::read(&good[..length]), None, "{length}");
        }
        let spoiled = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Question::read(&bytes).is_none()
        };
        assert!(spoiled(2, 0x81), "an answer");
        assert!(spoiled(5, 2), "two questions");
        assert!(spoiled(12, 0xc0), "a pointer");
        let mut tricky = good;
        tricky[13] = b'.';
        assert_eq!(Question::read(&tricky).expect("a question").name, "?.example.com");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Some(question) = Question::read(&bytes) {
                question.answer(&Answer::NoName);
            }
        }
    }
}
