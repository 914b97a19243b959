//! The leave to run one call: what it takes of its tenant's quotas, given back when it ends.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rouse_types::{
    Clock, Code, FunctionName, FunctionVersion, Pricing, Quotas, Refusal, TenantId, Timestamp, Usage,
    quota::month,
};

use crate::{
    budget::Short,
    file,
    rate::{Rate, next},
    table::{Error, Gauge, Row, Table},
};

/// How long a call waits for how its tenant's month stands to become known: control reads the ledger first when it starts.
const UNKNOWN_MAX: Duration = Duration::from_secs(5);
/// How often it looks.
const UNKNOWN_POLL: Duration = Duration::from_millis(5);

/// The quotas of all tenants, as one process sees them.
#[derive(Debug)]
pub struct Quota {
    state: PathBuf,
    table: Arc<Table>,
    column: usize,
    clock: Arc<dyn Clock>,
    /// Whether anything is limited at all: most platforms pay for this one look.
    any: AtomicBool,
    tenants: Mutex<HashMap<TenantId, Arc<Tenant>>>,
}

/// What holds for one tenant.
#[derive(Debug)]
struct Tenant {
    row: u32,
    rate: Option<Rate>,
    /// Calls at once outside of reserved shares.
    common: Option<u32>,
    memory_mib: Option<u32>,
    functions: HashMap<FunctionName, Function>,
    capped: bool,
}

#[derive(Debug)]
struct Function {
    row: u32,
    rate: Option<Rate>,
    reserved: u32,
}

/// What a call holds. Dropping it gives it back.
#[derive(Debug, Default)]
#[must_use]
pub struct Leave {
    _held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    table: Arc<Table>,
    column: usize,
    tenant: u32,
    calls: Option<Row>,
    memory_mib: u64,
    /// A month, and what was set aside in it.
    reserved: Option<(u64, u64)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Self { table, column, tenant, calls, memory_mib, reserved } = self;
        if let Some(row) = calls {
            table.give(*row, Gauge::Calls, *column, 1);
        }
        if *memory_mib > 0 {
            table.give(Row::Tenant(*tenant), Gauge::Memory, *column, *memory_mib);
        }
        if let Some((month, worst)) = *reserved {
            table.release(*tenant, *column, month, worst);
        }
    }
}

impl Quota {
    /// What the process with this column sees: a gateway's number, or [`crate::NODE`]. What a predecessor held is free.
    ///
    /// # Errors
    /// The shared table cannot be mapped. That what is in force cannot be read is logged: nothing is limited then.
    pub fn open(state: &Path, column: usize, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let table = Arc::new(Table::open(&state.join("run").join("quotas"))?);
        table.begin(column);
        let (any, tenants) = (AtomicBool::new(false), Mutex::default());
        let quota = Self { state: state.to_owned(), table, column, clock, any, tenants };
        if let Err(error) = quota.reload() {
            tracing::error!(%error, "what limits tenants cannot be read");
        }
        Ok(quota)
    }

    /// Reads again what is in force.
    ///
    /// # Errors
    /// It cannot be read; what was in force before stays.
    pub fn reload(&self) -> io::Result<()> {
        self.apply(file::read(&self.state)?);
        Ok(())
    }

    fn apply(&self, quotas: Quotas) {
        let tenants = quotas.into_iter().map(|(name, quota)| {
            let limits = &quota.limits;
            let functions = quota.functions.iter().filter_map(|(name, &row)| {
                let own = limits.functions.get(name)?;
                let rate = Rate::of(own.requests_per_second, own.burst);
                let reserved = own.concurrency_reserved.unwrap_or_default();
                Some((name.clone(), Function { row, rate, reserved }))
            });
            let tenant = Tenant {
                row: quota.row,
                rate: Rate::of(limits.requests_per_second, limits.burst),
                common: limits.concurrency_common(),
                memory_mib: limits.memory_mib,
                functions: functions.collect(),
                capped: quota.capped,
            };
            (name, Arc::new(tenant))
        });
        let tenants: HashMap<_, _> = tenants.collect();
        let mut known = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(!tenants.is_empty(), Ordering::Release);
        *known = tenants;
    }

    fn tenant(&self, name: &TenantId) -> Option<Arc<Tenant>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Counts a call against the rates of its function and its tenant.
    ///
    /// # Errors
    /// It comes too soon.
    pub fn rate(&self, version: &FunctionVersion) -> Result<(), Refusal> {
        let Some(tenant) = self.tenant(&version.tenant) else { return Ok(()) };
        let now = self.clock.now().0.saturating_mul(1_000);
        if let Some((row, rate)) =
            tenant.functions.get(&version.function).and_then(|f| Some((f.row, f.rate?)))
        {
            self.pass(Row::Function(row), rate, now)
                .map_err(|wait| too_soon(&format!("function '{}'", version.function), rate, wait))?;
        }
        if let Some(rate) = tenant.rate {
            self.pass(Row::Tenant(tenant.row), rate, now)
                .map_err(|wait| too_soon(&format!("tenant '{}'", version.tenant), rate, wait))?;
        }
        Ok(())
    }

