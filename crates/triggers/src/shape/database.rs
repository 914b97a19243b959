//! Changes of rows. The shape is our own, close to Debezium's envelope, which many consumers know:
//!
//! ```json
//! { "Records": [{
//!     "op": "u",
//!     "key": { "id": 7 },
//!     "before": { "id": 7, "state": "new" }, "after": { "id": 7, "state": "paid" },
//!     "source": { "db": "shop", "schema": "public", "table": "orders", "lsn": "0/16B3748", "txId": 742, "ts_ms": 1790000000000 }
//! }] }
//! ```
//! `op` is `c` for insert, `u` for update, `d` for delete, `t` for truncate (without rows), `r` for a row that was there
//! when the trigger was made. `before` is `null` where the database does not tell it: for PostgreSQL, unless the table has
//! `REPLICA IDENTITY FULL`; then `key` still names the row, as it was before. A large value that an update left as it was
//! may be missing from `after`.

use rouse_types::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Records;
use crate::cloud_event;

/// The type of a change as a CloudEvent.
pub const TYPE: &str = "dev.rouse.database.change.v1";

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Operation {
    /// It was inserted.
    #[serde(rename = "c")]
    Insert,
    /// It was updated.
    #[serde(rename = "u")]
    Update,
    /// It was deleted.
    #[serde(rename = "d")]
    Delete,
    /// All rows of the table were removed at once.
    #[serde(rename = "t")]
    Truncate,
    /// It was there when the trigger was made.
    #[serde(rename = "r")]
    Read,
}

/// A row: values by column.
pub type Row = Map<String, Value>;

/// A change of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What happened.
    pub op: Operation,
    /// The columns that identify the row; none for a table without a key, or all rows.
    pub key: Option<Row>,
    /// The row before, where it is known.
    pub before: Option<Row>,
    /// The row after.
    pub after: Option<Row>,
    /// Where and when.
    pub source: Origin,
}

/// Where and when a row was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The database.
    pub db: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The place in the database's log, as PostgreSQL writes it: ascends with each change.
    pub lsn: String,
    /// The transaction.
    #[serde(rename = "txId")]
    pub transaction: u64,
    /// When the transaction was committed, in milliseconds since 1970.
    #[serde(rename = "ts_ms")]
    pub committed_ms: u64,
}

impl Change {
    /// What tells a repetition: a transaction changes a table's row more than once only at different places.
    #[must_use]
    pub fn id(&self, index: u32) -> String {
        format!("{}/{}/{index}", self.source.db, self.source.lsn)
    }

    /// The change as a CloudEvent. `index` is its place among the changes at one place of the log.
    ///
    /// # Errors
    /// A name that no attribute can hold.
    pub fn cloud_event(&self, index: u32) -> Result<cloud_event::Event, cloud_event::Error> {
        let Origin { db, schema, table, committed_ms, .. } = &self.source;
        let escape = |part: &str| {
            percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let source = format!("/databases/{}/schemas/{}/tables/{}", escape(db), escape(schema), escape(table));
        // A map with text for keys is always JSON.
        let data = serde_json::to_vec(self).unwrap_or_default();
        cloud_event::Event::new(self.id(index), source, TYPE)?
            .with("time", super::millis(Timestamp::from_millis(*committed_ms)))?
            .with_data("application/json", data)
    }
}

/// The event of a batch of changes, in their order.
#[must_use]
pub fn records(changes: &[Change]) -> Records<&Change> {
    Records { records: changes.iter().collect() }
}
