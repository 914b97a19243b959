//! A row's change as an event in its function's queue.

use std::sync::Arc;

use rouse_store::queues::{NAME_BYTES_MAX, NewMessage};
use rouse_triggers::{
    pattern::Pattern,
    postgres::Lsn,
    shape::database::{self, Change, Operation, Row},
};
use rouse_types::{
    Contract, Event, EventCall, Timestamp,
    trigger::{DatabaseSource, EVENT_BYTES_MAX, RowChange},
};
use sha2::{Digest as _, Sha256};

use super::{WINDOW, kept::Of, prepare::Keys};
use crate::record;

/// What one trigger makes of changes.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    pub(super) of: Of,
    pub(super) contract: Contract,
    pub(super) source: DatabaseSource,
    pub(super) filter: Option<Arc<Pattern>>,
    pub(super) slot: String,
}

impl Maker {
    /// Whether the trigger is for this change at all: the database may still send what an earlier deployment named.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let source = &change.source;
        let named = self.source.tables.iter().any(|table| {
            table
                .split_once('.')
                .is_some_and(|(schema, table)| schema == source.schema && table == source.table)
        });
        let operation = match change.op {
            Operation::Insert | Operation::Read => RowChange::Insert,
            Operation::Update => RowChange::Update,
            Operation::Delete => RowChange::Delete,
            Operation::Truncate => RowChange::Truncate,
        };
        let passes =
            |pattern: &Arc<Pattern>| serde_json::to_value(change).is_ok_and(|json| pattern.matches(&json));
        named && self.source.operations.contains(&operation) && self.filter.as_ref().is_none_or(passes)
    }

    /// The message of a change, the `index`th at its place of the log.
    pub(super) fn message(
        &self,
        mut change: Change,
        at: Lsn,
        index: u32,
        generation: u32,
        keys: &Keys,
        now: Timestamp,
    ) -> (String, NewMessage) {
        complete_key(&mut change, keys);
        let group = group(&change);
        let (call, body) = self.shape(&mut change, index);
        let event = Event {
            ordering_key: Some(group),
            trigger: Some(format!("database:{}", self.of.trigger)),
            ..Event::new(&self.of.tenant, &self.of.function, call, now)
        };
        let known = format!("database/{}/{generation}/{at}/{index}", self.slot);
        record::once(&event, body, known, WINDOW)
    }

    /// The event in the shape that code of the contract expects. What is too large for an event loses its largest
    /// values, never its place: the function can look up the row by its key.
    fn shape(&self, change: &mut Change, index: u32) -> (EventCall, Vec<u8>) {
        loop {
            let (call, body) = match self.contract {
                Contract::Lambda => {
                    let body = serde_json::to_vec(&database::records(std::slice::from_ref(change)));
                    let call = EventCall::Invoke { content_type: Some("application/json".to_owned()) };
                    (call, body.unwrap_or_default())
                }
                Contract::Component | Contract::Http => crate::shape::post(change.cloud_event(index)),
            };
            if body.len() <= EVENT_BYTES_MAX || !leave_out_largest(change) {
                return (call, body);
            }
        }
    }
}

/// Leaves out the largest value of the rows. Tells whether there was one.
fn leave_out_largest(change: &mut Change) -> bool {
    let Change { before, after, source, .. } = change;
    let rows = [before, after].into_iter().flatten();
    let sizes = |row: &Row| row.iter().map(|(name, value)| (value.to_string().len(), name.clone())).max();
    let largest =
        rows.filter_map(|row| sizes(row).map(|(size, name)| (size, name, row))).max_by_key(|found| found.0);
    let Some((bytes, column, row)) = largest else { return false };
    tracing::warn!(
        table = source.table,
        lsn = source.lsn,
        column,
        bytes,
        "a value too large for an event is left out"
    );
    row.remove(&column);
    true
}

