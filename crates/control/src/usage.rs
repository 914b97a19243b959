//! Usage: the journals that gateways and the node write, rolled up by the ledger; asked for through the API.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rouse_api::{UsageBy, UsageQuery, UsageReport, UsageRow, UsageSums};
use rouse_metering::{
    Ledger, PriceSheet, Sums,
    ledger::{By, Query},
};
use rouse_store::journal::{self, Cursor};
use rouse_types::{Code, Outcome, Refusal, TenantId};

use crate::{Config, Error};

/// How often the journals are read: so much a bill lags behind, unless it is asked for.
pub(crate) const INGEST_INTERVAL: Duration = Duration::from_secs(1);

/// The ledger, which blocks, behind a lock.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    ledger: Arc<Mutex<Ledger>>,
    prices: Arc<PriceSheet>,
    journal: PathBuf,
}

impl Usage {
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let ledger = Ledger::open(&config.state.join("control").join("ledger.db"), config.prices.clone())?;
        let prices = Arc::new(ledger.prices().clone());
        Ok(Self { ledger: Arc::new(Mutex::new(ledger)), prices, journal: config.state.join("journal/usage") })
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

    /// Reads what was written since the last time.
    pub(crate) async fn ingest(&self) -> Result<(), Refusal> {
        let journal = self.journal.clone();
        self.with(move |ledger| ledger.ingest(&journal).map(drop)).await
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

    /// What one invocation costs, in billionths.
    pub(crate) fn cost_nanos(&self, outcome: Outcome, billed_ms: u64, memory_mib: u32) -> Option<u64> {
        self.prices.cost_of(outcome, billed_ms, memory_mib).ok().map(|nanos| nanos.0)
    }
}

fn sums(sums: Sums) -> UsageSums {
    let Sums { invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos } = sums;
    UsageSums { invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos }
}
