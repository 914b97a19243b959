//! Budgets: how months stand, for gateways and the node to go by; and alerts, each told once a month.
//!
//! A hard budget's month is opened in the shared table once the whole journal was read, when the platform starts and when
//! the budget is set; from then on those who run code count by themselves. The next month is opened a day after this one
//! began, in the place of the one before: by then no call of that runs any more.
//!
//! | namespace | key | what |
//! |---|---|---|
//! | `alerts` | `<tenant>` | [`Alerted`] |

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use rouse_api::{
    BudgetStatus,
    operation::{Id, path},
};
use rouse_metering::price::{Month, Nanos};
use rouse_store::records::Expect;
use rouse_types::{Budget, Code, Refusal, TenantId, Timestamp, quota::month};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    control::Control,
    quota::Kept,
    state::{self},
};

/// How often months are looked at: so much an alert lags behind.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a month's begin the place of the one before is used for the next. Calls run for an hour at most.
const BANK_FREE: Duration = Duration::from_secs(24 * 3_600);
/// How often an alert that nobody takes is tried: with the pauses below for a good quarter of an hour.
const TRIES_MAX: u32 = 10;
const PAUSE_MAX: Duration = Duration::from_secs(128);

const ALERTS: &str = "alerts";
/// A `CloudEvent`'s type, and where it comes from.
const EVENT_TYPE: &str = "dev.rouse.budget.alert";

/// What was told of a tenant's budget.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Alerted {
    /// The number of the month that it is about.
    month: u64,
    told: Vec<u8>,
    /// How often the next was tried in vain, and when it is tried again.
    tries: u32,
    again: Timestamp,
}

/// The thresholds that are reached and were not told of, least first. Pure.
fn due(budget: &Budget, spent: u64, told: &[u8]) -> Vec<u8> {
    let reached = |alert: u8| u128::from(spent) * 100 >= u128::from(budget.month_nanos) * u128::from(alert);
    let mut due: Vec<u8> =
        budget.alerts.iter().copied().filter(|&alert| reached(alert) && !told.contains(&alert)).collect();
    due.sort_unstable();
    due.dedup();
    due
}

