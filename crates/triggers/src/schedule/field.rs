//! The fields of a line of cron.

use std::ops::Range;

use jiff::civil::Date;

use super::{
    cron::{Dialect, YEAR_MAX, YEAR_MIN, bit},
    error::Error,
};

/// One field, and where it stands in the line.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub(super) text: &'a str,
    pub(super) at: Range<usize>,
}

/// A kind of field: its name for the reader, its values, their names.
pub(super) struct Kind {
    name: &'static str,
    min: u16,
    max: u16,
    /// The last one of a round: Sunday stands at both ends of a week.
    last: u16,
    /// The first is that of the value `names_from`.
    names: &'static [&'static str],
    names_from: u16,
}

pub(super) const SECOND: Kind =
    Kind { name: "seconds", min: 0, max: 59, last: 59, names: &[], names_from: 0 };
pub(super) const MINUTE: Kind = Kind { name: "minutes", ..SECOND };
pub(super) const HOUR: Kind = Kind { name: "hours", max: 23, last: 23, ..SECOND };
const DAY: Kind = Kind { name: "day-of-month", min: 1, max: 31, last: 31, ..SECOND };
pub(super) const MONTH: Kind = Kind {
    name: "month",
    min: 1,
    max: 12,
    last: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    names_from: 1,
};
/// Sunday is 0 and 7.
const WEEKDAY: Kind = Kind {
    name: "day-of-week",
    min: 0,
    max: 7,
    last: 6,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    names_from: 0,
};
/// Sunday is 1.
const WEEKDAY_AWS: Kind = Kind { min: 1, last: 7, names_from: 1, ..WEEKDAY };
const YEAR: Kind = Kind {
    name: "year",
    min: YEAR_MIN as u16,
    max: YEAR_MAX as u16,
    last: YEAR_MAX as u16,
    names: &[],
    names_from: 0,
};

/// The fields of a line.
pub(super) fn split(line: &str) -> impl Iterator<Item = Field<'_>> {
    line.split_ascii_whitespace().map(|text| {
        let start = text.as_ptr() as usize - line.as_ptr() as usize;
        Field { text, at: start..start + text.len() }
    })
}

/// The items of a list, each with its place.
fn items<'a>(field: &Field<'a>) -> impl Iterator<Item = Field<'a>> {
    let mut start = field.at.start;
    field.text.split(',').map(move |text| {
        let at = start..start + text.len();
        start = at.end + 1;
        Field { text, at }
    })
}

/// The set of a field that has no values of its own kind.
pub(super) fn plain(line: &str, field: &Field<'_>, kind: &Kind) -> Result<u64, Error> {
    let mut set = 0;
    for item in items(field) {
        for value in values(line, &item, kind)? {
            set |= 1 << value;
        }
    }
    Ok(set)
}

/// The years of a field, ascending; none for all.
pub(super) fn years(line: &str, field: &Field<'_>) -> Result<Vec<i16>, Error> {
    if field.text == "*" {
        return Ok(Vec::new());
    }
    let mut years = Vec::new();
    for item in items(field) {
        years.extend(values(line, &item, &YEAR)?.into_iter().filter_map(|year| i16::try_from(year).ok()));
    }
    years.sort_unstable();
    years.dedup();
    Ok(years)
}

/// The values of one item: `*`, `a`, `a-b`, each with or without `/step`.
fn values(line: &str, item: &Field<'_>, kind: &Kind) -> Result<Vec<u16>, Error> {
    let (range, step) = match item.text.split_once('/') {
        None => (item.text, None),
        Some((range, step)) => (range, Some(step)),
    };
    let span = kind.last - kind.min + 1;
    let step = match step {
        None => None,
        Some(digits) => {
            let at = item.at.end - digits.len()..item.at.end;
            let step = number(digits).filter(|&step| step > 0);
            let Some(step) = step else {
                return Err(Error::new(line, at, format!("'{digits}' is no step: it is a number from 1 on")));
            };
            if step >= span && range == "*" {
                let message = format!("a step of {step} never comes to a second one of the {}", kind.name);
                return Err(Error::new(line, at, message).hint("a period is written rate(90 minutes)"));
            }
            Some(step)
        }
    };
    let one = |text: &str| -> Result<u16, Error> {
        let start = item.at.start + (text.as_ptr() as usize - item.text.as_ptr() as usize);
        value(text, kind).ok_or_else(|| not_a_value(line, start..start + text.len(), text, kind))
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (kind.min, kind.last),
        Some((first, last)) => (one(first)?, one(last)?),
        None if step.is_some() => (one(range)?, kind.last),
        None => {
            let only = one(range)?;
            (only, only)
        }
    };
    let step = usize::from(step.unwrap_or(1));
    if first <= last {
        return Ok((first..=last).step_by(step).collect());
    }
    if kind.name == YEAR.name {
        return Err(Error::new(line, item.at.clone(), "the years run backwards"));
    }
    // FRI-MON, 22-2: over the end and on from the beginning.
    Ok((first..=kind.last).chain(kind.min..=last).step_by(step).collect())
}

fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn value(text: &str, kind: &Kind) -> Option<u16> {
    if let Some(index) = kind.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Some(kind.names_from + u16::try_from(index).ok()?);
    }
    number(text).filter(|value| (kind.min..=kind.max).contains(value))
}