    /// How long to wait, in nanoseconds, when a call may not pass.
    fn pass(&self, row: Row, rate: Rate, now: u64) -> Result<(), u64> {
        let Some(due) = self.table.due(row) else { return Ok(()) };
        let mut wait = 0;
        let passed = due.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |due| {
            next(due, now, rate).inspect_err(|&more| wait = more).ok()
        });
        passed.map(drop).map_err(|_| wait)
    }

    /// Takes leave for a call of `version` that arrived at `at`: a place, memory, and of a capped month what it may cost
    /// at most.
    ///
    /// # Errors
    /// One of them is used up; nothing is held then.
    pub async fn take(
        &self,
        version: &FunctionVersion,
        at: Timestamp,
        pricing: &Pricing,
    ) -> Result<Leave, Refusal> {
        let Some(tenant) = self.tenant(&version.tenant) else { return Ok(Leave::default()) };
        let mut held = Held {
            table: Arc::clone(&self.table),
            column: self.column,
            tenant: tenant.row,
            calls: None,
            memory_mib: 0,
            reserved: None,
        };
        if let Some(common) = tenant.common {
            held.calls = Some(self.place(&tenant, version, common)?);
        }
        if let Some(max) = tenant.memory_mib {
            let wanted = u64::from(version.limits.memory_mib);
            let row = Row::Tenant(tenant.row);
            if !self.table.take(row, Gauge::Memory, self.column, wanted, u64::from(max)) {
                return Err(no_memory(version, max));
            }
            held.memory_mib = wanted;
        }
        if tenant.capped {
            let worst = pricing.worst_nanos(version, at);
            let month = month(at);
            self.reserve(tenant.row, month, worst).await.map_err(|short| refusal(version, short))?;
            held.reserved = Some((month, worst));
        }
        Ok(Leave { _held: Some(held) })
    }

    /// A place in the function's own share, or in what all share.
    fn place(&self, tenant: &Tenant, version: &FunctionVersion, common: u32) -> Result<Row, Refusal> {
        let take = |row, max: u32| self.table.take(row, Gauge::Calls, self.column, 1, u64::from(max));
        let own = tenant.functions.get(&version.function).filter(|function| function.reserved > 0);
        if let Some(own) = own.filter(|own| take(Row::Function(own.row), own.reserved)) {
            return Ok(Row::Function(own.row));
        }
        if take(Row::Tenant(tenant.row), common) {
            return Ok(Row::Tenant(tenant.row));
        }
        let what = format!(
            "tenant '{}' has as many calls under way as it is granted for function '{}'",
            version.tenant, version.function
        );
        Err(Refusal::new(Code::QuotaExceeded, what)
            .hint("call again later, or ask the operator for more `concurrency`: `rouse limits show`")
            .retry_after(Duration::from_secs(1)))
    }

    async fn reserve(&self, row: u32, month: u64, worst: u64) -> Result<(), Short> {
        let mut waited = Duration::ZERO;
        loop {
            match self.table.reserve(row, self.column, month, worst) {
                Err(Short::Unknown) if waited < UNKNOWN_MAX => {
                    tokio::time::sleep(UNKNOWN_POLL).await;
                    waited += UNKNOWN_POLL;
                }
                result => return result,
            }
        }
    }

    /// Counts what a call came to against its tenant's cap. To be called before its record is written, while its leave
    /// is still held: a process that is killed in between has counted too much, never too little.
    pub fn settle(&self, usage: &Usage, cost: impl FnOnce() -> Option<u64>) {
        if let Some(tenant) = self.tenant(&usage.tenant).filter(|tenant| tenant.capped) {
            let cost = cost().unwrap_or_default();
            self.table.spend(tenant.row, self.column, month(usage.started), cost);
        }
    }
}

fn too_soon(whose: &str, rate: Rate, wait_nanos: u64) -> Refusal {
    let what = format!("{whose} is granted {} calls a second, {} at once", rate.per_second, rate.burst);
    Refusal::new(Code::QuotaExceeded, what)
        .hint("call less often, or ask the operator for more: `rouse limits show`")
        .retry_after(Duration::from_nanos(wait_nanos).max(Duration::from_millis(1)))
}

fn no_memory(version: &FunctionVersion, max: u32) -> Refusal {
    let what = format!(
        "calls of tenant '{}' may hold {max} MiB at once, which leaves no room for the {} MiB of function '{}'",
        version.tenant, version.limits.memory_mib, version.function
    );
    Refusal::new(Code::QuotaExceeded, what)
        .hint("call again later, lower `memory`, or ask the operator for more `memory_mib`")
        .retry_after(Duration::from_secs(1))
}

fn refusal(version: &FunctionVersion, short: Short) -> Refusal {
    let tenant = &version.tenant;
    match short {
        Short::Exhausted => Refusal::new(
            Code::BudgetExhausted,
            format!(
                "this month's budget of tenant '{tenant}' has no room for a call of function '{}'",
                version.function
            ),
        )
        .hint("the operator raises it with `rouse budget set`; or lower the function's `timeout` or `memory`: a call begins only if \
               all that it may cost is left"),
        Short::Reserved => Refusal::new(
            Code::BudgetReserved,
            format!("what is left of this month's budget of tenant '{tenant}' is set aside for calls under way"),
        )
        .hint("call again when some have ended; the operator raises it with `rouse budget set`")
        .retry_after(Duration::from_secs(1)),
        Short::Unknown => Refusal::new(
            Code::BudgetUnknown,
            format!("how much is left of this month's budget of tenant '{tenant}' is not known yet"),
        )
        .hint("call again: the control process reads it when it starts")
        .retry_after(Duration::from_secs(2)),
    }
}
