//! Sizes and durations as people write them: `256MiB`, `30s`.

use std::time::Duration;

/// A text that is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a size.
    #[error("'{0}' is not a size: write a whole number and a unit, such as 256MiB (KiB, MiB, GiB)")]
    Size(String),
    /// Not a duration.
    #[error("'{0}' is not a duration: write a whole number and a unit, such as 30s (ms, s, m, h)")]
    Duration(String),
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit.trim_start()))
}

/// Bytes from a text such as `256MiB`.
pub fn parse_bytes(text: &str) -> Result<u64, Error> {
    let bytes = split(text.trim()).and_then(|(number, unit)| {
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(factor)
    });
    bytes.ok_or_else(|| Error::Size(text.chars().take(40).collect()))
}

/// A duration from a text such as `30s`.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    let ms = split(text.trim()).and_then(|(number, unit)| {
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(factor)
    });
    ms.map(Duration::from_millis).ok_or_else(|| Error::Duration(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_written() {
        assert_eq!(parse_bytes("256MiB"), Ok(256 << 20));
        assert_eq!(parse_bytes(" 2 GiB "), Ok(2 << 30));
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
    }

    #[test]
    fn what_has_no_unit_or_overflows_is_refused() {
        for text in
            ["", "256", "MiB", "1.5GiB", "-1MiB", "256mb", "99999999999999999999MiB", "20000000000GiB"]
        {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert!(parse_duration("99999999999999999h").is_err());
    }
}
