//! When a schedule fires: lines of cron, periods, single points in time.
//!
//! ```text
//!  text ─▶ Schedule ─▶ next_after(t)            when it is due by its text
//!                  └─▶ due(progress, now, …)    what to run now, each with a stable id
//! ```
//! Nothing is remembered but up to when it was acted: occurrences follow from the text alone, so that a restart, a
//! second machine or a missed tick finds the same ones under the same ids.

mod cron;
mod due;
mod error;
mod field;
mod zone;

use std::time::Duration;

use jiff::{SignedDuration, civil::DateTime, tz::TimeZone};
use rouse_types::{
    Timestamp,
    trigger::{self, When},
};

use self::cron::{Cron, Dialect};
pub use self::{
    due::{Due, JITTER_MAX, LATE_MAX, MISSED_MAX, Occurrence},
    error::Error,
};

/// The longest text of a schedule, in bytes; real ones have some dozens.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// A schedule that was read and fires at least once.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    zone: TimeZone,
    kind: Kind,
    jitter: Duration,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Boxed, since it is some ten times the size of the others.
    Cron(Box<Cron>),
    /// Whole seconds, and how far its multiples since 1970 are shifted.
    Every(u64, u64),
    /// On the wall.
    At(DateTime),
    /// In seconds since 1970.
    Instant(u64),
}

impl Schedule {
    /// Reads a schedule in any of its forms: `30 7 * * MON-FRI` (six fields begin with seconds), `@daily`,
    /// `@every 5m`, and AWS' `cron(0 12 * * ? *)`, `rate(5 minutes)`, `at(2026-12-01T08:00:00)`.
    ///
    /// `zone` is a name of the IANA database, such as `Europe/Berlin`; UTC if there is none. A period does not
    /// depend on it.
    ///
    /// # Errors
    /// The text is no schedule, there is no such zone, or it would never fire.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, Error> {
        if text.len() > TEXT_BYTES_MAX {
            let shown: String = text.chars().take(40).collect();
            return Err(Error::whole(&shown, format!("it is longer than {TEXT_BYTES_MAX} bytes")));
        }
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| {
                Error::whole(text, format!("there is no time zone '{name}'"))
                    .hint("write a name of the IANA database, such as Europe/Berlin or UTC")
            })?,
        };
        Ok(Self { text: text.to_owned(), zone, kind: kind(text)?, jitter: Duration::ZERO })
    }

    /// The schedule of a trigger, with its jitter. A period counts from `since`, when the trigger came.
    ///
    /// # Errors
    /// As of the parts.
    pub fn of(schedule: &trigger::Schedule, since: Timestamp) -> Result<Self, Error> {
        let zone = Some(schedule.timezone.as_str());
        let made = match &schedule.when {
            When::Cron(line) => Self::parse(line, zone)?,
            When::EveryMs(ms) => Self::every(Duration::from_millis(*ms))?.since(since),
            When::At(time) => Self::parse(&format!("at({time})"), zone)?,
        };
        made.with_jitter(Duration::from_millis(schedule.jitter_ms))
    }

    /// A period, beginning as [`Schedule::since`] says.
    ///
    /// # Errors
    /// It is shorter than a second or not whole seconds.
    pub fn every(period: Duration) -> Result<Self, Error> {
        let text = format!("@every {}s", period.as_secs_f64());
        if period.subsec_nanos() != 0 {
            return Err(Error::whole(&text, "a period is whole seconds"));
        }
        let kind = every(&text, period.as_secs())?;
        Ok(Self { text, zone: TimeZone::UTC, kind, jitter: Duration::ZERO })
    }

    /// A period counts from this time on, to the second; unless it is told, from 1970-01-01T00:00:00Z, so that `1h` is
    /// on the hour. Lines of cron and single times stay as they are.
    #[must_use]
    pub fn since(mut self, beginning: Timestamp) -> Self {
        if let Kind::Every(seconds, shift) = &mut self.kind {
            *shift = beginning.0 / 1_000_000 % *seconds;
        }
        self
    }

    /// Spreads each occurrence over the time `window` after it, by a hash of the trigger and the occurrence: the
    /// same one gets the same delay everywhere. It never reaches the next occurrence.
    ///
    /// # Errors
    /// The window is longer than [`JITTER_MAX`].
    pub fn with_jitter(mut self, window: Duration) -> Result<Self, Error> {
        if window > JITTER_MAX {
            return Err(Error::whole(&self.text, "its jitter is longer than a day"));
        }
        self.jitter = window;
        Ok(self)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after `after` at which it fires, jitter not counted. None if it will never again.
    ///
    /// A wall time that the zone's clocks skip comes once, right after the gap; one that they repeat comes the first
    /// time only. A line that names every hour goes by elapsed time instead, so that no hour is left out or doubled.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every(seconds, shift) => {
                // The first multiple after it, seen from the shift.
                let multiples =
                    (after.0 / 1_000_000 + 1).checked_sub(*shift).map_or(0, |since| since.div_ceil(*seconds));
                multiples.checked_mul(*seconds)?.checked_add(*shift)?.checked_mul(1_000_000).map(Timestamp)
            }
            Kind::Instant(seconds) => {
                Some(Timestamp(seconds.checked_mul(1_000_000)?)).filter(|&at| at > after)
            }
            Kind::Cron(cron) => {
                let rule = if cron.is_every_hour() { zone::Rule::Elapsed } else { zone::Rule::Wall };
                self.next_wall(after, rule, |from| cron.next(from))
            }
            Kind::At(at) => self.next_wall(after, zone::Rule::Wall, |from| (from <= *at).then_some(*at)),
        }
    }

    fn next_wall(
        &self,
        after: Timestamp,
        rule: zone::Rule,
        next: impl Fn(DateTime) -> Option<DateTime>,
    ) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_microsecond(i64::try_from(after.0).ok()?).ok()?;
        let next = zone::next_after(&self.zone, after, rule, next)?;
        u64::try_from(next.as_microsecond()).ok().map(Timestamp)
    }
}

