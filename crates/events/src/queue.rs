//! Names of queues in the store: what they hold and whose it is.

use rouse_types::{FunctionName, TenantId};

/// Events of functions: `fn/<tenant>/<function>`.
pub(crate) const FUNCTIONS: &str = "fn/";

/// The queue of a function's events.
pub(crate) fn function(tenant: &TenantId, function: &FunctionName) -> String {
    format!("{FUNCTIONS}{tenant}/{function}")
}

/// What a function's events lead to elsewhere, at topics and URLs: `fn/<tenant>/<function>/out`. A queue of its own, so that
/// a receiver that is away holds up no call.
pub(crate) fn out(tenant: &TenantId, function: &FunctionName) -> String {
    format!("{FUNCTIONS}{tenant}/{function}/out")
}

/// The prefix of the queues of all functions of a tenant.
pub(crate) fn functions(tenant: &TenantId) -> String {
    format!("{FUNCTIONS}{tenant}/")
}

/// Queues that people made: `q/<tenant>/<queue>`.
pub(crate) const NAMED: &str = "q/";

/// A queue that people made.
pub(crate) fn named(tenant: &TenantId, queue: &str) -> String {
    format!("{NAMED}{tenant}/{queue}")
}

/// The tenant and the name of a queue that people made.
pub(crate) fn of_people(queue: &str) -> Option<(TenantId, &str)> {
    let (tenant, name) = queue.strip_prefix(NAMED)?.split_once('/')?;
    Some((tenant.parse().ok()?, name))
}

/// The function whose events a queue holds.
pub(crate) fn of_function(queue: &str) -> Option<(TenantId, FunctionName)> {
    let (tenant, function) = queue.strip_prefix(FUNCTIONS)?.split_once('/')?;
    Some((tenant.parse().ok()?, function.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_tells_whose_events_it_holds() {
        let (tenant, name) =
            (TenantId::new("shop").expect("a name"), FunctionName::new("cart").expect("a name"));
        assert_eq!(of_function(&function(&tenant, &name)), Some((tenant, name)));
        assert_eq!(of_function("q/shop/cart"), None);
    }
}
