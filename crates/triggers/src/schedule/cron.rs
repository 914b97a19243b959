//! A line of cron: which seconds, minutes, hours and days it names.
//!
//! ```text
//!  [second] minute hour day-of-month month day-of-week [year]      unix: Sunday is 0 or 7
//!           minute hour day-of-month month day-of-week  year       AWS, in cron(…): Sunday is 1
//! ```
//! Beyond lists, ranges, steps and names: `L` (last day), `LW` (last weekday), `L-3`, `15W` (weekday nearest to the
//! 15th, in the same month), `5L` (last Friday), `5#2` (second Friday), `?` (as `*`). When both day fields name
//! something, either is enough (POSIX `crontab`).

use jiff::civil::{Date, DateTime, Time};

use super::{error::Error, field};

/// The last year that a schedule reaches, as on AWS.
pub(super) const YEAR_MAX: i16 = 2199;
/// The first year that a schedule may name, as on AWS.
pub(super) const YEAR_MIN: i16 = 1970;

/// Which of the two readings of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// 5 fields, 6 with seconds, 7 with seconds and years.
    Unix,
    /// 6 fields without seconds, with years; one of the day fields is `?`.
    Aws,
}

/// A line that was read. Sets are bits: bit `n` stands for the value `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    days: field::Days,
    weekdays: field::Weekdays,
    /// In ascending order; empty for all.
    years: Vec<i16>,
}

impl Cron {
    /// Reads a line. It names at least one day that there is.
    pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Self, Error> {
        let fields: Vec<field::Field<'_>> = field::split(text).collect();
        if let Some(first) = fields.first().filter(|first| first.text.contains("TZ=")) {
            return Err(Error::new(text, first.at.clone(), "give the time zone beside the line, not in it"));
        }
        let (seconds, rest, year) = match (dialect, fields.as_slice()) {
            (Dialect::Unix, rest) if rest.len() == 5 => (None, rest, None),
            (Dialect::Unix, [second, rest @ ..]) if rest.len() == 5 => (Some(second), rest, None),
            (Dialect::Unix, [second, rest @ .., year]) if rest.len() == 5 => (Some(second), rest, Some(year)),
            (Dialect::Aws, [rest @ .., year]) if rest.len() == 5 => (None, rest, Some(year)),
            (Dialect::Unix, fields) => return Err(wrong_count(text, fields.len())),
            (Dialect::Aws, fields) => {
                let message = format!("cron(…) has 6 fields, and here are {}", fields.len());
                let hint =
                    "write minute hour day-of-month month day-of-week year, such as cron(0 12 * * ? *)";
                return Err(Error::whole(text, message).hint(hint));
            }
        };
        let [minute, hour, day, month, weekday] = rest else { return Err(wrong_count(text, rest.len())) };
        let cron = Self {
            seconds: seconds.map_or(Ok(1), |second| field::plain(text, second, &field::SECOND))?,
            minutes: field::plain(text, minute, &field::MINUTE)?,
            hours: field::plain(text, hour, &field::HOUR)?,
            months: field::plain(text, month, &field::MONTH)?,
            days: field::days(text, day)?,
            weekdays: field::weekdays(text, weekday, dialect)?,
            years: year.map_or(Ok(Vec::new()), |year| field::years(text, year))?,
        };
        if dialect == Dialect::Aws && (day.text == "?") == (weekday.text == "?") {
            let both = day.at.start..weekday.at.end;
            let error =
                Error::new(text, both, "exactly one of day-of-month and day-of-week is '?' in cron(…)");
            return Err(error.hint("write ? in the one that is not to decide, such as cron(0 12 * * ? *)"));
        }
        if cron.next(DateTime::constant(YEAR_MIN, 1, 1, 0, 0, 0, 0)).is_none() {
            let named = day.at.start..month.at.end;
            let error = Error::new(text, named, "it never fires: no month that it names has such a day");
            return Err(error.hint("the last day of a month is L in the field day-of-month"));
        }
        Ok(cron)
    }

    /// Whether it fires in each hour, on whichever days.
    pub(super) fn is_every_hour(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// The first wall time that it names and that is not before `from`.
    pub(super) fn next(&self, from: DateTime) -> Option<DateTime> {
        if self.names(from.date())
            && let Some(time) = self.next_time(from.time())
        {
            return Some(from.date().to_datetime(time));
        }
        let midnight = Time::midnight();
        let date = self.next_date(from.date().tomorrow().ok()?)?;
        Some(date.to_datetime(self.next_time(midnight)?))
    }

    /// The first time of a day that it names and that is not before `from`, in whole seconds.
    fn next_time(&self, from: Time) -> Option<Time> {
        let first = |set: u64| set.trailing_zeros();
        let not_before =
            |set: u64, value: u32| set.checked_shr(value).map(|high| high << value).filter(|&set| set != 0);
        let (hour, minute, second) = (bit(from.hour()), bit(from.minute()), bit(from.second()));
        let time = |h: u32, m: u32, s: u32| Time::new(small(h), small(m), small(s), 0).ok();
        if self.hours & 1 << hour != 0 {
            if self.minutes & 1 << minute != 0
                && let Some(seconds) = not_before(self.seconds, second)
            {
                return time(hour, minute, first(seconds));
            }
            if let Some(minutes) = not_before(self.minutes, minute + 1) {
                return time(hour, first(minutes), first(self.seconds));
            }
        }
        let hours = not_before(self.hours, hour + 1)?;
        time(first(hours), first(self.minutes), first(self.seconds))
    }

    /// The first day that it names and that is not before `from`.
    fn next_date(&self, from: Date) -> Option<Date> {
        let mut date = from;
        loop {
            if date.year() > YEAR_MAX {
                return None;
            }
            let year = if self.years.is_empty() {
                date.year()
            } else {
                *self.years.iter().find(|&&year| year >= date.year())?
            };
            if year != date.year() {
                date = Date::new(year, 1, 1).ok()?;
            }
            if self.months & 1 << bit(date.month()) == 0 {
                date = date.last_of_month().tomorrow().ok()?;
                continue;
            }
            if self.names(date) {
                return Some(date);
            }
            date = date.tomorrow().ok()?;
        }
    }

    fn names(&self, date: Date) -> bool {
        let year = date.year() <= YEAR_MAX && (self.years.is_empty() || self.years.contains(&date.year()));
        let month = self.months & 1 << bit(date.month()) != 0;
        let day = match (self.days.any, self.weekdays.any) {
            (true, _) => self.weekdays.names(date),
            (_, true) => self.days.names(date),
            (false, false) => self.days.names(date) || self.weekdays.names(date),
        };
        year && month && day
    }
}

fn wrong_count(text: &str, count: usize) -> Error {
    let message = format!("a line of cron has 5 fields, or 6 with seconds, and here are {count}");
    Error::whole(text, message)
        .hint("write minute hour day-of-month month day-of-week, such as 30 7 * * MON-FRI")
}

/// A calendar's number, never negative, as the number of a bit.
pub(super) fn bit(value: i8) -> u32 {
    u32::from(value.unsigned_abs())
}

/// The number of a bit below 64, as a calendar's number.
fn small(bit: u32) -> i8 {
    i8::try_from(bit).unwrap_or(i8::MAX)
}
