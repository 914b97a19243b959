//! Patterns against events, against a naive reading of wildcards, and what is refused.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Filter, Pattern, leaf::Wildcard};

fn pattern(pattern: Value) -> Pattern {
    Pattern::parse(&pattern.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

/// Each pattern with events that it takes, and events that it does not.
fn check(of: Value, takes: &[Value], leaves: &[Value]) {
    let pattern = pattern(of.clone());
    for event in takes {
        assert!(pattern.matches(event), "{of} leaves {event}");
    }
    for event in leaves {
        assert!(!pattern.matches(event), "{of} takes {event}");
    }
}

fn order() -> Value {
    json!({
        "source": "shop.orders",
        "detail-type": "Order Paid",
        "detail": {
            "id": "o-4711", "total": 99.5, "items": 3, "express": true, "coupon": null, "ip": "10.1.2.3",
            "tags": ["new", "gift"], "notes": [],
            "lines": [{ "sku": "A1", "count": 2 }, { "sku": "B2", "count": 1 }],
        },
    })
}

#[test]
fn literals_are_compared_by_type_and_value() {
    check(
        json!({ "source": ["shop.orders", "shop.refunds"], "detail": { "items": [3], "express": [true], "coupon": [null] } }),
        &[order()],
        &[json!({}), json!({ "source": "shop.orders" }), json!([])],
    );
    check(
        json!({ "a": [300] }),
        &[json!({ "a": 300.0 }), json!({ "a": 3e2 })],
        &[json!({ "a": "300" }), json!({ "a": 301 })],
    );
    check(
        json!({ "a": [9_007_199_254_740_993_u64] }),
        &[json!({ "a": 9_007_199_254_740_993_u64 })],
        &[json!({ "a": 9_007_199_254_740_992_u64 })],
    );
    check(json!({ "a": [""] }), &[json!({ "a": "" })], &[json!({ "a": null }), json!({})]);
    check(
        json!({ "a": [null] }),
        &[json!({ "a": null })],
        &[json!({}), json!({ "a": "" }), json!({ "a": [] })],
    );
}

#[test]
fn strings_are_tested_by_their_parts() {
    check(
        json!({ "a": [{ "prefix": "eu-" }] }),
        &[json!({ "a": "eu-1" })],
        &[json!({ "a": "us-1" }), json!({ "a": 1 }), json!({})],
    );
    check(
        json!({ "a": [{ "suffix": ".png" }, { "suffix": ".jpg" }] }),
        &[json!({ "a": "x.jpg" })],
        &[json!({ "a": "x.JPG" })],
    );
    check(
        json!({ "a": [{ "suffix": { "equals-ignore-case": ".PNG" } }] }),
        &[json!({ "a": "x.pNg" })],
        &[json!({ "a": "png" })],
    );
    check(
        json!({ "a": [{ "prefix": { "equals-ignore-case": "EventB" } }] }),
        &[json!({ "a": "eventbridge" })],
        &[json!({ "a": "event" })],
    );
    check(
        json!({ "a": [{ "equals-ignore-case": "Straße" }] }),
        &[json!({ "a": "STRAßE" })],
        &[json!({ "a": "strasse" })],
    );
    check(
        json!({ "a": [{ "wildcard": "s3://*/in/*.csv" }] }),
        &[json!({ "a": "s3://x/in/y.csv" }), json!({ "a": "s3://x/in/in/.csv" })],
        &[json!({ "a": "s3://x/out/y.csv" }), json!({ "a": "s3:///in.csv" })],
    );
    check(
        json!({ "a": [{ "wildcard": "a\\*b\\\\*" }] }),
        &[json!({ "a": "a*b\\tail" })],
        &[json!({ "a": "axb\\" })],
    );
}

#[test]
fn anything_but_excludes() {
    check(
        json!({ "a": [{ "anything-but": "x" }] }),
        &[json!({ "a": "y" }), json!({ "a": 1 })],
        &[json!({ "a": "x" }), json!({})],
    );
    check(json!({ "a": [{ "anything-but": [100, 200] }] }), &[json!({ "a": 300 })], &[json!({ "a": 200 })]);
    for test in [
        json!({ "prefix": ["init", "err"] }),
        json!({ "wildcard": ["in*", "*ror"] }),
        json!({ "suffix": ["ing", "ror"] }),
        json!({ "equals-ignore-case": ["INITIALIZING", "ERROR"] }),
        json!({ "prefix": { "equals-ignore-case": "I" } }),
    ] {
        check(
            json!({ "a": [{ "anything-but": test }] }),
            &[json!({ "a": "done" })],
            &[json!({ "a": "initializing" })],
        );
    }
    // Of a list, one element that is not excluded is enough.
    check(
        json!({ "a": [{ "anything-but": "x" }] }),
        &[json!({ "a": ["x", "y"] })],
        &[json!({ "a": ["x"] }), json!({ "a": [] })],
    );
}

#[test]
fn numbers_lie_in_ranges() {
    check(
        json!({ "a": [{ "numeric": [">", 0, "<=", 5] }] }),
        &[json!({ "a": 0.1 }), json!({ "a": 5 })],
        &[json!({ "a": 0 }), json!({ "a": 5.1 }), json!({ "a": "3" })],
    );
    check(json!({ "a": [{ "numeric": ["=", 3.0] }] }), &[json!({ "a": 3 })], &[json!({ "a": 4 })]);
    check(json!({ "a": [{ "numeric": ["<", -1] }] }), &[json!({ "a": -1.5 })], &[json!({ "a": -1 })]);
    check(json!({ "a": [{ "numeric": [">=", 5, "<=", 5] }] }), &[json!({ "a": 5 })], &[]);
}

#[test]
fn addresses_lie_in_networks() {
    check(
        json!({ "detail": { "ip": [{ "cidr": "10.0.0.0/8" }] } }),
        &[order(), json!({ "detail": { "ip": "::ffff:10.9.9.9" } })],
        &[
            json!({ "detail": { "ip": "11.0.0.1" } }),
            json!({ "detail": { "ip": "::1" } }),
            json!({ "detail": { "ip": "10.0.0" } }),
        ],
    );
    check(
        json!({ "a": [{ "cidr": "2001:db8::/32" }] }),
        &[json!({ "a": "2001:db8::7" })],
        &[json!({ "a": "2001:db9::7" })],
    );
}

#[test]
fn existence_is_that_of_a_leaf() {
    check(
        json!({ "a": { "b": [{ "exists": true }] } }),
        &[json!({ "a": { "b": null } }), json!({ "a": { "b": [0] } }), json!({ "a": [{}, { "b": 1 }] })],
        &[json!({ "a": {} }), json!({ "a": { "b": [] } }), json!({ "a": { "b": { "c": 1 } } }), json!({})],
    );
    check(
        json!({ "a": { "b": [{ "exists": false }] } }),
        &[
            json!({}),
            json!({ "a": 1 }),
            json!({ "a": { "b": [] } }),
            json!({ "a": [] }),
            json!({ "a": { "b": {} } }),
        ],
        &[json!({ "a": { "b": 1 } }), json!({ "a": { "b": null } })],
    );
    check(
        json!({ "a": [{ "exists": false }, "x"] }),
        &[json!({}), json!({ "a": "x" })],
        &[json!({ "a": "y" })],
    );
}

#[test]
fn one_element_of_a_list_is_enough_and_is_one_and_the_same() {
    check(json!({ "detail": { "tags": ["gift"] } }), &[order()], &[]);
    check(json!({ "detail": { "tags": ["old", "worn"] } }), &[], &[order()]);
    check(json!({ "detail": { "lines": { "sku": ["A1"], "count": [2] } } }), &[order()], &[]);
    check(json!({ "detail": { "lines": { "sku": ["A1"], "count": [1] } } }), &[], &[order()]);
}

#[test]
fn alternatives_stand_beside_fields_and_in_each_other() {
    let of = json!({
        "source": ["s"],
        "$or": [{ "detail": { "x": [{ "numeric": [">", 5] }] } }, { "$or": [{ "b": [1] }, { "c": [{ "exists": true }] }] }],
    });
    let event = |detail: u8, b: u8| json!({ "source": "s", "detail": { "x": detail }, "b": b });
    check(
        of,
        &[event(6, 0), event(0, 1), json!({ "source": "s", "c": 0 })],
        &[event(5, 2), json!({ "b": 1 })],
    );
    // Without a list it is a field like any other.
    check(json!({ "$or": { "b": [1] } }), &[json!({ "$or": { "b": 1 } })], &[json!({ "b": 1 })]);
}

#[test]
fn what_is_no_pattern_or_never_matches_is_refused_with_its_place() {
    let deep = format!("{}[1]{}", "{\"a\":".repeat(40), "}".repeat(40));
    let many = format!("{{\"a\": [{}]}}", ["1"; 1_001].join(","));
    let long = format!("{{\"a\": [\"{}\"]}}", "x".repeat(20_000));
    let cases = [
        ("[]", "", "no object"),
        ("{", "", "EOF"),
        ("{\"a\": [1], \"a\": [2]}", "", "stands twice"),
        ("{}", "", "empty"),
        ("{\"a\": {}}", "a", "empty"),
        ("{\"a\": []}", "a", "never matches"),
        ("{\"a\": {\"b\": \"x\"}}", "a.b", "stand in a list"),
        ("{\"a\": [[1]]}", "a[0]", "list in a list"),
        ("{\"a\": [{}]}", "a[0]", "has a name"),
        ("{\"a\": [{\"prefix\": \"a\", \"suffix\": \"b\"}]}", "a[0]", "one name"),
        ("{\"a\": [1, {\"regex\": \"b\"}]}", "a[1].regex", "no test 'regex'"),
        ("{\"a\": [{\"prefix\": 1}]}", "a[0].prefix", "a string"),
        ("{\"a\": [{\"prefix\": {\"suffix\": \"\"}}]}", "a[0].prefix", "equals-ignore-case"),
        ("{\"a\": [{\"wildcard\": \"a**\"}]}", "a[0].wildcard", "two '*'"),
        ("{\"a\": [{\"wildcard\": \"a\\\\\"}]}", "a[0].wildcard", "stands before"),
        ("{\"a\": [{\"exists\": 1}]}", "a[0].exists", "true or false"),
        ("{\"a\": [{\"cidr\": \"10.0.0.0/33\"}]}", "a[0].cidr", "no network"),
        ("{\"a\": [{\"anything-but\": []}]}", "a[0].anything-but", "excludes nothing"),
        ("{\"a\": [{\"anything-but\": [[1]]}]}", "a[0].anything-but", "no lists"),
        (
            "{\"a\": [{\"anything-but\": {\"numeric\": [\"<\", 1]}}]}",
            "a[0].anything-but.numeric",
            "knows no test",
        ),
        ("{\"a\": [{\"numeric\": [\">\", 10, \"<\", 5]}]}", "a[0].numeric", "never matches"),
        ("{\"a\": [{\"numeric\": [\">\", 5, \"<=\", 5]}]}", "a[0].numeric", "never matches"),
        ("{\"a\": [{\"numeric\": [\">\", 5, \">\", 6]}]}", "a[0].numeric", "both ends"),
        ("{\"a\": [{\"numeric\": [\"=\", 5, \">\", 6]}]}", "a[0].numeric", "both ends"),
        ("{\"a\": [{\"numeric\": [\"!=\", 5]}]}", "a[0].numeric", "no comparison"),
        ("{\"a\": [{\"numeric\": [\"<\", 1e300]}]}", "a[0].numeric", "too large"),
        ("{\"a\": [{\"numeric\": []}]}", "a[0].numeric", "both ends"),
        ("{\"$or\": []}", "$or", "never matches"),
        ("{\"$or\": [1]}", "$or[0]", "is an object"),
        ("{\"$or\": [{\"a\": [1]}, {\"b\": []}]}", "$or[1].b", "never matches"),
        (&deep, &["a"; 32].join("."), "deeper than 32"),
        (&many, "a", "more than 1000"),
        (&long, "", "bytes"),
    ];
    for (text, path, says) in cases {
        let error = Pattern::parse(text).expect_err(text);
        assert_eq!(error.path, path, "{error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn filters_combine_attributes() {
    let event = [("type", "com.example.paid"), ("source", "/shop"), ("subject", "orders/7")];
    let get = |name: &str| event.iter().find(|(known, _)| *known == name).map(|(_, value)| Cow::from(*value));
    for (filter, takes) in [
        (json!([{ "exact": { "type": "com.example.paid", "source": "/shop" } }]), true),
        (json!([{ "exact": { "type": "com.example.paid", "source": "/mall" } }]), false),
        (json!([{ "prefix": { "type": "com.example." } }, { "suffix": { "subject": "/7" } }]), true),
        (json!([{ "prefix": { "type": "com.example." } }, { "suffix": { "subject": "/8" } }]), false),
        (json!({ "any": [{ "exact": { "type": "x" } }, { "exact": { "source": "/shop" } }] }), true),
        (json!({ "all": [{ "exact": { "type": "x" } }, { "exact": { "source": "/shop" } }] }), false),
        (json!({ "not": { "exact": { "partitionkey": "x" } } }), true),
        (json!({ "exact": { "partitionkey": "x" } }), false),
    ] {
        let compiled = Filter::compile(&filter).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(compiled.matches(get), takes, "{filter}");
    }
    for (filter, path) in [
        (json!([]), ""),
        (json!("type"), ""),
        (json!([{ "exact": {} }]), "[0].exact"),
        (json!([{ "exact": { "Type": "x" } }]), "[0].exact.Type"),
        (json!([{ "exact": { "type": "" } }]), "[0].exact.type"),
        (json!([{ "exact": { "type": 1 } }]), "[0].exact.type"),
        (json!([{ "sql": "type = 'x'" }]), "[0].sql"),
        (json!({ "all": [] }), "all"),
        (json!({ "not": [] }), "not"),
        (json!({ "any": [{ "exact": { "a": "b" }, "not": {} }] }), "any[0]"),
    ] {
        assert_eq!(Filter::compile(&filter).expect_err("refused").path, path, "{filter}");
    }
}

/// By trying every length for each star.
fn naive(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
        [c, rest @ ..] => text.first() == Some(c) && naive(rest, &text[1..]),
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A pattern that wants each leaf of the event to be what it is.
fn of_itself(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) => {
            let fields: serde_json::Map<_, _> =
                map.iter().filter_map(|(key, value)| Some((key.clone(), of_itself(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) => of_itself(items.first()?),
        leaf => Some(json!([leaf])),
    }
}

proptest! {
    #[test]
    fn wildcards_are_read_as_a_naive_search_reads_them(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
        match Wildcard::parse(&pattern) {
            Ok(wildcard) => {
                let chars = |text: &str| text.chars().collect::<Vec<_>>();
                prop_assert_eq!(wildcard.matches(&text), naive(&chars(&pattern), &chars(&text)));
            }
            Err(_) => prop_assert!(pattern.contains("**")),
        }
    }

    #[test]
    fn an_event_matches_the_pattern_of_itself_and_no_leaf_may_be_missing(event in json_value(), other in json_value()) {
        let event = json!({ "event": event });
        let Some(of) = of_itself(&event) else { return Ok(()) };
        let pattern = pattern(of.clone());
        prop_assert!(pattern.matches(&event), "{of} leaves {event}");
        let without = json!({ "other": other });
        prop_assert!(!pattern.matches(&without));
        // `false` for each of its fields is the opposite where there is one leaf.
        let absent = Pattern::compile(&json!({ "event": [{ "exists": false }] })).expect("a pattern");
        let present = Pattern::compile(&json!({ "event": [{ "exists": true }] })).expect("a pattern");
        prop_assert!(absent.matches(&event) != present.matches(&event));
    }
}
