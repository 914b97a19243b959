//! Who drains a queue: a function whose trigger names it, or one that a mapping of AWS' face names.

use std::sync::Arc;

use rouse_api::queues::Mapping;
use rouse_store::queues::Leased;
use rouse_triggers::{pattern::Pattern, shape::Place};
use rouse_types::{
    Contract, FunctionVersion, InvocationId, TenantId, Trigger, trigger::On, trigger::QueueSource,
};

use super::shaped;
use crate::{
    decide,
    dispatch::Events,
    queue,
    record::{ACCOUNT, REGION},
};

/// Who drains a queue, and how.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(super) version: Arc<FunctionVersion>,
    /// The alias that is called; `live` otherwise.
    pub(super) alias: Option<String>,
    /// What its calls are said to come from: `queue:orders`.
    pub(super) label: String,
    /// The queue by its name in the store, and as people know it.
    pub(super) queue: String,
    pub(super) name: String,
    /// The trigger's name.
    pub(super) trigger: String,
    /// The function's name as AWS' clients gave it, if it is drained by a mapping.
    pub(super) arn: Option<String>,
    pub(super) batch_size: u32,
    pub(super) batch_window_ms: u64,
    pub(super) concurrency_max: u32,
    /// Whether an answer tells which messages failed.
    pub(super) partial: bool,
    filters: Vec<Pattern>,
}

impl Drain {
    /// Where the function believes its queue to be.
    pub(super) fn place(&self) -> Place<'_> {
        let mut parts = self.arn.as_deref().unwrap_or_default().split(':').skip(3);
        match (parts.next(), parts.next()) {
            (Some(region), Some(account)) => Place { region, account },
            _ => Place { region: REGION, account: ACCOUNT },
        }
    }

    /// Whether a message is wanted: one that no filter takes is done without a call.
    pub(super) fn wants(&self, message: &Leased) -> bool {
        if self.filters.is_empty() {
            return true;
        }
        let record = shaped::filtered(self, message);
        self.filters.iter().any(|filter| filter.matches(&record))
    }
}

/// Whether anyone drains this queue.
pub(crate) fn is_drained(events: &Events, name: &str) -> bool {
    drain(events, name).is_some()
}

/// Who drains a queue. Of several it is the first function's trigger, and a mapping only where there is no trigger.
pub(super) fn drain(events: &Events, name: &str) -> Option<Drain> {
    let (tenant, queue) = queue::of_people(name)?;
    let triggers = events.table.triggers().into_iter().filter_map(|(version, trigger)| match &trigger.on {
        On::Queue(source) if version.tenant == tenant && source.queue == queue => {
            let source = source.clone();
            Some(by_trigger(name, version, &trigger, &source))
        }
        _ => None,
    });
    let mappings = events.mappings.of(&tenant, queue);
    let mappings = mappings.iter().filter_map(|mapping| by_mapping(events, name, &tenant, mapping));
    let mut all = triggers.chain(mappings);
    let first = all.next()?;
    if let Some(other) = all.next() {
        tracing::warn!(
            queue = name, function = %first.version.function, other = %other.version.function,
            "a queue is drained by two; the first function gets its messages"
        );
    }
    Some(first)
}

fn by_trigger(name: &str, version: Arc<FunctionVersion>, trigger: &Trigger, source: &QueueSource) -> Drain {
    Drain {
        alias: None,
        label: format!("queue:{}", trigger.name),
        queue: name.to_owned(),
        name: source.queue.clone(),
        trigger: trigger.name.clone(),
        arn: None,
        batch_size: source.batch_size,
        batch_window_ms: source.batch_window_ms,
        concurrency_max: source.concurrency_max,
        // Servers and components tell by their status alone.
        partial: version.contract == Contract::Lambda,
        filters: trigger.filter.iter().filter_map(|filter| compiled(Pattern::compile(filter))).collect(),
        version,
    }
}

fn by_mapping(events: &Events, name: &str, tenant: &TenantId, mapping: &Mapping) -> Option<Drain> {
    let alias = alias(mapping);
    Some(Drain {
        version: events.table.version(tenant, &mapping.function, alias.as_deref())?,
        alias,
        label: format!("mapping:{}", mapping.id),
        queue: name.to_owned(),
        name: mapping.queue.clone(),
        trigger: mapping.id.clone(),
        arn: Some(mapping.arn.clone()),
        batch_size: mapping.batch_size,
        batch_window_ms: mapping.batch_window_ms,
        concurrency_max: mapping.concurrency_max,
        partial: mapping.partial,
        filters: mapping.filters.iter().filter_map(|text| compiled(Pattern::parse(text))).collect(),
    })
}

/// Filters are checked before they are taken: one that cannot be read is a fault of ours, and takes nothing away.
fn compiled(pattern: Result<Pattern, rouse_triggers::pattern::Error>) -> Option<Pattern> {
    pattern.inspect_err(|error| tracing::error!(%error, "a filter cannot be read")).ok()
}

/// One of the aliases, by their weights and chance.
fn alias(mapping: &Mapping) -> Option<String> {
    let sum: u64 = mapping.aliases.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut point = decide::chance(InvocationId::new(), 1) % sum.max(1);
    for (alias, weight) in &mapping.aliases {
        match point.checked_sub(u64::from(*weight)) {
            Some(rest) => point = rest,
            None => return Some(alias.clone()),
        }
    }
    None
}
