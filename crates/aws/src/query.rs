//! Queries and forms: percent-encoding as clients of AWS write it.

/// The pairs of a query or of a form, decoded. What is malformed stands for itself.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let read = |text: &str| {
                let text = text.replace('+', " ");
                decode(&text).unwrap_or(text)
            };
            (read(name), read(value))
        })
        .collect()
}

/// Percent-decodes (RFC 3986 §2.1). Nothing, if it is malformed.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes all but what RFC 3986 §2.3 calls unreserved, and slashes where they are kept: as SigV4 wants it.
pub(crate) fn encode(text: &str, keep_slashes: bool) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slashes => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("a=1&b=x%20y+z&c&&d="),
            [pair("a", "1"), pair("b", "x y z"), pair("c", ""), pair("d", "")]
        );
        assert_eq!(pairs("a=%zz"), [pair("a", "%zz")]);
        assert_eq!(encode("a b/ä~", false), "a%20b%2F%C3%A4~");
    }
}
