//! Exact decimals: not negative, below a million, 18 digits behind the point.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

const DIGITS_BEHIND: usize = 18;
/// A million per unit is dear enough, and keeps every product within 128 bits.
const DIGITS_BEFORE: usize = 6;

/// A decimal, in units of 10^-18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Decimal(pub(super) u128);

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (before, behind) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let fits = before.len() <= DIGITS_BEFORE && behind.len() <= DIGITS_BEHIND;
        if !(digits(before) && digits(behind) && fits) {
            return None;
        }
        format!("{before}{behind:0<DIGITS_BEHIND$}").parse().ok().map(Self)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u128.pow(DIGITS_BEHIND as u32);
        let behind = format!("{:0DIGITS_BEHIND$}", self.0 % unit);
        let behind = behind.trim_end_matches('0');
        let point = if behind.is_empty() { "" } else { "." };
        write!(f, "{}{point}{behind}", self.0 / unit)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a decimal in quotes, such as \"0.20\", with at most {DIGITS_BEFORE} digits before the point \
                     and {DIGITS_BEHIND} behind it"
                )
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                Decimal::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        let unit = 1_000_000_000_000_000_000;
        assert_eq!(Decimal::parse("0.0000166667"), Some(Decimal(16_666_700_000_000)));
        assert_eq!(Decimal::parse("12"), Some(Decimal(12 * unit)));
        assert_eq!(Decimal::parse("0.000000000000000001"), Some(Decimal(1)));
    }

    #[test]
    fn a_decimal_is_written_as_it_is_read() {
        for text in ["0", "0.2", "12", "0.0000166667", "999999.999999999999999999", "100.000000000000000001"]
        {
            assert_eq!(Decimal::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1_000", "1000000", "0.0000000000000000001", "١"]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
