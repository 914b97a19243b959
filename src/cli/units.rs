//! Numbers as people read them: money, durations, sizes, times.

use rouse_types::Timestamp;

/// Money, from billionths, exactly: at least two digits after the point, and as many as it takes.
pub(crate) fn money(nanos: u64, currency: &str) -> String {
    const NANOS: u64 = 1_000_000_000;
    let fraction = format!("{:09}", nanos % NANOS);
    let shown = fraction.trim_end_matches('0').len().max(2);
    let number = format!("{}.{}", nanos / NANOS, &fraction[..shown]);
    if currency == "USD" { format!("${number}") } else { format!("{number} {currency}") }
}

/// A duration from microseconds.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => seconds(us / 1_000),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10)
}

/// A duration from milliseconds.
pub(crate) fn millis(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { seconds(ms) }
}

/// A size.
pub(crate) fn bytes(bytes: u64) -> String {
    let (unit, shift) = match bytes {
        0..0x400 => return format!("{bytes} B"),
        0x400..0x10_0000 => ("KiB", 10),
        0x10_0000..0x4000_0000 => ("MiB", 20),
        _ => ("GiB", 30),
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A count, with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// GB-seconds, as clouds write them, from MiB·ms.
pub(crate) fn gib_seconds(mib_ms: u64) -> String {
    // 1 GiB·s is 1,024 × 1,000 MiB·ms; in thousandths, so that the parts stay integers.
    let thousandths = mib_ms / 1_024;
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// How long ago something was.
pub(crate) fn ago(now: Timestamp, then: Timestamp) -> String {
    match now.since(then).as_secs() {
        0..5 => "now".to_owned(),
        seconds @ 5..120 => format!("{seconds} s ago"),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// A time as RFC 3339 writes it, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1_000_000).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

fn local(time: Timestamp) -> Option<jiff::Zoned> {
    let micros = i64::try_from(time.0).ok()?;
    Some(jiff::Timestamp::from_microsecond(micros).ok()?.to_zoned(jiff::tz::TimeZone::system()))
}

/// The time of day, to the millisecond, in the reader's time zone.
pub(crate) fn time_of_day(time: Timestamp) -> String {
    local(time).map_or_else(|| "-".to_owned(), |time| time.strftime("%H:%M:%S%.3f").to_string())
}

/// The hour that a time lies in, with its date.
pub(crate) fn hour(time: Timestamp) -> String {
    local(time).map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:00").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_every_digit_that_counts() {
        assert_eq!(money(0, "USD"), "$0.00");
        assert_eq!(money(208, "USD"), "$0.000000208");
        assert_eq!(money(1_500_000_000, "USD"), "$1.50");
        assert_eq!(money(u64::MAX, "EUR"), "18446744073.709551615 EUR");
    }

    #[test]
    fn durations_sizes_and_counts_read_well() {
        assert_eq!(micros(7), "7 µs");
        assert_eq!(micros(1_234), "1.23 ms");
        assert_eq!(micros(61_250), "61.2 ms");
        assert_eq!(micros(12_345_678), "12.34 s");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "17179869183.9 GiB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(100), "100");
        assert_eq!(gib_seconds(1_024_000), "1.000");
    }

    #[test]
    fn the_past_is_told_in_one_unit_and_the_future_is_now() {
        let now = Timestamp::from_millis(1_000_000_000);
        let before = |seconds: u64| Timestamp::from_millis(1_000_000_000 - seconds * 1_000);
        assert_eq!(ago(now, before(90)), "90 s ago");
        assert_eq!(ago(now, before(3_600)), "60 min ago");
        assert_eq!(ago(now, before(200_000)), "2 d ago");
        assert_eq!(ago(before(50), now), "now");
    }
}