fn kind(text: &str) -> Result<Kind, Error> {
    let inner = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(line) = inner("cron") {
        let by = "cron(".len();
        return Cron::parse(line, Dialect::Aws)
            .map(|cron| Kind::Cron(Box::new(cron)))
            .map_err(|e| e.within(text, by));
    }
    if let Some(rate) = inner("rate") {
        return every(
            text,
            rate_seconds(rate).ok_or_else(|| {
                Error::new(text, 5..text.len() - 1, "it is no rate")
                    .hint("write a number and minutes, hours or days, such as rate(5 minutes)")
            })?,
        );
    }
    if let Some(time) = inner("at") {
        return at(text, time);
    }
    let line = match text.trim() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        name if name.starts_with('@') => return named(text, name),
        _ => text,
    };
    Cron::parse(line, Dialect::Unix).map(|cron| Kind::Cron(Box::new(cron)))
}

/// One point in time: with an offset wherever one is, else in the time of the zone.
fn at(text: &str, time: &str) -> Result<Kind, Error> {
    let wrong = || {
        Error::new(text, 3..text.len() - 1, "it is no date and time").hint(
            "write it such as at(2026-12-01T08:00:00) in the time of the zone, or with an offset behind it",
        )
    };
    let absolute = time.parse::<jiff::Timestamp>().ok();
    let wall =
        absolute.map(|at| TimeZone::UTC.to_datetime(at)).or_else(|| time.parse().ok()).ok_or_else(wrong)?;
    if wall.subsec_nanosecond() != 0 {
        return Err(Error::whole(text, "a schedule is exact to the second, not to parts of it"));
    }
    let (min, max) = (cron::YEAR_MIN, cron::YEAR_MAX);
    if !(min..=max).contains(&wall.year()) {
        return Err(Error::whole(text, format!("its year is not one of {min} to {max}")));
    }
    match absolute {
        Some(at) => u64::try_from(at.as_second()).map(Kind::Instant).map_err(|_| wrong()),
        None => Ok(Kind::At(wall)),
    }
}

fn named(text: &str, name: &str) -> Result<Kind, Error> {
    if let Some(period) = name.strip_prefix("@every ") {
        let seconds =
            period.trim().parse::<SignedDuration>().ok().filter(|period| period.subsec_nanos() == 0);
        let seconds = seconds.and_then(|period| u64::try_from(period.as_secs()).ok()).ok_or_else(|| {
            Error::whole(text, "its period is not whole seconds, minutes or hours")
                .hint("write it such as @every 90s or @every 1h30m")
        })?;
        return every(text, seconds);
    }
    let error = Error::whole(text, "there is no such name");
    Err(error.hint("there are @yearly, @monthly, @weekly, @daily, @hourly and @every 5m"))
}

fn every(text: &str, seconds: u64) -> Result<Kind, Error> {
    // Ten years: no occurrence of a longer one would ever be seen.
    if !(1..=315_360_000).contains(&seconds) {
        return Err(Error::whole(text, "a period is from one second to ten years"));
    }
    Ok(Kind::Every(seconds, 0))
}

/// `5 minutes` in seconds.
fn rate_seconds(rate: &str) -> Option<u64> {
    let mut words = rate.split_ascii_whitespace();
    let (count, unit) = (words.next()?.parse::<u64>().ok()?, words.next()?);
    let unit = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 86_400,
        _ => return None,
    };
    if words.next().is_some() { None } else { count.checked_mul(unit) }
}

#[cfg(test)]
#[path = "schedule/tests.rs"]
mod tests;
