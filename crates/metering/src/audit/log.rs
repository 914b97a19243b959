//! The audit log: what was done by the control API, in a chain for each tenant, and one for the platform as a whole.
//!
//! ```text
//!   first(tenant) ─▶ link ─▶ link ─▶ …      a link is SHA-256 over the link before it and the action's JSON
//! ```
//!
//! An export is one JSON value a line, as the ledger's is, and ends in a signature by the same key.

use std::{collections::BTreeMap, io::BufRead};

use ring::digest::{Context, SHA256};
use rouse_types::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    End, Link,
    key::{Key, Public},
    lines::{Kind, Reader, Whole},
    verify::Error,
};

/// The format of exports, as their first line says it.
pub const FORMAT: u32 = 1;
/// What an action changed is small.
const KIND: Kind = Kind { name: "an audit log", writer: "the platform", line_bytes_max: 1 << 20 };

/// What someone did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Counted from 0, without gaps.
    pub number: u64,
    /// When it was begun.
    pub time: Timestamp,
    /// Who, such as `operator` or `key <id>`.
    pub who: String,
    /// From where: an address, or `this machine`.
    pub from: String,
    /// What: an `operationId` of the control API, or an operation of AWS behind its service, such as `sqs:CreateQueue`.
    pub operation: String,
    /// To what: the names in the operation's path.
    pub of: BTreeMap<String, String>,
    /// What came of it.
    pub outcome: Outcome,
    /// What stood before, where that is small and no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// What stood after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// What came of an action. What was refused changed nothing and is no action, but for who wanted to come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// Someone who wanted to sign in was not let in.
    Refused,
    /// The platform failed while it did it: some of it may be done.
    Failed,
    /// The platform ended while it did it, so that nobody saw what came of it.
    Unknown,
}

impl Action {
    /// Its JSON: what is kept and hashed.
    ///
    /// # Errors
    /// Never: these are plain fields.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// Where a chain begins: a tenant's, or without one the platform's.
#[must_use]
pub fn first(tenant: Option<&TenantId>) -> Link {
    let mut hash = Context::new(&SHA256);
    hash.update(b"rouse-audit-log-1\0");
    hash.update(tenant.map_or("", TenantId::as_str).as_bytes());
    hash.into()
}

/// The link of the action that comes next, by its JSON.
#[must_use]
pub fn next(link: &Link, json: &str) -> Link {
    let mut hash = Context::new(&SHA256);
    hash.update(&link.0);
    hash.update(json.as_bytes());
    hash.into()
}

/// One line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Log(Log),
    /// An action.
    Action(Box<Entry>),
    /// The last.
    End(End),
}

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose; the platform's own, if no tenant's.
    pub tenant: Option<TenantId>,
    /// The public key that signed.
    pub key: Public,
}

/// An action, with its link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What was done.
    pub action: Action,
    /// Its link.
    pub link: Link,
}

/// Writes an export, line by line.
#[derive(Debug)]
pub struct Writer(Whole);

impl Writer {
    /// Begins one; gives its first line.
    ///
    /// # Errors
    /// Never: these are plain fields.
    pub fn begin(tenant: Option<&TenantId>, key: &Key) -> Result<(Self, String), serde_json::Error> {
        let log = Log { format: FORMAT, tenant: tenant.cloned(), key: key.public() };
        let mut writer = Self(Whole::new());
        let line = writer.line(&Line::Log(log))?;
        Ok((writer, line))
    }

    /// The line of an action.
    ///
    /// # Errors
    /// Never: these are plain fields.
    pub fn action(&mut self, entry: Entry) -> Result<String, serde_json::Error> {
        self.line(&Line::Action(Box::new(entry)))
    }

    fn line(&mut self, line: &Line) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(line)?;
        self.0.add(text.as_bytes());
        Ok(text)
    }

    /// The last line, which signs all before it.
    ///
    /// # Errors
    /// Never: these are plain fields.
    pub fn end(self, key: &Key) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Line::End(self.0.end(key)))
    }
}

/// What a whole export came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it is of, and who signed.
    pub log: Log,
    /// Actions.
    pub actions: u64,
}

/// Checks an export: each action against its link and its number, and the whole against the signature at its end. With
/// `key`, that it was this one which signed.
///
/// # Errors
/// The first line that is wrong.
pub fn verify(export: impl BufRead, key: Option<&Public>) -> Result<Verified, Error> {
    let mut lines = Reader::new(export, KIND);
    let mut found: Option<(Verified, Link)> = None;
    loop {
        match (&mut found, lines.next()?) {
            (None, Line::Log(log)) => {
                if log.format != FORMAT {
                    let what =
                        format!("the log is of format {}, and this release reads {FORMAT}", log.format);
                    return Err(lines.wrong(what));
                }
                if let Some(key) = key.filter(|key| **key != log.key) {
                    return Err(lines.wrong(format!("the key {} signed, and not {key}", log.key)));
                }
                let link = first(log.tenant.as_ref());
                found = Some((Verified { log, actions: 0 }, link));
            }
            (Some((verified, link)), Line::Action(entry)) => {
                if entry.action.number != verified.actions {
                    return Err(lines.wrong(format!("action {} is missing", verified.actions)));
                }
                let json = entry.action.to_json().map_err(|error| lines.wrong(error.to_string()))?;
                *link = next(link, &json);
                if *link != entry.link {
                    return Err(lines.wrong("the link is not that of this action after the one before it"));
                }
                verified.actions += 1;
            }
            (Some((verified, _)), Line::End(end)) => {
                lines.finish(&end, &verified.log.key)?;
                return Ok(verified.clone());
            }
            _ => return Err(lines.wrong("the export has one first line, and it begins with it")),
        }
    }
}
