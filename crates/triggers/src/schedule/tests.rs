//! Schedules against calendars, against a naive search, and against another implementation of cron.

use std::{collections::BTreeSet, time::Duration};

use jiff::{civil::DateTime, tz::TimeZone};
use proptest::prelude::*;
use rouse_types::{
    Timestamp,
    trigger::{self, CatchUp, When},
};

use super::Schedule;

const BERLIN: Option<&str> = Some("Europe/Berlin");

fn at(text: &str) -> Timestamp {
    let time: jiff::Timestamp = text.parse().expect(text);
    Timestamp(u64::try_from(time.as_microsecond()).expect("after 1970"))
}

fn show(time: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(time.0 as i64).expect("a time").to_string()
}

fn schedule(text: &str, zone: Option<&str>) -> Schedule {
    Schedule::parse(text, zone).unwrap_or_else(|error| panic!("{error}"))
}

/// The first times after `from`.
fn firsts(text: &str, zone: Option<&str>, from: &str, count: usize) -> Vec<String> {
    let schedule = schedule(text, zone);
    std::iter::successors(schedule.next_after(at(from)), |&time| schedule.next_after(time))
        .take(count)
        .map(show)
        .collect()
}

#[test]
fn lines_name_the_times_that_the_calendar_says() {
    let from = "2026-11-21T10:00:00Z"; // a Saturday
    let cases: &[(&str, &[&str])] = &[
        ("30 7 * * MON-FRI", &["2026-11-23T07:30:00Z", "2026-11-24T07:30:00Z"]),
        ("*/20 * * * *", &["2026-11-21T10:20:00Z", "2026-11-21T10:40:00Z", "2026-11-21T11:00:00Z"]),
        ("*/20 * * * * *", &["2026-11-21T10:00:20Z", "2026-11-21T10:00:40Z"]),
        ("0 0 L * *", &["2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z", "2027-01-31T00:00:00Z"]),
        ("0 0 L-2 * *", &["2026-11-28T00:00:00Z", "2026-12-29T00:00:00Z"]),
        ("0 0 LW * *", &["2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z", "2027-01-29T00:00:00Z"]),
        ("0 0 15W * *", &["2026-12-15T00:00:00Z", "2027-01-15T00:00:00Z", "2027-02-15T00:00:00Z"]),
        ("0 0 1W 5 *", &["2027-05-03T00:00:00Z"]), // the 1st is a Saturday, and the 30th is another month's
        ("0 0 * * 5L", &["2026-11-27T00:00:00Z", "2026-12-25T00:00:00Z"]),
        ("0 0 * * 5#2", &["2026-12-11T00:00:00Z", "2027-01-08T00:00:00Z"]),
        (
            "0 0 13 * 5",
            &["2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"],
        ),
        (
            "0 22-1 * * *",
            &["2026-11-21T22:00:00Z", "2026-11-21T23:00:00Z", "2026-11-22T00:00:00Z", "2026-11-22T01:00:00Z"],
        ),
        ("0 0 * * SAT-SUN,7", &["2026-11-22T00:00:00Z", "2026-11-28T00:00:00Z"]),
        ("0 0 29 2 *", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("0 0 0 1 jan ? 2030-2031", &["2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"]),
        ("@weekly", &["2026-11-22T00:00:00Z"]),
        ("cron(0 12 * * ? *)", &["2026-11-21T12:00:00Z"]),
        ("cron(0/15 8-9 ? * 2-3 2027)", &["2027-01-04T08:00:00Z", "2027-01-04T08:15:00Z"]), // 2 is Monday on AWS
        ("cron(0 0 ? * L *)", &["2026-11-28T00:00:00Z"]),                                   // a Saturday
        ("cron(0 9 ? * 6#3 *)", &["2026-12-18T09:00:00Z"]),
        ("rate(5 minutes)", &["2026-11-21T10:05:00Z", "2026-11-21T10:10:00Z"]),
        ("rate(1 day)", &["2026-11-22T00:00:00Z"]),
        ("@every 1h30m", &["2026-11-21T10:30:00Z", "2026-11-21T12:00:00Z"]),
        ("at(2026-12-01T08:00:00)", &["2026-12-01T08:00:00Z"]),
        ("at(2026-12-01T08:00:00+05:30)", &["2026-12-01T02:30:00Z"]),
    ];
    for (text, expected) in cases {
        assert_eq!(firsts(text, None, from, expected.len()), *expected, "{text}");
    }
    assert_eq!(firsts("at(2026-12-01T08:00:00)", None, "2026-12-01T08:00:00Z", 1), Vec::<String>::new());
    assert_eq!(firsts("0 0 0 1 1 * 1999", None, from, 1), Vec::<String>::new());
}

#[test]
fn a_time_in_the_gap_comes_once_right_after_it() {
    let from = "2026-03-28T12:00:00Z"; // on the 29th, 02:00 becomes 03:00
    let noon = "2026-03-29T00:30:00Z";
    assert_eq!(firsts("30 2 * * *", BERLIN, from, 2), ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    // Four that the gap takes are one, and at 03:00 there is one anyway.
    let three = firsts("*/15 2,3 * * *", BERLIN, noon, 2);
    assert_eq!(three, ["2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"]);
    assert_eq!(firsts("at(2026-03-29T02:10:00)", BERLIN, from, 2), ["2026-03-29T01:00:00Z"]);
    // Samoa had no 30th of December 2011.
    let samoa = firsts("0 12 30 12 *", Some("Pacific/Apia"), "2011-12-01T00:00:00Z", 2);
    assert_eq!(samoa, ["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"]);
}

#[test]
fn a_time_that_is_repeated_comes_once() {
    let from = "2026-10-24T12:00:00Z"; // on the 25th, 03:00 becomes 02:00
    assert_eq!(firsts("30 2 * * *", BERLIN, from, 2), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let second_pass = "2026-10-25T01:10:00Z";
    assert_eq!(firsts("30 2 * * *", BERLIN, second_pass, 1), ["2026-10-26T01:30:00Z"]);
    assert_eq!(firsts("at(2026-10-25T02:30:00)", BERLIN, from, 2), ["2026-10-25T00:30:00Z"]);
    // Lord Howe goes back by half an hour.
    let howe = firsts("45 1 * * *", Some("Australia/Lord_Howe"), "2026-04-04T00:00:00Z", 2);
    assert_eq!(howe, ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]);
}

#[test]
fn what_recurs_each_hour_goes_by_elapsed_time() {
    let back = firsts("10 * * * *", BERLIN, "2026-10-24T23:30:00Z", 4);
    let utc =
        ["2026-10-25T00:10:00Z", "2026-10-25T01:10:00Z", "2026-10-25T02:10:00Z", "2026-10-25T03:10:00Z"];
    assert_eq!(back, utc);
    let on = firsts("10 * * * *", BERLIN, "2026-03-28T23:30:00Z", 3);
    assert_eq!(on, ["2026-03-29T00:10:00Z", "2026-03-29T01:10:00Z", "2026-03-29T02:10:00Z"]);
}

#[test]
fn what_is_no_schedule_is_refused_with_its_place() {
    let cases = [
        ("0 0 30 2 *", "30 2", "never fires"),
        ("0 0 31 4,6,9,11 *", "31 4,6,9,11", "never fires"),
        ("0 0 0 29 2 * 2027", "29 2", "never fires"),
        ("60 * * * *", "60", "0 to 59"),
        ("* 24 * * *", "24", "0 to 23"),
        ("* * 0 * *", "0", "1 to 31"),
        ("* * * FOO *", "FOO", "JAN to DEC"),
        ("* * * * 8", "8", "SUN to SAT"),
        ("* * * * 5#6", "5#6", "1 to 5"),
        ("* * * * L", "L", "which weekday"),
        ("1,,2 * * * *", "", "is missing"),
        ("1- * * * *", "", "is missing"),
        ("*/0 * * * *", "0", "no step"),
        ("*/90 * * * *", "90", "never comes"),
        ("? * * * *", "?", "day fields only"),
        ("* * * *", "", "here are 4"),
        ("", "", "here are 0"),
        ("* * * * * * * *", "", "here are 8"),
        ("CRON_TZ=UTC * * * * *", "CRON_TZ=UTC", "time zone beside the line"),
        ("cron(0 12 * * * *)", "* * *", "exactly one"),
        ("cron(0 12 ? * ? *)", "? * ?", "exactly one"),
        ("cron(0 12 * * ?)", "0 12 * * ?", "6 fields"),
        ("cron(0 12 * * 0 *)", "0", "1 to 7"),
        ("cron(61 12 * * ? *)", "61", "0 to 59"),
        ("cron(0 12 * * ? 2200)", "2200", "1970 to 2199"),
        ("rate(5 fortnights)", "5 fortnights", "no rate"),
        ("rate(0 minutes)", "", "one second"),
        ("rate(-1 minutes)", "-1 minutes", "no rate"),
        ("@every 0.5s", "", "whole seconds"),
        ("@every 0s", "", "one second"),
        ("@reboot", "", "no such name"),
        ("at(tomorrow)", "tomorrow", "no date"),
        ("at(2026-12-01T08:00:00.5)", "", "to the second"),
        ("at(1969-12-01T08:00:00)", "", "1970"),
    ];
    for (text, place, says) in cases {
        let error = Schedule::parse(text, None).expect_err(text);
        let whole = error.at == (0..text.len());
        assert_eq!(if whole { "" } else { &text[error.at.clone()] }, place, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    let error = Schedule::parse("* * * * *", Some("Mars/Olympus")).expect_err("a zone");
    assert!(error.to_string().contains("Mars/Olympus"), "{error}");
    assert!(Schedule::parse(&"1,".repeat(600), None).is_err());
    assert!(Schedule::every(Duration::from_millis(1_500)).is_err());
}

#[test]
fn a_line_that_comes_every_forty_years_is_found() {
    // A 29th of February of a leap year that is one in four hundred, on whichever weekday.
    let next = firsts("0 0 0 29 2 ? 2096,2104", None, "2026-01-01T00:00:00Z", 3);
    assert_eq!(next, ["2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"]);
}

/// A field as text, with the values that it stands for as the generator knows them.
#[derive(Debug, Clone)]
struct Field(String, BTreeSet<i8>);

fn field(min: i8, max: i8) -> impl Strategy<Value = Field> {
    let item = prop_oneof![
        2 => Just(Field("*".to_owned(), (min..=max).collect())),
        3 => (min..=max).prop_map(|a| Field(a.to_string(), [a].into())),
        1 => (1..(max - min) / 2).prop_map(move |s| {
            Field(format!("*/{s}"), (min..=max).step_by(s as usize).collect())
        }),
        1 => (min..=max, min..=max, 1..10_i8).prop_map(|(a, b, s)| {
            let (a, b) = (a.min(b), a.max(b));
            Field(format!("{a}-{b}/{s}"), (a..=b).step_by(s as usize).collect())
        }),
    ];
    prop::collection::vec(item, 1..3).prop_map(|items| {
        // `*` in a list is not the same as `*` alone where days are concerned, so it stays alone.
        if let Some(any) = items.iter().find(|item| item.0 == "*") {
            return any.clone();
        }
        let text = items.iter().map(|item| item.0.as_str()).collect::<Vec<_>>().join(",");
        Field(text, items.into_iter().flat_map(|item| item.1).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_minute_by_minute_search_finds_the_same_times(
        (minute, hour, day, weekday) in (field(0, 59), field(0, 23), field(1, 31), field(0, 6)),
        (zone, day_of_change) in prop_oneof![
            Just(("Europe/Berlin", "2026-03-28T00:00:00Z")), Just(("Europe/Berlin", "2026-10-24T00:00:00Z")),
            Just(("America/New_York", "2026-10-31T00:00:00Z")), Just(("Australia/Lord_Howe", "2026-04-03T00:00:00Z")),
            Just(("Australia/Lord_Howe", "2026-10-02T00:00:00Z")), Just(("America/Sao_Paulo", "2018-11-03T00:00:00Z")),
            Just(("Pacific/Apia", "2011-12-29T00:00:00Z")), Just(("Asia/Kolkata", "2026-03-28T00:00:00Z")),
        ],
    ) {
        let text = format!("{} {} {} * {}", minute.0, hour.0, day.0, weekday.0);
        let tz = TimeZone::get(zone).expect(zone);
        let wanted = |wall: DateTime| {
            let dom = day.1.contains(&wall.day());
            let dow = weekday.1.contains(&wall.weekday().to_sunday_zero_offset());
            let date = match (day.0 == "*", weekday.0 == "*") {
                (false, false) => dom || dow,
                _ => dom && dow,
            };
            date && minute.1.contains(&wall.minute()) && hour.1.contains(&wall.hour())
        };
        let start: jiff::Timestamp = day_of_change.parse().expect("a time");
        let end = start + jiff::SignedDuration::from_hours(96);
        let (mut expected, mut walls, mut before) = (Vec::new(), BTreeSet::new(), None::<DateTime>);
        // A day ahead of it, so that what has been on the wall is known.
        let mut time = start - jiff::SignedDuration::from_hours(25);
        let step = jiff::SignedDuration::from_mins(1);
        while time <= end {
            let wall = tz.to_datetime(time);
            let first = walls.insert(wall);
            let fires = if hour.1.len() == 24 {
                wanted(wall)
            } else {
                let mut skipped = before.map(|before| before + step);
                let mut made_up = false;
                while let Some(gap) = skipped.filter(|&gap| gap < wall) {
                    made_up |= wanted(gap);
                    skipped = Some(gap + step);
                }
                made_up || first && wanted(wall)
            };
            if fires && time > start {
                expected.push(time.to_string());
            }
            before = Some(before.map_or(wall, |before| before.max(wall)));
            time += step;
        }
        let schedule = schedule(&text, Some(zone));
        let found: Vec<String> = std::iter::successors(schedule.next_after(at(day_of_change)), |&t| schedule.next_after(t))
            .map(|t| (t, show(t))).take_while(|(t, _)| *t <= at(&end.to_string())).map(|(_, shown)| shown).collect();
        prop_assert_eq!(found, expected, "{} in {}", text, zone);
    }

    #[test]
    fn croner_reads_lines_alike(
        (second, minute, hour, month) in (field(0, 59), field(0, 59), field(0, 23), field(1, 12)),
        day in prop_oneof![3 => field(1, 31).prop_map(|f| f.0), 1 => Just("L".to_owned()), 1 => Just("LW".to_owned()),
            1 => (1..=31).prop_map(|d| format!("{d}W"))],
        weekday in prop_oneof![3 => field(0, 7).prop_map(|f| f.0), 1 => (0..=7).prop_map(|d| format!("{d}L")),
            1 => (0..=7, 1..=5).prop_map(|(d, n)| format!("{d}#{n}")), 1 => Just("MON-FRI".to_owned()), 3 => Just("*".to_owned())],
        from in (2020..2040_i16, 1..=12_i8, 1..=28_i8, 0..24_i8, 0..60_i8, 0..60_i8),
    ) {
        let text = format!("{} {} {} {day} {} {weekday}", second.0, minute.0, hour.0, month.0);
        let other: croner::Cron = text.parse().expect("a line");
        let (y, mo, d, h, m, s) = from;
        let from = DateTime::new(y, mo, d, h, m, s, 0).expect("a time");
        match Schedule::parse(&text, None) {
            Ok(ours) => {
                let (mut t, mut c) = (at(&format!("{from}Z")), from);
                for _ in 0..5 {
                    t = ours.next_after(t).expect("another");
                    c = other.find_next_occurrence(&c, false).expect("another");
                    prop_assert_eq!(show(t), format!("{c}Z"), "{}", text);
                }
            }
            Err(error) => {
                prop_assert!(error.message.contains("never fires"), "{}", error);
                prop_assert!(other.find_next_occurrence(&from, false).is_err(), "{} fires", text);
            }
        }
    }

    #[test]
    fn however_often_it_is_asked_each_occurrence_is_due_once(
        text in prop_oneof![Just("*/7 * * * *"), Just("@every 40s"), Just("0 3 * * *"), Just("13 4-9 * * *")],
        jitter_s in prop_oneof![Just(0_u64), 1..4_000_u64],
        steps in prop::collection::vec(1..20_000_000_000_u64, 1..40),
        max in 1..50_usize,
    ) {
        let schedule = schedule(text, BERLIN).with_jitter(Duration::from_secs(jitter_s)).expect("a window");
        let start = at("2026-10-24T22:00:00Z");
        let (mut last, mut now, mut seen) = (start, start, Vec::new());
        for step in steps {
            now.0 += step;
            loop {
                let due = schedule.due("shop/report", last, now, CatchUp::All, max);
                prop_assert!(due.occurrences.len() <= max && due.missed == 0);
                seen.extend(due.occurrences);
                last = due.upto;
                if last == now { break; }
            }
        }
        let (mut whole, mut from) = (Vec::new(), start);
        while from < now {
            // Few enough at a time that none is missed for good.
            let upto = Timestamp(from.0 + 10_000_000_000).min(now);
            whole.extend(schedule.due("shop/report", from, upto, CatchUp::All, usize::MAX).occurrences);
            from = upto;
        }
        prop_assert_eq!(&seen, &whole);
        prop_assert!(whole.is_sorted_by(|a, b| a.fires < b.fires && a.scheduled < b.scheduled && a.id != b.id));
        let expected: Vec<_> = std::iter::successors(schedule.next_after(start), |&t| schedule.next_after(t))
            .take_while(|t| *t <= now).collect();
        // One that was scheduled before the start may fire after it, and the last one after the end.
        let whole: Vec<_> = whole.into_iter().skip_while(|o| o.scheduled <= start).collect();
        prop_assert!(whole.len() == expected.len() || jitter_s > 0 && whole.len() + 1 == expected.len());
        prop_assert!(whole.iter().zip(&expected).all(|(o, t)| o.scheduled == *t && o.fires >= *t && o.fires.since(*t).as_secs() < jitter_s.max(1)));
    }

    #[test]
    fn a_policy_changes_only_what_was_missed(
        text in prop_oneof![Just("*/7 * * * *"), Just("@every 400s"), Just("0 3 * * *")],
        jitter_s in prop_oneof![Just(0_u64), 1..4_000_u64],
        away in 1..300_000_000_000_u64,
    ) {
        let schedule = schedule(text, BERLIN).with_jitter(Duration::from_secs(jitter_s)).expect("a window");
        let last = at("2026-10-24T22:00:00Z");
        let now = Timestamp(last.0 + away);
        let lost = Timestamp(now.0 - 60_000_000);
        let of = |policy| schedule.due("t", last, now, policy, 100_000);
        let all = of(CatchUp::All).occurrences;
        let (missed, fresh): (Vec<_>, Vec<_>) = all.into_iter().partition(|o| o.fires <= lost);
        let skip = of(CatchUp::Skip);
        prop_assert_eq!(&skip.occurrences, &fresh);
        prop_assert_eq!(skip.missed, missed.len().min(1_000));
        let mut newest: Vec<_> = missed.last().cloned().into_iter().collect();
        newest.extend(fresh);
        let once = of(CatchUp::Once);
        prop_assert_eq!(once.occurrences, newest);
        prop_assert_eq!(once.upto, now);
    }
}

#[test]
fn a_period_counts_from_its_beginning() {
    let beginning = at("2026-01-01T00:10:07.5Z");
    let schedule = schedule("rate(1 hour)", None).since(beginning);
    let first = schedule.next_after(beginning).expect("a time");
    assert_eq!(show(first), "2026-01-01T01:10:07Z");
    assert_eq!(show(schedule.next_after(first).expect("a time")), "2026-01-01T02:10:07Z");
    assert_eq!(show(schedule.next_after(Timestamp(0)).expect("a time")), "1970-01-01T00:10:07Z");
    let same = Schedule::every(Duration::from_secs(3_600)).expect("a period").since(beginning);
    assert_eq!(same.next_after(first), schedule.next_after(first));
}

#[test]
fn after_a_long_outage_the_newest_are_made_up_for() {
    let (last, now) = (at("2020-01-01T00:00:00Z"), at("2026-01-01T00:01:00Z"));
    for jitter_s in [0, 1] {
        let schedule =
            schedule("* * * * * *", None).with_jitter(Duration::from_secs(jitter_s)).expect("a window");
        let due = schedule.due("t", last, now, CatchUp::All, 10);
        assert_eq!((due.missed, due.occurrences.len()), (1_000, 10));
        let made_up: Vec<_> = schedule.due("t", last, now, CatchUp::All, 5_000).occurrences;
        let missed = made_up.iter().filter(|o| o.fires <= at("2026-01-01T00:00:00Z")).count();
        assert!((999..=1_000).contains(&missed), "{missed}");
        assert!(made_up.windows(2).all(|pair| pair[1].scheduled.0 - pair[0].scheduled.0 == 1_000_000));
        assert_eq!(made_up[..10], due.occurrences);
    }
}

#[test]
fn a_triggers_schedule_is_that_of_its_parts() {
    let of = |when| trigger::Schedule {
        when,
        timezone: "Europe/Berlin".to_owned(),
        jitter_ms: 0,
        catch_up: CatchUp::default(),
        input: None,
    };
    let since = at("2026-10-25T00:10:07Z");
    let next = |when| {
        Schedule::of(&of(when), since).map(|schedule| show(schedule.next_after(since).expect("a time")))
    };
    assert_eq!(next(When::Cron("30 2 * * *".to_owned())).as_deref(), Ok("2026-10-25T00:30:00Z"));
    assert_eq!(next(When::EveryMs(60_000)).as_deref(), Ok("2026-10-25T00:11:07Z"));
    assert_eq!(next(When::At("2026-10-25T02:30:00".to_owned())).as_deref(), Ok("2026-10-25T00:30:00Z"));
    // With an offset the second of the two is meant.
    assert_eq!(next(When::At("2026-10-25T02:30:00+01:00".to_owned())).as_deref(), Ok("2026-10-25T01:30:00Z"));
    assert!(next(When::EveryMs(100)).is_err());
    assert!(
        Schedule::of(&trigger::Schedule { jitter_ms: 90_000_000, ..of(When::EveryMs(1_000)) }, since)
            .is_err()
    );
}

#[test]
fn ids_are_of_the_trigger_and_the_time_alone() {
    let ids = |text, trigger| {
        let due = schedule(text, None).due(
            trigger,
            at("2026-01-01T00:00:00Z"),
            at("2026-01-01T01:00:00Z"),
            CatchUp::All,
            9,
        );
        due.occurrences.into_iter().map(|o| o.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids("30 * * * *", "a"), ids("*/30 * * * *", "a")[..1]);
    assert_ne!(ids("30 * * * *", "a"), ids("30 * * * *", "b"));
    assert_eq!(ids("30 * * * *", "a"), ["8248b811-0885-8721-ae04-670ac2dc964c"]);
}

#[test]
fn a_schedule_says_when_it_wants_to_be_woken() {
    let schedule = schedule("0 0 * * *", None).with_jitter(Duration::from_secs(3_600)).expect("a window");
    let last = at("2026-01-01T12:00:00Z");
    let wakes = schedule.wakes("t", last).expect("a time");
    assert!(schedule.due("t", last, Timestamp(wakes.0 - 1), CatchUp::Once, 9).occurrences.is_empty());
    assert_eq!(schedule.due("t", last, wakes, CatchUp::Once, 9).occurrences.len(), 1);
    assert!(schedule.with_jitter(Duration::from_secs(86_401)).is_err());
}

#[test]
fn a_clock_that_runs_backwards_fires_nothing_and_loses_nothing() {
    let schedule = schedule("* * * * *", None);
    let (early, late) = (at("2026-01-01T00:00:30Z"), at("2026-01-01T00:02:30Z"));
    let back = schedule.due("t", late, early, CatchUp::All, 9);
    assert_eq!((back.occurrences.len(), back.upto), (0, late));
}
