//! What keeps a trigger from reading its database's changes: said so that whoever runs the database can mend it.

use std::io;

use rouse_types::Timestamp;

/// What keeps a trigger from its database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What the server called it, if it was the server (PostgreSQL 15 Documentation, Appendix A).
    pub(crate) code: Option<String>,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// What the server said, with what helps against it, for this role.
    pub(crate) fn of_server(code: &str, said: &str, user: &str) -> Self {
        let lower = said.to_ascii_lowercase();
        let hint = match code {
            "28P01" | "28000" => {
                Some("check the user and the password in the trigger's url, and the server's pg_hba.conf".to_owned())
            }
            // To be told apart from other rights, which are asked for later.
            "42501" if lower.contains("replication") || lower.contains("wal sender") => Some(format!(
                "as a superuser: ALTER ROLE {} REPLICATION; (on Amazon RDS: GRANT rds_replication TO …)",
                quoted(user)
            )),
            "3D000" => Some("name a database that is there at the end of the trigger's url".to_owned()),
            "53300" => {
                Some("raise max_wal_senders or max_connections in postgresql.conf, and restart the server".to_owned())
            }
            "53400" if lower.contains("slot") => Some(
                "raise max_replication_slots in postgresql.conf and restart the server, or drop a slot that nothing \
                 reads: SELECT slot_name, active FROM pg_replication_slots;"
                    .to_owned(),
            ),
            "55006" => Some(
                "if it stays so, another platform runs the same tenant's function against this database: deploy it \
                 there under another name"
                    .to_owned(),
            ),
            "42704" if lower.contains("publication") => Some(
                "the publication was dropped while its slot stayed: drop the slot too, and both are made anew".to_owned(),
            ),
            _ => None,
        };
        Self { message: format!("the database said: {said}"), hint, code: Some(code.to_owned()) }
    }

    /// The connection broke off, or was never there.
    pub(crate) fn broken(action: &str, error: &io::Error) -> Self {
        Self::new(format!("cannot {action}: {error}"))
    }
}

impl From<rouse_triggers::postgres::Error> for Problem {
    fn from(error: rouse_triggers::postgres::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// An identifier as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as SQL has it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// How a trigger's connection fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It connects, or makes its slot, for the first time or again.
    Starting,
    /// It reads.
    Streaming,
    /// It waits before it tries again.
    Failing(Problem),
    /// The trigger has gone, and what it left in the database is to be dropped.
    Removing(Option<Problem>),
}

/// The same, with since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) since: Timestamp,
    /// Up to where changes are safe here, as the database writes it.
    pub(crate) position: Option<String>,
}