fn not_a_value(line: &str, at: Range<usize>, text: &str, kind: &Kind) -> Error {
    let Kind { name, min, max, names, .. } = kind;
    if text.is_empty() {
        return Error::new(line, at, format!("a value of the field {name} is missing"));
    }
    if text == "?" {
        return Error::new(line, at, format!("'?' goes into the day fields only, not into {name}"))
            .hint("write * for all");
    }
    let also = match names {
        [] => String::new(),
        [first, .., last] => format!(", or a name from {first} to {last}"),
        [_] => String::new(),
    };
    Error::new(line, at, format!("'{text}' is no value of the field {name}: {min} to {max}{also}"))
}

/// The field day-of-month.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Days {
    /// `*` or `?`.
    pub(super) any: bool,
    set: u64,
    /// The weekdays nearest to these.
    nearest: u64,
    /// Days before the last one of the month: bit 0 is `L`, bit 3 is `L-3`.
    before_last: u64,
    /// `LW`.
    last_weekday: bool,
}

pub(super) fn days(line: &str, field: &Field<'_>) -> Result<Days, Error> {
    let mut days = Days { any: matches!(field.text, "*" | "?"), ..Days::default() };
    if days.any {
        return Ok(days);
    }
    for item in items(field) {
        let upper = item.text.to_ascii_uppercase();
        let outside = || not_a_value(line, item.at.clone(), item.text, &DAY);
        if upper == "L" {
            days.before_last |= 1;
        } else if upper == "LW" || upper == "WL" {
            days.last_weekday = true;
        } else if let Some(before) = upper.strip_prefix("L-") {
            // 30 days before the last one of a long month is its first.
            let before = number(before).filter(|&before| before <= 30).ok_or_else(outside)?;
            days.before_last |= 1 << before;
        } else if let Some(day) = upper.strip_suffix('W') {
            days.nearest |= 1 << value(day, &DAY).ok_or_else(outside)?;
        } else {
            days.set |= values(line, &item, &DAY)?.into_iter().fold(0, |set, day| set | 1 << day);
        }
    }
    Ok(days)
}

impl Days {
    pub(super) fn names(&self, date: Date) -> bool {
        let (day, last) = (bit(date.day()), bit(date.days_in_month()));
        self.any
            || self.set & 1 << day != 0
            || self.before_last & 1 << (last - day) != 0
            || self.last_weekday && nearest_weekday(date, last) == day
            || (1..=last)
                .any(|wanted| self.nearest & 1 << wanted != 0 && nearest_weekday(date, wanted) == day)
    }
}

/// The weekday nearest to the day `wanted` of the month of `date`, in the same month.
fn nearest_weekday(date: Date, wanted: u32) -> u32 {
    let last = bit(date.days_in_month());
    let Ok(day) = date.with().day(i8::try_from(wanted).unwrap_or(1)).build() else { return 0 };
    match day.weekday() {
        jiff::civil::Weekday::Saturday if wanted == 1 => 3,
        jiff::civil::Weekday::Saturday => wanted - 1,
        jiff::civil::Weekday::Sunday if wanted == last => wanted - 2,
        jiff::civil::Weekday::Sunday => wanted + 1,
        _ => wanted,
    }
}

/// The field day-of-week: bit 0 is Sunday.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Weekdays {
    /// `*` or `?`.
    pub(super) any: bool,
    set: u8,
    /// Those of the first to fifth week of the month: the first Monday is the one among its first seven days.
    nth: [u8; 5],
    /// The last ones of the month.
    last: u8,
}

pub(super) fn weekdays(line: &str, field: &Field<'_>, dialect: Dialect) -> Result<Weekdays, Error> {
    let mut weekdays = Weekdays { any: matches!(field.text, "*" | "?"), ..Weekdays::default() };
    if weekdays.any {
        return Ok(weekdays);
    }
    let kind = if dialect == Dialect::Aws { &WEEKDAY_AWS } else { &WEEKDAY };
    let to_bit = |value: u16| 1_u8 << ((value - kind.names_from) % 7);
    for item in items(field) {
        let outside = || not_a_value(line, item.at.clone(), item.text, kind);
        let upper = item.text.to_ascii_uppercase();
        if let Some((day, nth)) = upper.split_once('#') {
            let day = value(day, kind).ok_or_else(outside)?;
            let slot = if nth == "L" {
                &mut weekdays.last
            } else {
                let nth = number(nth).filter(|nth| (1..=5).contains(nth)).ok_or_else(|| {
                    let message =
                        format!("'{nth}' is no week of a month: 1 to 5 come after '#', or L for the last");
                    Error::new(line, item.at.clone(), message)
                })?;
                &mut weekdays.nth[usize::from(nth) - 1]
            };
            *slot |= to_bit(day);
        } else if upper == "L" && dialect == Dialect::Aws {
            weekdays.set |= to_bit(7);
        } else if upper == "L" {
            let error = Error::new(line, item.at.clone(), "which weekday is the last one is missing");
            return Err(error.hint("the last Friday of a month is 5L"));
        } else if let Some(day) = upper.strip_suffix('L') {
            weekdays.last |= to_bit(value(day, kind).ok_or_else(outside)?);
        } else {
            weekdays.set |= values(line, &item, kind)?.into_iter().fold(0, |set, value| set | to_bit(value));
        }
    }
    Ok(weekdays)
}

impl Weekdays {
    pub(super) fn names(&self, date: Date) -> bool {
        let weekday = 1_u8 << date.weekday().to_sunday_zero_offset();
        let (day, last) = (bit(date.day()), bit(date.days_in_month()));
        let nth = self.nth.get(((day - 1) / 7) as usize).copied().unwrap_or_default();
        self.any || (self.set | nth) & weekday != 0 || day + 7 > last && self.last & weekday != 0
    }
}
