//! Usage: the journals that gateways and the node write, rolled up by the ledger; asked for through the API.

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
    ledger::{self, By, Query, Range},
    price::Month,
};
use rouse_store::journal::{self, Cursor};
use rouse_types::{Code, Refusal, TenantId, Timestamp};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::{Config, Error, body::Lines, ledger_key};

/// How often the journals are read: so much a bill lags behind, unless it is asked for.
pub(crate) const INGEST_INTERVAL: Duration = Duration::from_secs(1);

/// Lines of an export that wait for its reader.
const LINES_READY_MAX: usize = 256;

/// The ledger, which blocks, behind a lock.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    ledger: Arc<Mutex<Ledger>>,
    journal: PathBuf,
    /// The ledger's file: exports read on their own.
    path: PathBuf,
    key: Arc<Key>,
}

impl Usage {
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let path = config.state.join("control").join("ledger.db");
        let ledger = Ledger::open(&path, config.prices.clone())?;
        let key =
            Arc::new(ledger_key::open(&config.state).map_err(Error::io("read or make the ledger's key"))?);
        let journal = config.state.join("journal/usage");
        Ok(Self { ledger: Arc::new(Mutex::new(ledger)), journal, path, key })
    }

    /// Uses the ledger in a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, rouse_metering::ledger::Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let ledger = Arc::clone(&self.ledger);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.with(move |ledger| ledger.ingest(&journal).map(|ingested| ingested.caught_up)).await
    }

    /// Seals the hours that are over.
    pub(crate) async fn seal(&self, now: Timestamp) -> Result<(), Refusal> {
        let key = Arc::clone(&self.key);
        self.with(move |ledger| ledger.seal(now, &key).map(drop)).await
    }

    /// Forgets records that are old and sealed; sums and seals stay.
    pub(crate) async fn forget(&self, policy: journal::Policy, now: Timestamp) -> Result<(), Refusal> {
        self.with(move |ledger| ledger.forget(&policy, now).map(drop)).await
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
        let reading = tokio::task::spawn_blocking(move || {
            ledger::export(&self.path, &self.key, &range, |line| lines.blocking_send(line).is_ok())
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

    /// How far the journals were read.
    pub(crate) async fn cursor(&self) -> Result<Cursor, Refusal> {
        self.with(|ledger| ledger.cursor()).await
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
        self.ingest().await?;
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
        while !self.ingest().await? {}
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
        while !self.ingest().await? {}
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