/// Keeps months open and tells of alerts.
pub(crate) async fn keep(control: Arc<Control>, stop: CancellationToken) {
    loop {
        // Logged where it failed; the next turn tries again.
        if let Err(refusal) = control.open_caps().await {
            tracing::error!(%refusal, "how budgets stand cannot be found out: their tenants' calls wait");
        }
        if let Err(refusal) = control.tell_alerts().await {
            tracing::error!(%refusal, "alerts of budgets cannot be told");
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn no_time() -> Refusal {
    Refusal::new(Code::Internal, "the clock shows no month").hint("set the machine's clock")
}

impl Control {
    /// Opens the months of hard budgets that are not, and puts their caps right.
    pub(crate) async fn open_caps(&self) -> Result<(), Refusal> {
        let _lock = self.locks.hold("caps".to_owned()).await;
        let now = self.config.clock.now();
        let this = Month::of(now).ok_or_else(no_time)?;
        let (begin, end) = this.times();
        for (tenant, kept) in self.kept_quotas().await? {
            let Some(budget) = kept.budget.as_ref().filter(|budget| budget.hard) else { continue };
            self.open_cap(&tenant, &kept, this, begin, budget.month_nanos).await?;
            if now.since(begin) >= BANK_FREE
                && let Some(next) = Month::of(end)
            {
                self.open_cap(&tenant, &kept, next, end, budget.month_nanos).await?;
            }
        }
        Ok(())
    }

    async fn open_cap(
        &self,
        tenant: &TenantId,
        kept: &Kept,
        of: Month,
        begin: Timestamp,
        cap: u64,
    ) -> Result<(), Refusal> {
        let (table, number) = (&self.quotas.table, month(begin));
        if table.set_cap(kept.row, number, cap) {
            return Ok(());
        }
        // In this order: what is counted in between is counted twice, never not at all.
        let seen = table.spent(kept.row, number);
        let known = self.usage.spent(tenant.clone(), of).await?;
        table.open_month(kept.row, number, known, seen, cap);
        tracing::info!(%tenant, month = %of, spent = %Nanos(known), cap = %Nanos(cap), "a budget's month is open");
        Ok(())
    }

    /// A tenant's budget and how the month stands.
    pub(crate) async fn budget(&self, tenant: &TenantId) -> Result<BudgetStatus, Refusal> {
        let now = self.config.clock.now();
        let this = Month::of(now).ok_or_else(no_time)?;
        let kept = self.kept_quota(tenant).await?.unwrap_or_default();
        let hard = kept.budget.as_ref().is_some_and(|budget| budget.hard);
        let balance = self.quotas.table.balance(kept.row, month(now)).filter(|_| hard);
        let spent_nanos = match balance {
            Some(balance) => balance.spent,
            None => self.usage.spent(tenant.clone(), this).await?,
        };
        let alerted = state::get::<Alerted>(&self.records, ALERTS, tenant.as_str()).await?;
        let alerted = alerted.map(|at| at.value).filter(|alerted| alerted.month == month(now));
        Ok(BudgetStatus {
            budget: kept.budget,
            currency: self.config.prices.currency().to_owned(),
            month: this.to_string(),
            spent_nanos,
            reserved_nanos: balance.map(|balance| balance.reserved).unwrap_or_default(),
            alerted: alerted.map(|alerted| alerted.told).unwrap_or_default(),
        })
    }

    /// Tells of the thresholds that were reached.
    async fn tell_alerts(&self) -> Result<(), Refusal> {
        for (tenant, kept) in self.kept_quotas().await? {
            let Some(budget) = kept.budget.filter(|budget| !budget.alerts.is_empty()) else { continue };
            let now = self.config.clock.now();
            let (this, number) = (Month::of(now).ok_or_else(no_time)?, month(now));
            let read = state::get::<Alerted>(&self.records, ALERTS, tenant.as_str()).await?;
            let known = read.map(|at| at.value).filter(|alerted| alerted.month == number);
            let mut alerted = known.unwrap_or(Alerted { month: number, ..Alerted::default() });
            let all_told = budget.alerts.iter().all(|alert| alerted.told.contains(alert));
            if all_told || alerted.again > now {
                continue;
            }
            let spent = self.usage.spent(tenant.clone(), this).await?;
            for alert in due(&budget, spent, &alerted.told) {
                let told = self.tell(&tenant, &budget, this, alert, spent).await;
                match told {
                    Ok(()) => (alerted.tries, alerted.again) = (0, Timestamp::default()),
                    Err(why) if alerted.tries + 1 < TRIES_MAX => {
                        tracing::warn!(%tenant, alert, why, "an alert of a budget was not taken; it is tried again");
                        alerted.tries += 1;
                        let pause = Duration::from_secs(1 << alerted.tries.min(7)).min(PAUSE_MAX);
                        alerted.again = now + pause;
                    }
                    Err(why) => {
                        tracing::error!(%tenant, alert, why, "an alert of a budget was not taken, and is given up");
                        (alerted.tries, alerted.again) = (0, Timestamp::default());
                    }
                }
                let given_up = alerted.again == Timestamp::default();
                if given_up {
                    alerted.told.push(alert);
                }
                let write = state::put(ALERTS, tenant.to_string(), &alerted, Expect::Any)?;
                state::commit(&self.records, vec![write]).await?;
                if !given_up {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tells of one threshold, by all ways that were asked for. What is told again has the same id.
    async fn tell(
        &self,
        tenant: &TenantId,
        budget: &Budget,
        this: Month,
        alert: u8,
        spent: u64,
    ) -> Result<(), String> {
        let event = json!({
            "specversion": "1.0",
            "id": format!("{tenant}-{this}-{alert}"),
            "source": format!("/tenants/{tenant}/budget"),
            "type": EVENT_TYPE,
            "datacontenttype": "application/json",
            "data": {
                "tenant": tenant,
                "month": this.to_string(),
                "alert": alert,
                "budget_nanos": budget.month_nanos,
                "spent_nanos": spent,
                "currency": self.config.prices.currency(),
                "hard": budget.hard,
            },
        });
        if let Some(topic) = &budget.topic {
            let to = path(Id::PublishEvents, &[tenant.as_str(), topic]);
            self.post_events(&to, "application/cloudevents+json", event.to_string()).await?;
        }
        if let Some(url) = &budget.webhook {
            let order = json!({ "url": url, "event": event });
            self.post_events("/post", "application/json", order.to_string()).await?;
        }
        Ok(())
    }

    /// Has the process of events do it: it knows topics, and which addresses may be called.
    async fn post_events(&self, path: &str, content_type: &str, body: String) -> Result<(), String> {
        let request =
            Request::builder().method(Method::POST).uri(path).header(header::CONTENT_TYPE, content_type);
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let answer = self.peers.ask_events(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let said =
            http_body_util::BodyExt::collect(http_body_util::Limited::new(answer.into_body(), 1 << 16)).await;
        let said = said.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let refusal = serde_json::from_slice::<Refusal>(&said);
        Err(refusal.map_or_else(|_| told(status), |refusal| refusal.message))
    }
}

fn told(status: StatusCode) -> String {
    format!("the process of events answered {status}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_due_once_it_is_reached_to_the_last_billionth() {
        let budget = Budget {
            month_nanos: 1_001,
            hard: false,
            alerts: vec![100, 50, 80, 50],
            webhook: None,
            topic: None,
        };
        assert!(due(&budget, 500, &[]).is_empty());
        assert_eq!(due(&budget, 501, &[]), [50]);
        assert_eq!(due(&budget, 1_001, &[50]), [80, 100]);
        assert!(due(&budget, u64::MAX, &[100, 50, 80]).is_empty());
    }
}
