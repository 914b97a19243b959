//! Usage: the journals that gateways and the node write, rolled up by the ledger; asked for through the API. In a cluster,
//! each node hands its journal over to one ledger, which all nodes have.

use std::{
    error::Error as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rouse_api::{AuditKey, AuditQuery, InvoiceFormat, UsageBy, UsageQuery, UsageReport, UsageRow, UsageSums};
use rouse_metering::{
    Ledger, Sums,
    audit::key::Key,
    ledger::{self, By, Query, Range, shared},
    price::Month,
};
use rouse_store::{
    cluster::tables::Tables,
    journal::{self, Cursor},
};
use rouse_types::{Code, Refusal, TenantId, Timestamp};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::{Config, Error, body::Lines, cluster::Shared, ledger_key, state};

/// How often the journals are read: so much a bill lags behind, unless it is asked for.
pub(crate) const INGEST_INTERVAL: Duration = Duration::from_secs(1);

/// How often one call hands over, so that it ends while calls go on.
const HANDOVERS_MAX: usize = 100;

/// Lines of an export that wait for its reader.
const LINES_READY_MAX: usize = 256;

/// The ledger, and the journal that it is made from.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    place: Place,
    journal: PathBuf,
    key: Arc<Key>,
}

/// Where the ledger is.
#[derive(Debug, Clone)]
enum Place {
    /// A file of this machine, which blocks, behind a lock; exports read on their own.
    Own { ledger: Arc<Mutex<Ledger>>, path: PathBuf },
    /// One for all nodes of a cluster; this one hands over under its name.
    Shared { tables: Tables, node: String },
}

impl Usage {
    pub(crate) async fn open(config: &Config, shared: Option<&Shared>) -> Result<Self, Error> {
        let journal = config.state.join("journal/usage");
        if let Some(shared) = shared {
            let (tables, key) = shared.ledger(config).await?;
            let place = Place::Shared { tables, node: shared.node().to_owned() };
            return Ok(Self { place, journal, key: Arc::new(key) });
        }
        let path = config.state.join("control").join("ledger.db");
        let ledger = Ledger::open(&path, config.prices.clone())?;
        let key =
            Arc::new(ledger_key::open(&config.state).map_err(Error::io("read or make the ledger's key"))?);
        let place = Place::Own { ledger: Arc::new(Mutex::new(ledger)), path };
        Ok(Self { place, journal, key })
    }

