//! What AWS says of a payload that is no JSON: its parser's words (Jackson's), as far as the beginning tells. Pure.

/// How much of a payload is told.
const SHOWN_BYTES_MAX: usize = 500;
const EXPECTED: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

/// Why the first value of a payload cannot be read; nothing where it begins well.
pub(super) fn told(payload: &[u8]) -> Option<String> {
    let start = payload.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let first = payload[start];
    let (what, at) = match first {
        b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' => return None,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => {
            let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$".contains(byte);
            let length = payload[start..].iter().take_while(|byte| word(byte)).count();
            let end = start + length;
            match payload.get(end) {
                Some(byte) if *byte >= 0x80 && !starts_a_character(*byte) => {
                    (format!("Invalid UTF-8 start byte 0x{byte:x}"), end + 1)
                }
                _ => {
                    let token = String::from_utf8_lossy(&payload[start..end]).into_owned();
                    if ["null", "true", "false"].contains(&token.as_str()) {
                        return None;
                    }
                    (format!("Unrecognized token '{token}': was expecting {EXPECTED}"), end)
                }
            }
        }
        _ => {
            let shown = match first {
                0x20..0x7f => format!("'{}' (code {first})", char::from(first)),
                _ => format!("(CTRL-CHAR, code {first})"),
            };
            (format!("Unexpected character ({shown}): expected a valid value {EXPECTED}"), start + 1)
        }
    };
    let line = payload[..start].iter().filter(|byte| **byte == b'\n').count();
    let begin = payload[..start].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let shown = String::from_utf8_lossy(&payload[..payload.len().min(SHOWN_BYTES_MAX)]);
    let rest = match payload.len().saturating_sub(SHOWN_BYTES_MAX) {
        0 => String::new(),
        bytes => format!("[truncated {bytes} bytes]"),
    };
    let column = at - begin + 1;
    Some(format!("{what}\n at [Source: (byte[])\"{shown}\"{rest}; line: {}, column: {column}]", line + 1))
}

/// Whether a byte begins a character of several bytes (RFC 3629 §4).
fn starts_a_character(byte: u8) -> bool {
    (0xc2..=0xf4).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_begins_no_json_is_told_with_its_place() {
        let of = |payload: &[u8]| told(payload).expect("a reason");
        let utf8 = of(b"n\x87r");
        assert_eq!(
            utf8,
            "Invalid UTF-8 start byte 0x87\n at [Source: (byte[])\"n\u{fffd}r\"; line: 1, column: 3]"
        );
        let control = of(b"\x99,j");
        assert!(
            control.starts_with("Unexpected character ((CTRL-CHAR, code 153)): expected a valid value (JSON")
        );
        assert!(control.ends_with("line: 1, column: 2]"), "{control}");
        let word = of(b"\n hello you");
        assert!(word.starts_with("Unrecognized token 'hello': was expecting (JSON String"), "{word}");
        assert!(word.ends_with("line: 2, column: 7]"), "{word}");
        assert!(of(&[b'x'; 600]).contains("\"[truncated 100 bytes]; line"));
        assert_eq!((told(b"{"), told(b"true x"), told(b" ")), (None, None, None));
    }
}
