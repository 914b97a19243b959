//! The messages of the API. Unknown fields are refused: a misspelt setting must not be a silent default.

mod app;
mod budget;
mod certificate;
mod cluster;
mod deploy;
mod event;
mod identity;
mod key;
mod object;
mod observe;
mod queue;
mod secret;
mod tenant;
mod topic;
mod trigger;

pub use app::{
    AliasAnswer, AppDetail, AppSummary, DeleteAnswer, FunctionSummary, RollbackAnswer, RollbackRequest,
    VersionInfo,
};
pub use budget::BudgetStatus;
pub use certificate::CertificateInfo;
pub use cluster::{ClusterMember, ClusterStatus, NodeChange};
pub use deploy::{
    DeployEvent, DeployFunction, DeployImage, DeployRequest, DeployedFunction, Deployment, RegistryLogin,
};
pub use event::{
    EventCount, EventDetail, EventFilter, EventInfo, EventPage, EventState, EventStates, EventsQuery,
};
pub use identity::{MemberInfo, MemberRequest, ProviderInfo, SignInOption, SignInRequest, TrustInfo};
pub use key::{KeyInfo, KeyRequest, NewKey};
pub use object::{BucketInfo, ObjectInfo, ObjectPage, ObjectsQuery};
pub use observe::{
    AuditKey, AuditQuery, Info, InvoiceFormat, InvoiceQuery, IsolationInfo, LogsQuery, RuntimeInfo, UsageBy,
    UsageQuery, UsageReport, UsageRow, UsageSums,
};
pub use queue::{
    DeadLetters, QueueChange, QueueDetail, QueueSettings, QueueSummary, ReceiveQuery, ReceivedMessage,
    SendQuery, SentMessage,
};
pub use secret::{SecretInfo, SecretValue, SecretsSealed};
pub use tenant::{ApiKeyInfo, ApiKeyRequest, NewApiKey, RotateRequest, TenantInfo, WhoAmI};
pub use topic::{PublishedEvents, TopicSubscription, TopicSummary};
pub use trigger::{TriggerInfo, TriggerState};
