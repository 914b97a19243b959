//! The audit log's chain and exports: whole ones are taken, and any change is refused.

use rouse_metering::audit::{
    key::Key,
    log::{self, Action, Entry, Outcome, Writer, verify},
};
use rouse_types::{TenantId, Timestamp};
use serde_json::json;

fn tenant() -> TenantId {
    "shop".parse().expect("a name")
}

fn key() -> Key {
    Key::from_pkcs8(&Key::generate().expect("a key")).expect("a key")
}

fn export(key: &Key) -> String {
    let (mut writer, mut text) = Writer::begin(Some(&tenant()), key).expect("begun");
    let mut link = log::first(Some(&tenant()));
    for number in 0..5 {
        let action = Action {
            number,
            time: Timestamp(1_000 + number),
            who: "key abcdefghij23".to_owned(),
            from: "127.0.0.1".to_owned(),
            operation: "putAlias".to_owned(),
            of: [("function".to_owned(), "cart".to_owned())].into(),
            outcome: Outcome::Done,
            before: (number > 0).then(|| json!({ "versions": [{ "version": number, "weight": 1 }] })),
            after: Some(json!({ "versions": [{ "version": number + 1, "weight": 1 }] })),
        };
        link = log::next(&link, &action.to_json().expect("json"));
        text += "\n";
        text += &writer.action(Entry { action, link }).expect("a line");
    }
    text + "\n" + &writer.end(key).expect("the end") + "\n"
}

#[test]
fn a_whole_log_proves_itself_by_its_text_and_by_the_key_that_is_named() {
    let key = key();
    let text = export(&key);
    let found = verify(text.as_bytes(), Some(&key.public())).expect("it is whole");
    assert_eq!((found.actions, found.log.tenant), (5, Some(tenant())));
    assert_eq!(verify(text.as_bytes(), None).expect("it is whole").actions, 5);
    let other = self::key().public();
    assert!(verify(text.as_bytes(), Some(&other)).is_err(), "another key");
}

#[test]
fn one_changed_byte_wherever_it_stands_is_refused() {
    let text = export(&key()).into_bytes();
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1;
        assert!(verify(&changed[..], None).is_err(), "byte {at}: {}", String::from_utf8_lossy(&changed));
    }
}

#[test]
fn an_action_that_is_dropped_added_moved_or_cut_off_is_refused_by_its_line() {
    let text = export(&key());
    let lines: Vec<&str> = text.lines().collect();
    let refused = |lines: &[&str]| {
        let text = lines.join("\n") + "\n";
        verify(text.as_bytes(), None).expect_err("refused").to_string()
    };
    let mut dropped = lines.clone();
    dropped.remove(2);
    assert!(refused(&dropped).starts_with("line 3: action 1 is missing"), "{}", refused(&dropped));
    let mut moved = lines.clone();
    moved.swap(2, 3);
    assert!(refused(&moved).starts_with("line 3"));
    let mut twice = lines.clone();
    twice.insert(2, lines[2]);
    twice.swap(2, 3);
    assert!(refused(&twice).starts_with("line 4"));
    assert!(refused(&lines[..lines.len() - 1]).contains("cut off"));
    assert!(refused(&[&lines[..], &["{}"]].concat()).contains("after the end"));
    assert!(refused(&lines[1..]).contains("begins"), "{}", refused(&lines[1..]));
}