/// With the whole old row told, the database does not say which columns are the key: its catalog does.
fn complete_key(change: &mut Change, keys: &Keys) {
    let source = &change.source;
    if change.key.is_some() {
        return;
    }
    let Some(columns) = keys.get(&(source.schema.clone(), source.table.clone())) else { return };
    let Some(row) = change.before.as_ref().or(change.after.as_ref()) else { return };
    let key: Option<Row> = columns.iter().map(|name| Some((name.clone(), row.get(name)?.clone()))).collect();
    change.key = key.filter(|key| !key.is_empty());
}

/// The ordering key: changes of one row run one after the other; of a table whose rows have no key, all changes.
fn group(change: &Change) -> String {
    let source = &change.source;
    let key = change.key.as_ref().map(|key| serde_json::Value::Object(key.clone()).to_string());
    let group = format!("{}.{}/{}", source.schema, source.table, key.unwrap_or_default());
    if group.len() <= NAME_BYTES_MAX {
        return group;
    }
    format!("sha256:{}", hex::encode(Sha256::digest(group)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(op: Operation, before: Option<Row>, after: Option<Row>) -> Change {
        let source = database::Origin {
            db: "shop".to_owned(),
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            lsn: "0/1".to_owned(),
            transaction: 1,
            committed_ms: 2,
        };
        Change { op, key: None, before, after, source }
    }

    fn row(value: serde_json::Value) -> Option<Row> {
        value.as_object().cloned()
    }

    fn maker(filter: Option<serde_json::Value>) -> Maker {
        Maker {
            of: Of {
                tenant: "default".parse().expect("a tenant"),
                function: "f".parse().expect("a function"),
                trigger: "t".to_owned(),
            },
            contract: Contract::Lambda,
            source: DatabaseSource {
                url: String::new(),
                tables: vec!["public.orders".to_owned()],
                operations: vec![RowChange::Update],
            },
            filter: filter.map(|filter| Arc::new(Pattern::compile(&filter).expect("a pattern"))),
            slot: "s".to_owned(),
        }
    }

    #[test]
    fn a_trigger_wants_its_tables_its_operations_and_what_its_filter_takes() {
        let paid = change(Operation::Update, None, row(json!({ "state": "paid" })));
        assert!(maker(None).wants(&paid));
        assert!(maker(Some(json!({ "after": { "state": ["paid"] } }))).wants(&paid));
        assert!(!maker(Some(json!({ "after": { "state": ["new"] } }))).wants(&paid));
        assert!(!maker(None).wants(&change(Operation::Delete, None, None)));
        let mut other = paid;
        other.source.schema = "private".to_owned();
        assert!(!maker(None).wants(&other));
    }

    #[test]
    fn changes_of_one_row_are_one_group_whatever_of_it_is_told() {
        let keys = Keys::from([(("public".to_owned(), "orders".to_owned()), vec!["id".to_owned()])]);
        let group_of = |before: Option<Row>, after: Option<Row>| {
            let change = change(Operation::Update, before, after);
            maker(None).message(change, Lsn(1), 0, 0, &keys, Timestamp::default()).1.group.expect("a group")
        };
        let one = group_of(None, row(json!({ "id": 7, "state": "new" })));
        assert_eq!(one, "public.orders/{\"id\":7}");
        assert_eq!(group_of(row(json!({ "id": 7 })), row(json!({ "id": 8 }))), one, "as it was before");
        assert_eq!(group_of(None, row(json!({ "state": "new" }))), "public.orders/", "the whole table");
        assert!(group_of(None, row(json!({ "id": "x".repeat(1_000) }))).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn an_event_is_never_too_large_and_keeps_its_key() {
        let keys = Keys::from([(("public".to_owned(), "orders".to_owned()), vec!["id".to_owned()])]);
        let big = "x".repeat(EVENT_BYTES_MAX);
        let after = row(json!({ "id": 7, "big": big, "note": "small" }));
        let (_, message) = maker(None).message(
            change(Operation::Update, None, after),
            Lsn(1),
            0,
            0,
            &keys,
            Timestamp::default(),
        );
        let event: serde_json::Value = serde_json::from_slice(&message.payload).expect("json");
        assert_eq!(event["Records"][0]["key"], json!({ "id": 7 }));
        assert_eq!(event["Records"][0]["after"], json!({ "id": 7, "note": "small" }));
    }
}
