//! Who may do what: one table of roles and operations, and nothing else to look at.
//!
//! A new operation does not compile without a line here. Why this is no policy engine:
//! `docs/decisions/014-who-may-what.md`.

use rouse_types::Role;

use super::Id;

/// Who may ask for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a key.
    Open,
    /// Whoever shows a key or the operator's token.
    Anyone,
    /// Keys with one of these roles, for their own tenant; and the operator.
    Roles(&'static [Role]),
    /// The operator alone: it concerns the whole platform.
    Operator,
}

impl Access {
    /// Whether a key with this role may, for its own tenant.
    #[must_use]
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Open | Self::Anyone => true,
            Self::Roles(roles) => roles.contains(&role),
            Self::Operator => false,
        }
    }
}

const ALL_ROLES: Access = Access::Roles(&Role::ALL);
const OWNS: Access = Access::Roles(&[Role::Owner]);
const DEPLOYS: Access = Access::Roles(&[Role::Owner, Role::Deployer]);
const CALLS: Access = Access::Roles(&[Role::Owner, Role::Deployer, Role::Invoker]);
const READS: Access = Access::Roles(&[Role::Owner, Role::Deployer, Role::Viewer]);
const READS_USAGE: Access = Access::Roles(&[Role::Owner, Role::Deployer, Role::Viewer, Role::Billing]);
const BILLS: Access = Access::Roles(&[Role::Owner, Role::Billing]);

/// Who may ask for an operation.
#[must_use]
pub fn access(id: Id) -> Access {
    match id {
        // Who signs in has no key yet; the token that they show instead is looked at there.
        Id::Health | Id::Ready | Id::Openapi | Id::SignInOptions | Id::SignIn => Access::Open,
        Id::Info | Id::WhoAmI | Id::SignOut | Id::AuditKey => Access::Anyone,
        Id::ClusterStatus
        | Id::PutNode
        | Id::Metrics
        | Id::RotateSecretsKey
        | Id::PlatformAuditLog
        | Id::ListProviders
        | Id::PutProvider
        | Id::DeleteProvider
        | Id::CreateTenant
        | Id::ListTenants
        | Id::DeleteTenant => Access::Operator,
        // What a tenant may use and spend is not its own to say.
        Id::PutLimits | Id::PutBudget | Id::DeleteBudget => Access::Operator,
        Id::GetTenant => ALL_ROLES,
        Id::CreateKey
        | Id::ListKeys
        | Id::DeleteKey
        | Id::CreateApiKey
        | Id::ListApiKeys
        | Id::RotateApiKey
        | Id::RevokeApiKey
        | Id::AuditLog
        | Id::ListMembers
        | Id::PutMember
        | Id::DeleteMember
        | Id::ListTrust
        | Id::PutTrust
        | Id::DeleteTrust => OWNS,
        Id::HasBlob
        | Id::PutBlob
        | Id::Deploy
        | Id::DeleteApp
        | Id::Rollback
        | Id::PutSecret
        | Id::ListSecrets
        | Id::DeleteSecret
        | Id::PutAlias
        | Id::DeleteAlias
        | Id::CancelEvent
        | Id::RedriveEvents
        | Id::PurgeEvents
        | Id::CreateQueue
        | Id::UpdateQueue
        | Id::DeleteQueue
        | Id::ReceiveMessages
        | Id::DeleteMessage
        | Id::PurgeQueue
        | Id::RedriveQueue
        | Id::CreateBucket
        | Id::DeleteBucket
        | Id::PutObject
        | Id::DeleteObject => DEPLOYS,
        Id::Invoke | Id::SendMessage | Id::PublishEvents => CALLS,
        Id::ListApps
        | Id::GetApp
        | Id::ListFunctions
        | Id::ListCertificates
        | Id::ListVersions
        | Id::GetAlias
        | Id::ListEvents
        | Id::GetEvent
        | Id::ListTriggers
        | Id::ListQueues
        | Id::GetQueue
        | Id::ListBuckets
        | Id::ListObjects
        | Id::GetObject
        | Id::ListTopics
        | Id::Logs
        | Id::Ps => READS,
        Id::Usage | Id::GetLimits | Id::GetBudget => READS_USAGE,
        Id::Invoice | Id::AuditExport => BILLS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::ALL;

    #[test]
    fn what_is_a_tenants_is_for_its_roles_and_what_is_no_tenants_is_not() {
        for operation in ALL {
            let of_a_tenant = operation.path.contains("{tenant}");
            let access = access(operation.id);
            assert_eq!(access == Access::Open, operation.open, "{}", operation.path);
            match access {
                Access::Open | Access::Anyone => assert!(!of_a_tenant, "{}", operation.path),
                // Code is uploaded before it is said for which app; what a key uploads is its tenant's.
                Access::Roles(_) => {
                    assert!(of_a_tenant || operation.path == "/v1/blobs/{digest}", "{}", operation.path);
                }
                Access::Operator => {}
            }
        }
    }

    #[test]
    fn an_owner_may_all_that_any_role_may_and_only_reading_is_a_viewers() {
        for operation in ALL {
            let access = access(operation.id);
            if Role::ALL.iter().any(|role| access.allows(*role)) {
                assert!(access.allows(Role::Owner), "{}", operation.path);
            }
            for role in [Role::Viewer, Role::Billing] {
                if matches!(access, Access::Roles(_)) && access.allows(role) {
                    assert_eq!(operation.method, http::Method::GET, "{role}: {}", operation.path);
                }
            }
        }
    }
}
