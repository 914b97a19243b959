//! What a mapping says, checked, and as the process that keeps queues is told of it. Pure.

use rouse_api::queues;
use rouse_triggers::pattern::Pattern;
use serde_json::Value;

use crate::{
    error::AwsError,
    lambda::config::platform_alias,
    names::{self, LATEST, Scope},
    state::Function,
};

/// Batches at once where nothing is said: as many as AWS begins with.
const CONCURRENCY: u32 = 5;
/// Messages of a batch without a window to gather them in, and of a FIFO queue.
const BATCH_PLAIN_MAX: u64 = 10;
/// Messages of a batch at all.
const BATCH_MAX: u64 = 1_000;
const WINDOW_MAX: u64 = 300;
/// Patterns of one mapping.
const FILTERS_MAX: usize = 10;
/// An alias' weights are counted in this many parts.
const PARTS: u32 = 10_000;

fn patterns(mapping: &Value) -> Vec<String> {
    let filters = mapping["FilterCriteria"]["Filters"].as_array().into_iter().flatten();
    filters.filter_map(|filter| filter["Pattern"].as_str()).map(str::to_owned).collect()
}

/// Refuses what cannot be done.
pub(super) fn settings(mapping: &Value) -> Result<(), AwsError> {
    let source = mapping["EventSourceArn"].as_str().unwrap_or_default();
    let fifo = source.ends_with(".fifo");
    let batch = mapping["BatchSize"].as_u64().unwrap_or(10);
    let window = mapping["MaximumBatchingWindowInSeconds"].as_u64().unwrap_or(0);
    let bad = |what: &str| Err(AwsError::invalid(what));
    if fifo && batch > BATCH_PLAIN_MAX {
        return bad("Maximum batch size for FIFO queues is 10.");
    }
    if fifo && window > 0 {
        return bad("Batching window is not supported for FIFO queues.");
    }
    if batch > BATCH_PLAIN_MAX && window == 0 {
        return bad(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        );
    }
    if batch > BATCH_MAX {
        return bad("A batch on this platform has at most 1000 messages.");
    }
    if window > WINDOW_MAX {
        return bad("The batching window is at most 300 seconds.");
    }
    let filters = patterns(mapping);
    if filters.len() > FILTERS_MAX {
        return bad("Number of filters is more than the allowed maximum of 10.");
    }
    for filter in filters {
        if Pattern::parse(&filter).is_err() {
            return bad("Invalid filter pattern definition.");
        }
    }
    if mapping["DestinationConfig"]["OnFailure"]["Destination"].is_string() {
        return bad("A queue's mapping has no destinations: set the queue's RedrivePolicy.");
    }
    Ok(())
}

/// The mapping of a function that is there.
pub(super) fn ours(scope: &Scope, id: &str, mapping: &Value, function: &Function) -> Option<queues::Mapping> {
    let arn = mapping["FunctionArn"].as_str()?;
    let parts: Vec<&str> = arn.split(':').collect();
    let number =
        |value: &Value, usual: u32| value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(usual);
    let mut report = mapping["FunctionResponseTypes"].as_array().into_iter().flatten();
    let window = mapping["MaximumBatchingWindowInSeconds"].as_u64().unwrap_or(0);
    Some(queues::Mapping {
        id: id.to_owned(),
        tenant: scope.tenant.clone(),
        queue: scope.queue_of(mapping["EventSourceArn"].as_str()?)?.to_owned(),
        function: names::platform(parts.get(6)?),
        aliases: aliases(function, parts.get(7).copied().unwrap_or(LATEST)),
        arn: arn.to_owned(),
        batch_size: number(&mapping["BatchSize"], 10),
        batch_window_ms: window * 1_000,
        concurrency_max: number(&mapping["ScalingConfig"]["MaximumConcurrency"], CONCURRENCY),
        partial: report.any(|kind| kind == "ReportBatchItemFailures"),
        filters: patterns(mapping),
    })
}

/// The platform's aliases that a qualifier means, with their shares.
fn aliases(function: &Function, qualifier: &str) -> Vec<(String, u32)> {
    let Some(alias) = function.aliases.get(qualifier) else {
        return vec![(platform_alias(qualifier), PARTS)];
    };
    let share = |weight: &Value| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between none and all parts"
        )]
        let parts = (weight.as_f64().unwrap_or_default().clamp(0.0, 1.0) * f64::from(PARTS)) as u32;
        parts
    };
    let mut all: Vec<_> =
        alias.weights.iter().map(|(version, weight)| (platform_alias(version), share(weight))).collect();
    let others: u32 = all.iter().map(|(_, share)| *share).sum();
    all.push((platform_alias(&alias.version), PARTS.saturating_sub(others)));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::Alias;

    const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:jobs";

    #[test]
    fn what_a_queue_cannot_give_is_refused() {
        let of = |mut mapping: Value| {
            if mapping["EventSourceArn"].is_null() {
                mapping["EventSourceArn"] = QUEUE.into();
            }
            settings(&mapping).is_ok()
        };
        assert!(of(json!({ "BatchSize": 100, "MaximumBatchingWindowInSeconds": 1 })));
        assert!(of(json!({ "FilterCriteria": { "Filters": [{ "Pattern": r#"{"body": {"a": [1]}}"# }] } })));
        for wrong in [
            json!({ "BatchSize": 11 }),
            json!({ "BatchSize": 11, "MaximumBatchingWindowInSeconds": 1, "EventSourceArn": format!("{QUEUE}.fifo") }),
            json!({ "MaximumBatchingWindowInSeconds": 1, "EventSourceArn": format!("{QUEUE}.fifo") }),
            json!({ "FilterCriteria": { "Filters": [{ "Pattern": "{" }] } }),
            json!({ "DestinationConfig": { "OnFailure": { "Destination": QUEUE } } }),
        ] {
            assert!(!of(wrong.clone()), "{wrong}");
        }
    }

    #[test]
    fn an_alias_shares_its_batches_by_weight() {
        let mut function = Function::default();
        let weights = [("2".to_owned(), json!(0.25))].into();
        function
            .aliases
            .insert("live".to_owned(), Alias { version: "1".to_owned(), weights, ..Alias::default() });
        let share = |name: &str, parts| (name.to_owned(), parts);
        assert_eq!(aliases(&function, "live"), [share("v-2", 2_500), share("v-1", 7_500)]);
        assert_eq!(aliases(&function, LATEST), [share("latest", PARTS)]);
        let scope = Scope {
            tenant: "default".parse().expect("a tenant"),
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let mapping = json!({
            "EventSourceArn": QUEUE, "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:F:1",
            "ScalingConfig": { "MaximumConcurrency": 2 }, "FunctionResponseTypes": ["ReportBatchItemFailures"],
        });
        let ours = ours(&scope, "id", &mapping, &function).expect("a mapping");
        assert_eq!((ours.queue.as_str(), ours.concurrency_max, ours.partial), ("jobs", 2, true));
        assert_eq!((ours.function, ours.aliases), (names::platform("F"), vec![share("v-1", PARTS)]));
    }
}
