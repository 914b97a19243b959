//! Which messages of a batch failed, by the answer of the code: `{"batchItemFailures": [{"itemIdentifier": "…"}]}`,
//! as AWS Lambda reads it where `ReportBatchItemFailures` is set.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is done.
    Done,
    /// These failed, by their index in the batch, ascending and not empty; the others are done.
    Some(Vec<usize>),
    /// All of it failed, since the answer cannot be trusted about any part.
    All(Fault),
}

/// Why an answer about a batch is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not of the shape.
    #[error(
        "the answer tells nothing about the batch: {0}; expected {{\"batchItemFailures\": [{{\"itemIdentifier\": …}}]}}"
    )]
    Malformed(String),
    /// It names a message that was not in the batch.
    #[error(
        "the answer names the message '{0}', which was not in the batch; an itemIdentifier is a messageId"
    )]
    Unknown(String),
}

/// How the messages of a batch depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Not at all.
    None,
    /// Those of one group are done in their order (FIFO): after one that failed, the later ones of its group are not
    /// done either, whatever the answer says, lest they overtake it.
    Groups,
}

/// A message of a batch, as far as the answer is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its id, as the code saw it (`messageId`).
    pub id: &'a str,
    /// Its group, with [`Order::Groups`].
    pub group: &'a str,
}

/// Reads the answer of code that was given this batch. An answer is of the shape, or `null` or `{}`, or empty, for no
/// failures.
#[must_use]
pub fn read(answer: &[u8], batch: &[Item<'_>], order: Order) -> Verdict {
    let failed = match failures(answer, batch) {
        Ok(failed) if failed.is_empty() => return Verdict::Done,
        Ok(failed) => failed,
        Err(fault) => return Verdict::All(fault),
    };
    let mut stopped = BTreeSet::new();
    let failed = batch.iter().enumerate().filter(|(_, item)| {
        let after = order == Order::Groups && stopped.contains(item.group);
        let fails = after || failed.contains(item.id);
        if fails {
            stopped.insert(item.group);
        }
        fails
    });
    Verdict::Some(failed.map(|(index, _)| index).collect())
}

/// The ids that the answer names.
fn failures(answer: &[u8], batch: &[Item<'_>]) -> Result<BTreeSet<String>, Fault> {
    #[derive(Deserialize)]
    struct Failed {
        #[serde(rename = "itemIdentifier")]
        id: String,
    }
    let malformed = |why: &str| Fault::Malformed(why.to_owned());
    if answer.trim_ascii().is_empty() {
        return Ok(BTreeSet::new());
    }
    let answer: Value = serde_json::from_slice(answer).map_err(|_| malformed("it is no JSON"))?;
    let list = match answer {
        Value::Null => return Ok(BTreeSet::new()),
        Value::Object(mut answer) => answer.remove("batchItemFailures").unwrap_or_default(),
        _ => return Err(malformed("it is no object")),
    };
    let list = match list {
        Value::Null => return Ok(BTreeSet::new()),
        Value::Array(list) => list,
        _ => return Err(malformed("batchItemFailures is no list")),
    };
    let known: BTreeSet<&str> = batch.iter().map(|item| item.id).collect();
    let mut failed = BTreeSet::new();
    for item in list {
        let Ok(Failed { id }) = serde_json::from_value(item) else {
            return Err(malformed("a failure has no itemIdentifier"));
        };
        if !known.contains(id.as_str()) {
            return Err(Fault::Unknown(id.chars().take(100).collect()));
        }
        failed.insert(id);
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: [Item<'static>; 4] = [
        Item { id: "a", group: "x" },
        Item { id: "b", group: "y" },
        Item { id: "c", group: "x" },
        Item { id: "d", group: "y" },
    ];

    fn read(answer: &str) -> Verdict {
        super::read(answer.as_bytes(), &BATCH, Order::None)
    }

    #[test]
    fn an_answer_without_failures_is_a_success() {
        for answer in
            ["", " \n", "null", "{}", r#"{"batchItemFailures": []}"#, r#"{"batchItemFailures": null}"#]
        {
            assert_eq!(read(answer), Verdict::Done, "{answer}");
        }
    }

    #[test]
    fn only_what_is_named_failed() {
        let answer = r#"{"batchItemFailures": [{"itemIdentifier": "d"}, {"itemIdentifier": "b"}, {"itemIdentifier": "d"}]}"#;
        assert_eq!(read(answer), Verdict::Some(vec![1, 3]));
    }

    #[test]
    fn what_cannot_be_trusted_fails_the_whole_batch() {
        for answer in [
            "ok",
            "[]",
            "true",
            r#"{"batchItemFailures": {}}"#,
            r#"{"batchItemFailures": [""]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#,
            r#"{"batchItemFailures": [{"itemidentifier": "a"}]}"#,
        ] {
            assert!(
                matches!(read(answer), Verdict::All(Fault::Malformed(_))),
                "{answer}: {:?}",
                read(answer)
            );
        }
        for (answer, id) in [
            (r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#, ""),
            (r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "e"}]}"#, "e"),
        ] {
            assert_eq!(read(answer), Verdict::All(Fault::Unknown(id.to_owned())), "{answer}");
        }
        let Verdict::All(fault) = read(r#"{"batchItemFailures": [{"itemIdentifier": "zz"}]}"#) else {
            panic!("kept")
        };
        assert!(fault.to_string().contains("'zz'"), "{fault}");
    }

    #[test]
    fn nothing_overtakes_what_failed_in_its_group() {
        let answer = br#"{"batchItemFailures": [{"itemIdentifier": "a"}]}"#;
        assert_eq!(super::read(answer, &BATCH, Order::Groups), Verdict::Some(vec![0, 2]));
        assert_eq!(super::read(answer, &BATCH, Order::None), Verdict::Some(vec![0]));
    }
}
