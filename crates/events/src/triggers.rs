//! The triggers of a tenant, as people see them.

use rouse_api::{TriggerInfo, TriggerState};
use rouse_types::TenantId;

use crate::{
    database::{Of, State, Status},
    dispatch::Events,
};

impl Events {
    /// What is in force, and what a trigger that went has left elsewhere.
    pub(crate) fn triggers(&self, tenant: &TenantId) -> Vec<TriggerInfo> {
        let mut databases = self.databases.all();
        let mut found = Vec::new();
        for (version, trigger) in self.table.triggers() {
            if version.tenant != *tenant {
                continue;
            }
            let of = Of {
                tenant: tenant.clone(),
                function: version.function.clone(),
                trigger: trigger.name.clone(),
            };
            found.push(info(&of, trigger.on.kind(), databases.remove(&of)));
        }
        // Those that went.
        for (of, status) in databases.into_iter().filter(|(of, _)| of.tenant == *tenant) {
            found.push(info(&of, "database", Some(status)));
        }
        found
    }
}

fn info(of: &Of, kind: &str, status: Option<Status>) -> TriggerInfo {
    let (state, problem) = match status.as_ref().map(|status| status.state.clone()) {
        Some(State::Starting) => (TriggerState::Starting, None),
        // A database trigger that was just deployed has no connection yet.
        None if kind == "database" => (TriggerState::Starting, None),
        None | Some(State::Streaming) => (TriggerState::Active, None),
        Some(State::Failing(problem)) => (TriggerState::Failing, Some(problem)),
        Some(State::Removing(problem)) => (TriggerState::Removing, problem),
    };
    TriggerInfo {
        function: of.function.clone(),
        trigger: of.trigger.clone(),
        kind: kind.to_owned(),
        state,
        since: status.as_ref().map(|status| status.since),
        position: status.and_then(|status| status.position),
        problem: problem.as_ref().map(|problem| problem.message.clone()),
        hint: problem.and_then(|problem| problem.hint),
    }
}
