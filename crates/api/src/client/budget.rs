//! Limits and budgets of tenants.

use http::Method;
use rouse_types::{Budget, Refusal, TenantId, TenantLimits};

use super::{Client, empty, json};
use crate::{
    BudgetStatus,
    operation::{Id, path},
};

impl Client {
    /// What a tenant may use.
    pub async fn limits(&self, tenant: &TenantId) -> Result<TenantLimits, Refusal> {
        self.get(path(Id::GetLimits, &[tenant.as_str()])).await
    }

    /// Sets what a tenant may use, whole.
    pub async fn put_limits(
        &self,
        tenant: &TenantId,
        limits: &TenantLimits,
    ) -> Result<TenantLimits, Refusal> {
        self.ask(Method::PUT, path(Id::PutLimits, &[tenant.as_str()]), json(limits)?).await
    }

    /// What a tenant may spend, and how its month stands.
    pub async fn budget(&self, tenant: &TenantId) -> Result<BudgetStatus, Refusal> {
        self.get(path(Id::GetBudget, &[tenant.as_str()])).await
    }

    /// Sets what a tenant may spend, whole.
    pub async fn put_budget(&self, tenant: &TenantId, budget: &Budget) -> Result<BudgetStatus, Refusal> {
        self.ask(Method::PUT, path(Id::PutBudget, &[tenant.as_str()]), json(budget)?).await
    }

    /// Lets a tenant spend without a budget.
    pub async fn delete_budget(&self, tenant: &TenantId) -> Result<BudgetStatus, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteBudget, &[tenant.as_str()]), empty()).await
    }
}
