//! Brings a database to where its changes can be read: looks at what is there, says what is missing, and makes the
//! publication and the slot. Every step can be repeated.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use rouse_triggers::postgres::Lsn;
use rouse_types::trigger::{DatabaseSource, RowChange};

use super::{
    connection::Connection,
    problem::{Problem, literal, quoted},
};

/// Of one statement. Making a slot alone may take longer: it waits for the end of all open transactions.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const SLOT_MAX: Duration = Duration::from_secs(600);
/// PostgreSQL 13: the first whose publications name a partitioned table as such.
const VERSION_MIN: u32 = 130_000;

/// The columns of the primary key, by schema and table.
pub(super) type Keys = HashMap<(String, String), Vec<String>>;

/// What was found and made.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The server's own identity: another one's log has other places.
    pub(super) system: String,
    /// Up to where its log is written.
    pub(super) written: Lsn,
    /// Whether the slot was made just now, so that it begins here.
    pub(super) is_new: bool,
    /// Why a slot that was there could not go on.
    pub(super) lost: Option<String>,
    pub(super) keys: Keys,
}

/// Makes what is missing of the slot and the publication of this name.
pub(super) async fn prepare(
    connection: &mut Connection,
    source: &DatabaseSource,
    name: &str,
    database: &str,
) -> Result<Prepared, Problem> {
    let (system, written) = server(connection).await?;
    let tables: BTreeSet<(String, String)> = source.tables.iter().map(|table| split(table)).collect();
    let keys = look_at_tables(connection, source, &tables).await?;
    publish(connection, source, &tables, name).await?;
    let (is_new, lost) = slot(connection, name, database).await?;
    Ok(Prepared { system, written, is_new, lost, keys })
}

/// Drops both, whatever of them is there.
pub(super) async fn drop_all(connection: &mut Connection, name: &str) -> Result<(), Problem> {
    let of = literal(name);
    let sql = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {of}"
    );
    connection.query(&sql, ANSWER_MAX).await?;
    let sql = format!("DROP PUBLICATION IF EXISTS {}", quoted(name));
    match connection.query(&sql, ANSWER_MAX).await {
        // Somebody else made it, and may drop it.
        Err(problem) if problem.is("42501") => {
            tracing::warn!(publication = name, %problem, "a publication is left to its owner");
            Ok(())
        }
        other => other.map(drop),
    }
}

fn split(table: &str) -> (String, String) {
    let (schema, table) = table.split_once('.').unwrap_or(("public", table));
    (schema.to_owned(), table.to_owned())
}

async fn server(connection: &mut Connection) -> Result<(String, Lsn), Problem> {
    let sql = "SELECT current_setting('server_version_num'), current_setting('server_version'), \
               current_setting('wal_level'), pg_is_in_recovery()";
    let row = one(connection.query(sql, ANSWER_MAX).await?)?;
    let [number, version, level, in_recovery] = &row[..] else { return Err(unexpected()) };
    if text(number).parse::<u32>().unwrap_or(0) < VERSION_MIN {
        return Err(Problem::new(format!(
            "the database is PostgreSQL {}; 13 or newer is needed",
            text(version)
        )));
    }
    if text(in_recovery) == "t" {
        return Err(Problem::new("the database is a standby, whose changes are not read")
            .hint("name the primary server in the trigger's url"));
    }
    if text(level) != "logical" {
        return Err(Problem::new(format!("the database has wal_level = {}, and its log does not tell rows", text(level)))
            .hint(
                "as a superuser: ALTER SYSTEM SET wal_level = logical; and restart the server (on Amazon RDS: the \
                 parameter rds.logical_replication = 1)",
            ));
    }
    let row = one(connection.query("IDENTIFY_SYSTEM", ANSWER_MAX).await?)?;
    let [system, _timeline, written, ..] = &row[..] else { return Err(unexpected()) };
    Ok((text(system).to_owned(), lsn(text(written)).ok_or_else(unexpected)?))
}

/// Each table must be there, and tell apart the rows that change.
async fn look_at_tables(
    connection: &mut Connection,
    source: &DatabaseSource,
    tables: &BTreeSet<(String, String)>,
) -> Result<Keys, Problem> {
    let wanted: Vec<String> =
        tables.iter().map(|(schema, table)| format!("({}, {})", literal(schema), literal(table))).collect();
    let sql = format!(
        "SELECT w.s, w.t, c.relkind, c.relpersistence, c.relreplident,
            EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid),
            (SELECT json_agg(a.attname ORDER BY k.n) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k (att, n),
                pg_attribute a WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.att)
         FROM (VALUES {}) w (s, t) LEFT JOIN pg_namespace n ON n.nspname = w.s
            LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t",
        wanted.join(", ")
    );
    let mut keys = Keys::new();
    for row in connection.query(&sql, ANSWER_MAX).await? {
        let [schema, table, kind, persistence, identity, index, key] = &row[..] else {
            return Err(unexpected());
        };
        let (schema, table) = (text(schema).to_owned(), text(table).to_owned());
        let name = format!("{schema}.{table}");
        if text(kind).is_empty() {
            return Err(Problem::new(format!("the database has no table {name}")).hint(
                "tables are named schema.table, in the case they were made in: list them with \\dt *.*",
            ));
        }
        if !matches!(text(kind), "r" | "p") || text(persistence) != "p" {
            return Err(Problem::new(format!("{name} is no ordinary table: its changes are not in the log"))
                .hint("name the tables below a view; SET LOGGED makes an unlogged table an ordinary one"));
        }
        let key: Vec<String> = serde_json::from_str(text(key)).unwrap_or_default();
        let told_apart = match text(identity) {
            "f" => true,
            "i" => text(index) == "t",
            "d" => !key.is_empty(),
            _ => false,
        };
        let changes = |one: &RowChange| matches!(one, RowChange::Update | RowChange::Delete);
        if !told_apart && source.operations.iter().any(changes) {
            // Published so, the table would refuse every update and delete of whoever uses it.
            return Err(Problem::new(format!("rows of {name} cannot be told apart: it has no primary key"))
                .hint(format!(
                    "give it a primary key, or ALTER TABLE {}.{} REPLICA IDENTITY FULL, or take operations = [\"insert\"]",
                    quoted(&schema),
                    quoted(&table)
                )));
        }
        keys.insert((schema, table), key);
    }
    Ok(keys)
}

