//! Checks an export, from its text alone.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
};

use rouse_types::{TenantId, Timestamp, Usage};

use super::{
    Begin, Chain, Entry, FORMAT, Line, Link, Seal, Sealed,
    key::Public,
    lines::{Kind, Reader},
};

/// The longest line is a seal of ten thousand writers.
const KIND: Kind = Kind { name: "an export", writer: "the ledger", line_bytes_max: 2 << 20 };

/// What a whole export came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it is of, and who signed.
    pub begin: Begin,
    /// Records.
    pub records: u64,
    /// Those of them whose hour has not been sealed yet: only the export's own signature holds them.
    pub unsealed: u64,
    /// Seals.
    pub seals: u64,
    /// What the records cost, in billionths of the currency.
    pub cost_nanos: u128,
}

/// Why an export is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first line that is wrong, counted from 1.
    #[error("line {line}: {reason}")]
    Wrong {
        /// Which.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be read.
    #[error("cannot read the export")]
    Io(#[from] io::Error),
}

/// Checks an export: each record against its link, each part against its seal, each seal against the one before it and
/// its signature, and the whole against the signature at its end. With `key`, that it was this one which signed.
///
/// # Errors
/// The first line that is wrong.
pub fn verify(export: impl BufRead, key: Option<&Public>) -> Result<Verified, Error> {
    let mut lines = Reader::new(export, KIND);
    let mut check: Option<Check> = None;
    loop {
        let parsed: Line = lines.next()?;
        let wrong = |reason: String| lines.wrong(reason);
        match (&mut check, parsed) {
            (None, Line::Begin(begin)) => check = Some(Check::new(begin, key).map_err(wrong)?),
            (None, _) => return Err(lines.wrong("an export begins with its begin line")),
            (Some(check), Line::Record(entry)) => check.record(*entry).map_err(wrong)?,
            (Some(check), Line::Seal(sealed)) => check.seal(&sealed).map_err(wrong)?,
            (Some(_), Line::Begin(_)) => return Err(lines.wrong("an export has one begin line")),
            (Some(check), Line::End(end)) => {
                check.verified.unsealed += check.records;
                lines.finish(&end, &check.verified.begin.key)?;
                return Ok(check.verified.clone());
            }
        }
    }
}

/// What was read so far.
struct Check {
    verified: Verified,
    /// The last seal's number and digest.
    last: Option<(u64, Link)>,
    /// The part whose records are being read.
    part: Option<(Timestamp, u64)>,
    /// Its chains by writer: records and head.
    chains: BTreeMap<String, (u64, Link)>,
    writer: String,
    records: u64,
    cost_nanos: u64,
}

impl Check {
    fn new(begin: Begin, key: Option<&Public>) -> Result<Self, String> {
        if begin.format != FORMAT {
            return Err(format!("the export is of format {}, and this release reads {FORMAT}", begin.format));
        }
        if let Some(key) = key.filter(|key| **key != begin.key) {
            return Err(format!("the key {} signed, and not {key}", begin.key));
        }
        Ok(Self {
            verified: Verified { begin, records: 0, unsealed: 0, seals: 0, cost_nanos: 0 },
            last: None,
            part: None,
            chains: BTreeMap::new(),
            writer: String::new(),
            records: 0,
            cost_nanos: 0,
        })
    }

    fn tenant(&self) -> &TenantId {
        &self.verified.begin.tenant
    }

    fn wanted(&self, hour: Timestamp) -> bool {
        (self.verified.begin.since..self.verified.begin.until).contains(&hour)
    }

    fn record(&mut self, entry: Entry) -> Result<(), String> {
        let Entry { hour, part, writer, cost_nanos, bytes, usage, link } = entry;
        match Usage::read(&bytes.0) {
            Ok(same) if same == usage => {}
            Ok(_) => return Err("the readable record is not the one of the bytes".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        if usage.tenant != *self.tenant() || usage.started.hour() != hour || !self.wanted(hour) {
            return Err("the record belongs to another tenant or hour".to_owned());
        }
        if self.part != Some((hour, part)) {
            // Only parts that have no seal yet, which come last, may follow each other.
            self.verified.unsealed += self.records;
            (self.records, self.cost_nanos) = (0, 0);
            self.chains.clear();
            self.writer.clear();
            self.part = Some((hour, part));
        }
        if writer < self.writer {
            return Err("the records' writers are out of order".to_owned());
        }
        self.writer.clone_from(&writer);
        let first = || (0, Link::first(&self.verified.begin.tenant, hour, part, &writer));
        let (count, head) = self.chains.get(&writer).copied().unwrap_or_else(first);
        if head.next(cost_nanos, &bytes.0) != link {
            return Err("the link is not that of this record after the one before it".to_owned());
        }
        self.chains.insert(writer, (count + 1, link));
        self.records += 1;
        self.verified.records += 1;
        self.verified.cost_nanos += u128::from(cost_nanos);
        self.cost_nanos = self.cost_nanos.checked_add(cost_nanos).ok_or("the costs are too large")?;
        Ok(())
    }

    fn seal(&mut self, sealed: &Sealed) -> Result<(), String> {
        let Sealed { body, signature } = sealed;
        let json = body.to_json().map_err(|error| error.to_string())?;
        if !self.verified.begin.key.verifies(&Seal::message(&json), &signature.0) {
            return Err("the seal's signature is not of the export's key".to_owned());
        }
        if self.verified.unsealed > 0 {
            return Err("a seal stands after records that have none".to_owned());
        }
        if body.tenant != *self.tenant() {
            return Err("the seal is another tenant's".to_owned());
        }
        match self.last {
            Some((number, digest)) if body.number != number + 1 || body.previous != Some(digest) => {
                return Err("the seal does not follow the one before it".to_owned());
            }
            None if (body.number == 0) != body.previous.is_none() => {
                return Err("the first seal alone has none before it".to_owned());
            }
            _ => {}
        }
        if self.wanted(body.hour) {
            let same = |chain: &Chain| self.chains.get(&chain.writer) == Some(&(chain.records, chain.head));
            let whole = self.part == Some((body.hour, body.part))
                && body.chains.len() == self.chains.len()
                && body.chains.iter().all(same)
                && (body.records, body.cost_nanos) == (self.records, self.cost_nanos);
            if !whole {
                return Err("the records before the seal are not those that it holds".to_owned());
            }
        } else if self.part.is_some() {
            return Err("the records before the seal are of another hour".to_owned());
        }
        self.last = Some((body.number, Seal::digest(&json)));
        self.verified.seals += 1;
        self.part = None;
        self.chains.clear();
        self.writer.clear();
        (self.records, self.cost_nanos) = (0, 0);
        Ok(())
    }
}
