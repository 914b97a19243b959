//! Questions to the ledger.

use rouse_types::{AppName, FunctionName, TenantId, Timestamp};
use rusqlite::{ToSql, params};

use super::{Error, Ledger, sql, wrap};
use crate::sums::Sums;

/// What usage is summed by, besides the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// One row for each function of each app.
    #[default]
    Function,
    /// One row for each app.
    App,
    /// One row for each hour.
    Hour,
    /// One row for each tenant.
    Tenant,
}

/// Which usage. The default is all of it, by function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// What it is summed by.
    pub by: By,
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only of this app.
    pub app: Option<AppName>,
    /// Only of this function.
    pub function: Option<FunctionName>,
    /// From the hour of this time on.
    pub since: Option<Timestamp>,
    /// Up to the hour of this time, that hour left out.
    pub until: Option<Timestamp>,
}

/// One row. Only the names that it was summed by are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Who pays.
    pub tenant: TenantId,
    /// The app.
    pub app: Option<AppName>,
    /// The function.
    pub function: Option<FunctionName>,
    /// The hour's begin.
    pub hour: Option<Timestamp>,
    /// What it came to.
    pub sums: Sums,
}

/// The answer. The rows sum to the total, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The currency of the costs, as ISO 4217 writes it.
    pub currency: String,
    /// The rows, in the order of what they were summed by.
    pub rows: Vec<Row>,
    /// All rows together.
    pub total: Sums,
}

impl Ledger {
    /// Sums of what was ingested.
    ///
    /// # Errors
    /// What the database says, also when a sum is too large for it.
    pub fn query(&self, query: &Query) -> Result<Report, Error> {
        let wrap = wrap(&self.path);
        let columns = match query.by {
            By::Function => "tenant, app, function, NULL",
            By::App => "tenant, app, NULL, NULL",
            By::Hour => "tenant, NULL, NULL, hour",
            By::Tenant => "tenant, NULL, NULL, NULL",
        };
        // SQLite's sum() of integers is exact, and an overflow is an error.
        let figures = sql::FIGURES.split(", ").map(|name| format!("sum({name})")).collect::<Vec<_>>();
        let text = format!(
            "SELECT {columns}, {} FROM rollups
             WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR app = ?2) AND (?3 IS NULL OR function = ?3)
               AND hour >= ?4 AND hour < ?5
             GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
            figures.join(", ")
        );
        let since = query.since.map_or(0, |since| sql::stored(since.hour().0));
        let until = query.until.map_or(i64::MAX, |until| sql::stored(until.hour().0));
        let tenant: Box<dyn ToSql> = Box::new(query.tenant.as_ref().map(TenantId::as_str));
        let app = query.app.as_ref().map(AppName::as_str);
        let function = query.function.as_ref().map(FunctionName::as_str);
        let mut statement = self.connection.prepare_cached(&text).map_err(&wrap)?;
        let named = |row: &rusqlite::Row<'_>, column| {
            row.get_ref(column).map(|value| value != rusqlite::types::ValueRef::Null)
        };
        let rows = statement.query_map(params![tenant, app, function, since, until], |row| {
            Ok(Row {
                tenant: sql::parsed(row, 0)?,
                app: if named(row, 1)? { Some(sql::parsed(row, 1)?) } else { None },
                function: if named(row, 2)? { Some(sql::parsed(row, 2)?) } else { None },
                hour: if named(row, 3)? { Some(Timestamp(sql::figure(row, 3)?)) } else { None },
                sums: sql::sums(row, 4)?,
            })
        });
        let rows: Vec<Row> = rows.and_then(Iterator::collect).map_err(&wrap)?;
        let total = rows.iter().try_fold(Sums::default(), |total, row| total.plus(row.sums));
        let total = total.ok_or_else(|| wrap(rusqlite::Error::IntegralValueOutOfRange(0, i64::MAX)))?;
        Ok(Report { currency: self.prices.currency().to_owned(), rows, total })
    }
}