    /// Uses the ledger in a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, rouse_metering::ledger::Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = self.place.clone();
        let done = tokio::task::spawn_blocking(move || match place {
            Place::Own { ledger, .. } => work(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner)),
            Place::Shared { tables, .. } => work(&mut Ledger::view(&tables.path())?),
        });
        let failed = |error: &dyn std::error::Error| {
            tracing::error!(%error, source = ?error.source(), "the ledger failed");
            Refusal::new(Code::Internal, "the ledger failed").hint("look into the platform's log")
        };
        match done.await {
            Ok(result) => result.map_err(|error| failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Reads what was written since the last time; whether that was all.
    pub(crate) async fn ingest(&self) -> Result<bool, Refusal> {
        let journal = self.journal.clone();
        let Place::Shared { tables, node } = &self.place else {
            return self.with(move |ledger| ledger.ingest(&journal).map(|ingested| ingested.caught_up)).await;
        };
        for _ in 0..HANDOVERS_MAX {
            let (journal, node, before) = (journal.clone(), node.clone(), self.cursor().await?);
            let read = tokio::task::spawn_blocking(move || shared::Take::read(&journal, &node, before)).await;
            let failed = |error| state::io_refusal("read the usage journal", &std::io::Error::other(error));
            let read = read
                .map_err(failed)?
                .map_err(|error| state::io_refusal("read the usage journal", &std::io::Error::other(error)));
            let (take, caught_up) = read?;
            if let Some(take) = take {
                tables.write(take).await.map_err(|error| state::refusal(&error))?;
            }
            if caught_up {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads all that was written here, and sees all that other nodes have handed over.
    async fn ingest_all(&self) -> Result<(), Refusal> {
        while !self.ingest().await? {}
        match &self.place {
            Place::Own { .. } => Ok(()),
            Place::Shared { tables, .. } => tables.catch_up().await.map_err(|error| state::refusal(&error)),
        }
    }

    /// Seals the hours that are over.
    pub(crate) async fn seal(&self, now: Timestamp) -> Result<(), Refusal> {
        let key = Arc::clone(&self.key);
        let Place::Shared { tables, .. } = &self.place else {
            return self.with(move |ledger| ledger.seal(now, &key).map(drop)).await;
        };
        let seal = async {
            // Of nodes that do it at once, the later ones find nothing to seal.
            if tables.read(move |db| shared::is_due(db, now)).await? {
                tables.write(shared::Seal { now }).await?;
            }
            Ok(())
        };
        seal.await.map_err(|error| state::refusal(&error))
    }

    /// Forgets records that are old and sealed; sums and seals stay.
    pub(crate) async fn forget(&self, policy: journal::Policy, now: Timestamp) -> Result<(), Refusal> {
        match &self.place {
            Place::Own { .. } => self.with(move |ledger| ledger.forget(&policy, now).map(drop)).await,
            Place::Shared { tables, .. } => {
                let forgotten = tables.write(shared::Forget::new(&policy, now)).await;
                forgotten.map(drop).map_err(|error| state::refusal(&error))
            }
        }
    }

    /// The key that exports are signed with.
    pub(crate) fn signer(&self) -> Arc<Key> {
        Arc::clone(&self.key)
    }

    /// The key that seals are checked with.
    pub(crate) fn key(&self) -> AuditKey {
        AuditKey { algorithm: "ed25519".to_owned(), key: self.key.public().to_string() }
    }

    /// Which of the ledger is asked for.
    pub(crate) fn range(&self, tenant: TenantId, query: &AuditQuery) -> Range {
        let since = query.since.unwrap_or_default();
        Range { tenant, since, until: query.until.unwrap_or(Timestamp(u64::MAX)) }
    }

    /// Sends an export. What goes wrong in between ends it without its end line.
    pub(crate) async fn export(self, range: Range, mut to: Lines<Box<RawValue>>) {
        let (lines, mut ready) = mpsc::channel(LINES_READY_MAX);
        let path = match &self.place {
            Place::Own { path, .. } => path.clone(),
            Place::Shared { tables, .. } => tables.path(),
        };
        let reading = tokio::task::spawn_blocking(move || {
            ledger::export(&path, &self.key, &range, |line| lines.blocking_send(line).is_ok())
        });
        while let Some(line) = ready.recv().await {
            let Ok(line) = RawValue::from_string(line) else { return };
            if !to.send(&line).await {
                return;
            }
        }
        match reading.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, source = ?error.source(), "an export broke off"),
            Err(error) => tracing::error!(%error, "an export broke off"),
        }
    }

    /// How far this machine's journals were read.
    pub(crate) async fn cursor(&self) -> Result<Cursor, Refusal> {
        match &self.place {
            Place::Own { .. } => self.with(|ledger| ledger.cursor()).await,
            Place::Shared { tables, node } => {
                let node = node.clone();
                let cursor = tables.read(move |db| shared::handed(db, &node)).await;
                cursor.map_err(|error| state::refusal(&error))
            }
        }
    }

    /// Deletes what is old, has been read, and is more than is kept. Blocks.
    pub(crate) fn retain(
        &self,
        policy: &journal::Policy,
        read: &Cursor,
        now: rouse_types::Timestamp,
    ) -> Result<journal::Removed, journal::Error> {
        journal::retain(&self.journal, policy, Some(read), now)
    }

    /// What a tenant used.
    pub(crate) async fn report(&self, tenant: TenantId, query: &UsageQuery) -> Result<UsageReport, Refusal> {
        self.ingest_all().await?;
        let by = match query.by {
            UsageBy::Function => By::Function,
            UsageBy::App => By::App,
            UsageBy::Hour => By::Hour,
            UsageBy::Tenant => By::Tenant,
        };
        let asked =
            Query { by, tenant: Some(tenant), since: query.since, until: query.until, ..Query::default() };
        let report = self.with(move |ledger| ledger.query(&asked)).await?;
        let rows = report.rows.into_iter().map(|row| UsageRow {
            tenant: row.tenant,
            app: row.app,
            function: row.function,
            hour: row.hour,
            sums: sums(row.sums),
        });
        Ok(UsageReport {
            by: query.by,
            currency: report.currency,
            rows: rows.collect(),
            total: sums(report.total),
        })
    }

    /// What a tenant's calls of a month came to at list prices, as far as they are journalled.
    pub(crate) async fn spent(&self, tenant: TenantId, month: Month) -> Result<u64, Refusal> {
        self.ingest_all().await?;
        let (since, until) = month.times();
        let asked = Query {
            by: By::Tenant,
            tenant: Some(tenant),
            since: Some(since),
            until: Some(until),
            ..Query::default()
        };
        Ok(self.with(move |ledger| ledger.query(&asked)).await?.total.cost_nanos)
    }

    /// A tenant's invoice: its media type and its text.
    pub(crate) async fn invoice(
        &self,
        tenant: TenantId,
        month: Month,
        format: InvoiceFormat,
        now: Timestamp,
    ) -> Result<(&'static str, String), Refusal> {
        self.ingest_all().await?;
        let invoice = self.with(move |ledger| ledger.invoice(&tenant, month, now)).await?;
        Ok(match format {
            InvoiceFormat::Json => {
                let text = serde_json::to_string_pretty(&invoice).map_err(|error| {
                    Refusal::new(Code::Internal, format!("the invoice cannot be written: {error}"))
                })?;
                ("application/json", text + "\n")
            }
            InvoiceFormat::Csv => ("text/csv", invoice.to_csv()),
            InvoiceFormat::Focus => ("text/csv", invoice.to_focus()),
            InvoiceFormat::Html => ("text/html; charset=utf-8", invoice.to_html()),
        })
    }
}

fn sums(sums: Sums) -> UsageSums {
    let Sums { invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos } = sums;
    UsageSums { invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos }
}
