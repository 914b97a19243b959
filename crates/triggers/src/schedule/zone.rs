//! From times on the wall to points in time, over the days on which clocks are set.
//!
//! ```text
//!  offset     +01:00        │  +02:00         │  +01:00
//!  wall   … 01:59:59        │ 03:00 … 02:59:59│ 02:00 …
//!                     gap: 02:xx never        overlap: 02:xx twice
//! ```
//! Between two changes of the offset, wall and real time run alike; so a search goes from stretch to stretch.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// How times that the clock skips or repeats are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// By the wall: what falls in a gap comes once, right after it; what is repeated comes the first time.
    Wall,
    /// By elapsed time, for what recurs every hour anyway: nothing is made up for, nothing is left out.
    Elapsed,
}

/// The first point in time after `after` at which one of the wanted wall times comes. `next` gives the first wanted
/// one that is not before its argument, in whole seconds.
pub(super) fn next_after(
    zone: &TimeZone,
    after: Timestamp,
    rule: Rule,
    next: impl Fn(DateTime) -> Option<DateTime>,
) -> Option<Timestamp> {
    let mut start = Timestamp::from_second(after.as_second().checked_add(1)?).ok()?;
    let mut offset = zone.to_offset(start);
    // Wall times before this one have been: they lie before the start, or come for the second time.
    let mut wall = offset.to_datetime(start);
    if rule == Rule::Wall {
        wall = wall.max(repeated_until(zone, start));
    }
    // Each round is one stretch; a zone has two or so each year, and `next` ends at its last year.
    loop {
        let wanted = next(wall)?;
        let Some(change) = zone.following(start).next() else { return offset.to_timestamp(wanted).ok() };
        let end_wall = offset.to_datetime(change.timestamp());
        if wanted < end_wall {
            return offset.to_timestamp(wanted).ok();
        }
        start = change.timestamp();
        offset = change.offset();
        let start_wall = offset.to_datetime(start);
        match rule {
            Rule::Elapsed => wall = start_wall,
            Rule::Wall if wanted < start_wall => return Some(start),
            Rule::Wall => wall = start_wall.max(end_wall),
        }
    }
}

/// The wall time up to which the stretch that `at` lies in repeats the one before; one long ago if it does not.
fn repeated_until(zone: &TimeZone, at: Timestamp) -> DateTime {
    // `preceding` excludes its argument, at which a stretch may begin.
    let second = SignedDuration::from_secs(1);
    let change = at.checked_add(second).ok().and_then(|at| zone.preceding(at).next());
    change.map_or(DateTime::MIN, |change| {
        let before = change.timestamp().checked_sub(second).unwrap_or(Timestamp::MIN);
        zone.to_offset(before).to_datetime(change.timestamp())
    })
}