/// Makes the publication, or changes it to what the trigger names.
async fn publish(
    connection: &mut Connection,
    source: &DatabaseSource,
    tables: &BTreeSet<(String, String)>,
    name: &str,
) -> Result<(), Problem> {
    let word = |one: &RowChange| match one {
        RowChange::Insert => "insert",
        RowChange::Update => "update",
        RowChange::Delete => "delete",
        RowChange::Truncate => "truncate",
    };
    let operations: BTreeSet<&str> = source.operations.iter().map(word).collect();
    let of = literal(name);
    let sql = format!(
        "SELECT array_to_string(ARRAY[CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubinsert THEN 'insert' END,
            CASE WHEN pubtruncate THEN 'truncate' END, CASE WHEN pubupdate THEN 'update' END], ','), pubviaroot,
            (SELECT json_agg(json_build_array(schemaname, tablename)) FROM pg_publication_tables WHERE pubname = {of})
         FROM pg_publication WHERE pubname = {of}"
    );
    let operations: Vec<&str> = operations.into_iter().collect();
    let listed: Vec<String> =
        tables.iter().map(|(schema, table)| format!("{}.{}", quoted(schema), quoted(table))).collect();
    let how = format!("publish = '{}', publish_via_partition_root = true", operations.join(", "));
    let listed = listed.join(", ");
    let create = format!("CREATE PUBLICATION {} FOR TABLE {listed} WITH ({how})", quoted(name));
    let change = match connection.query(&sql, ANSWER_MAX).await?.pop() {
        None => vec![create.clone()],
        Some(row) => {
            let [published, via_root, there] = &row[..] else { return Err(unexpected()) };
            let there: BTreeSet<(String, String)> = serde_json::from_str(text(there)).unwrap_or_default();
            if there == *tables && text(published) == operations.join(",") && text(via_root) == "t" {
                return Ok(());
            }
            let alter = format!("ALTER PUBLICATION {}", quoted(name));
            vec![format!("{alter} SET TABLE {listed}"), format!("{alter} SET ({how})")]
        }
    };
    for sql in change {
        connection.query(&sql, ANSWER_MAX).await.map_err(|problem| match problem.is("42501") {
            true => problem.hint(format!(
                "let the role own the tables and CREATE in the database; or as their owner: {create}"
            )),
            false => problem,
        })?;
    }
    Ok(())
}

/// Makes the slot where there is none that can be read. Tells whether it did, and why one that was there would not do.
async fn slot(
    connection: &mut Connection,
    name: &str,
    database: &str,
) -> Result<(bool, Option<String>), Problem> {
    let of = literal(name);
    let sql = format!("SELECT plugin, database, wal_status FROM pg_replication_slots WHERE slot_name = {of}");
    let mut lost = None;
    if let Some(row) = connection.query(&sql, ANSWER_MAX).await?.pop() {
        let [plugin, of, status] = &row[..] else { return Err(unexpected()) };
        if text(plugin) != "pgoutput" || text(of) != database {
            return Err(Problem::new(format!("the server has a slot '{name}' that is not this trigger's"))
                .hint(format!(
                    "drop it, if nothing reads it: SELECT pg_drop_replication_slot({});",
                    literal(name)
                )));
        }
        if text(status) != "lost" {
            return Ok((false, None));
        }
        let sql = format!("SELECT pg_drop_replication_slot({})", literal(name));
        connection.query(&sql, ANSWER_MAX).await?;
        lost = Some(
            "the server gave up the slot, since it held more of the log than max_slot_wal_keep_size"
                .to_owned(),
        );
    }
    let sql = format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", literal(name));
    connection.query(&sql, SLOT_MAX).await?;
    Ok((true, lost))
}

fn one(mut rows: Vec<Vec<Option<String>>>) -> Result<Vec<Option<String>>, Problem> {
    rows.pop().ok_or_else(unexpected)
}

fn text(cell: &Option<String>) -> &str {
    cell.as_deref().unwrap_or_default()
}

fn unexpected() -> Problem {
    Problem::new("the database's catalog answers otherwise than PostgreSQL's")
}

/// Reads a place of the log as PostgreSQL writes it.
fn lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
    Some(Lsn(u64::from(high) << 32 | u64::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_the_log_reads_as_it_was_written() {
        for place in [Lsn(0), Lsn(0x1_016B_3748), Lsn(u64::MAX)] {
            assert_eq!(lsn(&place.to_string()), Some(place));
        }
        assert_eq!(lsn("16B3748"), None);
    }
}
