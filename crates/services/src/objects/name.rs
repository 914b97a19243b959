//! Names of buckets and objects, and the keys that their records have.
//!
//! A record's key knows few characters; an object's key is any UTF-8 of up to 1,024 bytes. So each byte becomes one
//! or two characters, and the order of bytes stays the order of characters: a scan of records lists objects in the
//! order that S3 wants, and a prefix of the one is a prefix of the other.

use super::Error;

/// An object's key, in bytes of UTF-8 (as S3).
pub const KEY_BYTES_MAX: usize = 1_024;

/// The characters that stand second, in their order.
const SECOND: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Sorts after every encoded key that begins with what it is put behind.
pub(super) const BEYOND: char = '~';
/// Parts an encoded key from what follows. No encoded key has it in it, and it sorts before whatever could go on.
pub(super) const BREAK: &str = "--";

/// Writes an object's key with the characters of a record's key: letters, digits, '/', '-', '=' and '_'. At most
/// twice as long.
#[must_use]
pub fn encode(key: &str) -> String {
    let mut text = String::with_capacity(key.len() + key.len() / 4);
    for byte in key.bytes() {
        let (first, second) = match byte {
            b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'w' => (byte, None),
            0..=0x2e => (b'-', Some(byte)),
            0x3a..=0x40 => (b'=', Some(byte - 0x3a)),
            0x5b..=0x60 => (b'_', Some(byte - 0x5b)),
            // The rest takes three characters in front: x, y and z.
            0x78.. => (b'x' + (byte - 0x78) / 62, Some((byte - 0x78) % 62)),
        };
        text.push(char::from(first));
        if let Some(second) = second {
            text.push(char::from(SECOND[usize::from(second)]));
        }
    }
    text
}

/// Reads what [`encode`] wrote; nothing if it did not write this.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(first) = rest.next() {
        let (base, count) = match first {
            b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'w' => {
                bytes.push(first);
                continue;
            }
            b'-' => (0, 0x2f),
            b'=' => (0x3a, 7),
            b'_' => (0x5b, 6),
            b'x' => (0x78, 62),
            b'y' => (0x78 + 62, 62),
            b'z' => (0x78 + 124, 12),
            _ => return None,
        };
        let second = rest.next()?;
        let index = SECOND.iter().position(|&character| character == second)?;
        bytes.push(u8::try_from(index).ok().filter(|&index| index < count)? + base);
    }
    String::from_utf8(bytes).ok()
}

/// Refuses a name that no bucket can have: 3 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or
/// digit, and not an address (as S3).
pub(super) fn check_bucket(name: &str) -> Result<(), Error> {
    if rouse_types::object::is_bucket_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::InvalidBucketName(shown))
}

/// Refuses a key that no object can have.
pub(super) fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::Invalid("an object's key must not be empty".to_owned())),
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(Error::KeyTooLong(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buckets_are_named_as_the_library_for_s3_has_it(name in "[a-c0-9.\\-]{0,8}|[a-z0-9.\\-]{60,66}|xn--[a-z]{1,3}") {
            prop_assert_eq!(rouse_types::object::is_bucket_name(&name), s3s::path::check_bucket_name(&name));
        }

        #[test]
        fn a_key_reads_back_and_is_at_most_twice_as_long(key in ".{0,64}") {
            let text = encode(&key);
            prop_assert!(text.len() <= 2 * key.len());
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'=');
            prop_assert!(text.bytes().all(plain), "{text}");
            prop_assert!(!text.contains(BREAK));
            prop_assert_eq!(decode(&text), Some(key));
        }

        #[test]
        fn order_and_prefixes_are_kept(a in "[a-z/.\\-~ äあ\u{1}]{0,8}", b in "[a-z/.\\-~ äあ\u{1}]{0,8}") {
            prop_assert_eq!(a.cmp(&b), encode(&a).cmp(&encode(&b)));
            let whole = format!("{a}{b}");
            prop_assert!(encode(&whole).starts_with(&encode(&a)));
            let beyond = format!("{}{BEYOND}", encode(&a));
            prop_assert!(encode(&whole) < beyond);
        }

        #[test]
        fn what_is_read_is_what_would_be_written(text in "[-=_0-9A-Za-z/.]{0,16}") {
            if let Some(key) = decode(&text) {
                prop_assert_eq!(encode(&key), text);
            }
        }
    }

    #[test]
    fn every_byte_keeps_its_place() {
        let all: Vec<String> =
            (1..0x0011_0000).step_by(97).filter_map(char::from_u32).map(String::from).collect();
        for pair in all.windows(2) {
            assert!(encode(&pair[0]) < encode(&pair[1]), "{pair:?}");
        }
    }
}
