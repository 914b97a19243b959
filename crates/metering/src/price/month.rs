//! Months, which invoices, free amounts and tiers go by. In UTC.

use std::{fmt, str::FromStr};

use jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use rouse_types::Timestamp;

/// A month, written as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(Date);

impl Month {
    /// The month that a time lies in; none beyond the year 9999.
    #[must_use]
    pub fn of(time: Timestamp) -> Option<Self> {
        let time = jiff::Timestamp::from_microsecond(i64::try_from(time.0).ok()?).ok()?;
        Some(Self(time.to_zoned(TimeZone::UTC).date().first_of_month()))
    }

    /// Its begin and its end, which is left out.
    #[must_use]
    pub fn times(self) -> (Timestamp, Timestamp) {
        (begin(self.0), self.0.checked_add(1.month()).map_or(Timestamp(u64::MAX), begin))
    }
}

fn begin(date: Date) -> Timestamp {
    let micros = date.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp().as_microsecond());
    Timestamp(micros.and_then(|micros| u64::try_from(micros).ok()).unwrap_or_default())
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl FromStr for Month {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected a month, such as \"2026-11\"";
        let date: Date = format!("{text}-01").parse().map_err(|_| wrong)?;
        let month = Self(date);
        if month.to_string() == text && date.year() >= 1970 { Ok(month) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_have_the_numbers_that_quotas_go_by() {
        let mut at = 0;
        // Up to 9999-12, whose end is none.
        while at < 253_399_622_400_000_000 {
            let month = Month::of(Timestamp(at)).expect("a month");
            let (year, of_year) = (month.0.year(), month.0.month());
            let number = (i64::from(year) - 1_970) * 12 + i64::from(of_year) - 1;
            assert_eq!(i64::try_from(rouse_types::quota::month(Timestamp(at))), Ok(number), "{month}");
            let (begin, end) = month.times();
            assert_eq!(rouse_types::quota::month(begin), rouse_types::quota::month(Timestamp(end.0 - 1)));
            at = end.0;
        }
    }

    #[test]
    fn a_month_is_read_written_and_knows_its_times() {
        let month: Month = "2026-12".parse().expect("a month");
        assert_eq!(month.to_string(), "2026-12");
        let (from, until) = month.times();
        assert_eq!((from.0, until.0), (1_796_083_200_000_000, 1_798_761_600_000_000));
        assert_eq!(Month::of(from), Some(month));
        assert_eq!(Month::of(Timestamp(until.0 - 1)), Some(month));
        assert_eq!(Month::of(until).map(|month| month.to_string()).as_deref(), Some("2027-01"));
        assert_eq!(Month::of(Timestamp(u64::MAX)), None);
        for wrong in ["", "2026", "2026-13", "2026-1", "2026-11-01", "1969-12", "x"] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
    }
}
