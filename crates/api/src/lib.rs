//! The native HTTP API as a contract: its operations, its messages, its OpenAPI document, and a client.
//!
//! ```text
//!   operation::ALL ─┬─▶ openapi::document()   docs/openapi.json
//!                   ├─▶ operation::find()     the server's router
//!                   └─▶ Client                CLI, tests
//! ```
//!
//! Every answer that is no success has a [`rouse_types::Refusal`] as its JSON body, with the status of its
//! code. Times are [`rouse_types::Timestamp`]: microseconds since the epoch. Streams of records are NDJSON:
//! one JSON value a line; an empty line only says that the server is still there.
//!
//! Invariant: this crate knows nothing of the server's inside; the server depends on it, never the reverse.

pub mod actions;
pub mod client;
pub mod message;
pub mod openapi;
pub mod operation;
pub mod percent;
pub mod query;
pub mod queues;
pub mod wire;

pub use client::{Client, InvokeAnswer, Lines};
pub use message::BudgetStatus;
pub use message::{
    AliasAnswer, AppDetail, AppSummary, AuditKey, AuditQuery, DeleteAnswer, DeployEvent, DeployFunction,
    DeployImage, DeployRequest, DeployedFunction, Deployment, EventCount, EventDetail, EventFilter,
    EventInfo, EventPage, EventState, EventStates, EventsQuery, FunctionSummary, Info, InvoiceFormat,
    InvoiceQuery, IsolationInfo, KeyInfo, KeyRequest, LogsQuery, NewKey, RegistryLogin, RollbackAnswer,
    RollbackRequest, RuntimeInfo, UsageBy, UsageQuery, UsageReport, UsageRow, UsageSums, VersionInfo,
};
pub use message::{ApiKeyInfo, ApiKeyRequest, NewApiKey, RotateRequest, TenantInfo, WhoAmI};
pub use message::{
    BucketInfo, CertificateInfo, ClusterMember, ClusterStatus, NodeChange, ObjectInfo, ObjectPage,
    ObjectsQuery,
};
pub use message::{
    DeadLetters, QueueChange, QueueDetail, QueueSettings, QueueSummary, ReceiveQuery, ReceivedMessage,
    SendQuery, SentMessage,
};
pub use message::{MemberInfo, MemberRequest, ProviderInfo, SignInOption, SignInRequest, TrustInfo};
pub use message::{PublishedEvents, TopicSubscription, TopicSummary};
pub use message::{SecretInfo, SecretValue, SecretsSealed};
pub use message::{TriggerInfo, TriggerState};
pub use operation::Operation;
pub use rouse_types::invocation::COST_HEADER;

/// The media type of a stream of JSON values, one a line.
pub const NDJSON: &str = "application/x-ndjson";
/// How an invocation ended, in one word: on answers of the operation `invoke`.
pub const OUTCOME_HEADER: &str = "x-rouse-outcome";
/// How often a stream that has nothing to say sends an empty line. A reader that hears nothing for four
/// times as long takes the server for gone.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(10);
