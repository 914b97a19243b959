//! What a month came to, kept with the terms that held at its first record; invoices from it.

use rouse_types::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{By, Error, GRACE, Ledger, Query, sql, wrap};
use crate::{
    invoice::{Agreed, Invoice, Item},
    price::{Month, PriceSheet, Quantity},
    sums::Rollup,
};

/// Since version 3. The sheet is that of the month's first billed record: a later one changes no discount of it.
pub(super) const SCHEMA: &str = "
CREATE TABLE months (
  tenant TEXT NOT NULL, month TEXT NOT NULL, sheet TEXT NOT NULL, requests INTEGER NOT NULL, mib_ms INTEGER NOT NULL,
  PRIMARY KEY (tenant, month)
) STRICT, WITHOUT ROWID;
";

pub(super) fn add(db: &Connection, rollup: &Rollup, prices: &PriceSheet) -> Result<(), rusqlite::Error> {
    let mut add = db.prepare_cached(
        "INSERT INTO months (tenant, month, sheet, requests, mib_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, mib_ms = mib_ms + excluded.mib_ms",
    )?;
    for ((tenant, hour), Quantity { requests, mib_ms }) in &rollup.billed {
        let Some(month) = Month::of(*hour) else { continue };
        let sheet = prices.of_terms(prices.terms(tenant, *hour)).to_toml();
        let (requests, mib_ms) = (sql::stored(*requests), sql::stored(*mib_ms));
        add.execute(params![tenant.as_str(), month.to_string(), sheet, requests, mib_ms])?;
    }
    Ok(())
}

impl Ledger {
    /// A tenant's invoice of a month, as far as its usage was read.
    ///
    /// # Errors
    /// What the database says; [`Error::Sum`] for sums that no invoice can hold.
    pub fn invoice(&self, tenant: &TenantId, month: Month, now: Timestamp) -> Result<Invoice, Error> {
        let wrap = wrap(&self.path);
        let (since, until) = month.times();
        let query = Query {
            by: By::Function,
            tenant: Some(tenant.clone()),
            since: Some(since),
            until: Some(until),
            ..Query::default()
        };
        // Both of one moment: another connection may not write in between, but one day this may be read elsewhere.
        let snapshot = self.connection.unchecked_transaction().map_err(&wrap)?;
        let report = self.query(&query)?;
        let agreed = agreed(&snapshot, tenant, month).map_err(&wrap)?;
        let discounts = match &agreed.sheet {
            Some(sheet) => PriceSheet::parse(sheet)?.base().discounts(agreed.quantity)?,
            None => crate::price::Discounts::default(),
        };
        let lines = report.rows.into_iter().filter_map(|row| {
            let (app, function, sums) = (row.app?, row.function?, row.sums);
            let (invocations, billed_ms, mib_ms) = (sums.invocations, sums.billed_ms, sums.mib_ms);
            Some(Item { app, function, invocations, billed_ms, mib_ms, list_nanos: sums.cost_nanos })
        });
        let closed = until + GRACE <= now;
        let head = (tenant.clone(), month, closed, report.currency);
        Ok(Invoice::new(head, lines.collect(), report.total, discounts))
    }
}

fn agreed(db: &Connection, tenant: &TenantId, month: Month) -> Result<Agreed, rusqlite::Error> {
    let mut query =
        db.prepare_cached("SELECT sheet, requests, mib_ms FROM months WHERE tenant = ?1 AND month = ?2")?;
    let found = query.query_row(params![tenant.as_str(), month.to_string()], |row| {
        let quantity = Quantity { requests: sql::figure(row, 1)?, mib_ms: sql::figure(row, 2)? };
        Ok(Agreed { quantity, sheet: Some(row.get(0)?) })
    });
    Ok(found.optional()?.unwrap_or_default())
}
