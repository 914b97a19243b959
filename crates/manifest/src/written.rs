//! Triggers as people write them: for the schema alone. The reader makes [`rouse_types::Trigger`] of them at once.

use rouse_types::trigger::{CatchUp, ObjectChange, RowChange};
use schemars::JsonSchema;

use crate::Span;

/// One thing that rouses the function: exactly one of `schedule`, `queue`, `topic`, `object`, `database`, `webhook`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TriggerTable {
    /// Its name, under which the platform remembers how far it got. Its kind and place when left out: `schedule-1`.
    #[schemars(with = "String")]
    pub name: Option<String>,
    /// Only events that this pattern takes, in the form of Amazon EventBridge. What it leaves out costs nothing.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub filter: Option<serde_json::Value>,
    /// Times: a cron line, or a table.
    #[schemars(with = "Short<ScheduleTable>")]
    pub schedule: Option<ScheduleTable>,
    /// A queue: its name, or a table.
    #[schemars(with = "Short<QueueTable>")]
    pub queue: Option<QueueTable>,
    /// A topic.
    #[schemars(with = "String")]
    pub topic: Option<String>,
    /// Objects that come and go: a bucket's name, or a table.
    #[schemars(with = "Short<ObjectTable>")]
    pub object: Option<ObjectTable>,
    /// Rows of a PostgreSQL database that change.
    #[schemars(with = "DatabaseTable")]
    pub database: Option<DatabaseTable>,
    /// Signed requests of another service.
    #[schemars(with = "WebhookTable")]
    pub webhook: Option<WebhookTable>,
}

/// What may be written as a text where its defaults do.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Short<T> {
    /// With defaults.
    Text(String),
    /// In full.
    Table(T),
}

/// Times: exactly one of `cron`, `every`, `at`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ScheduleTable {
    /// A cron line of five fields, or of six with seconds first.
    #[schemars(with = "String")]
    pub cron: Option<String>,
    /// Every so often, such as `15m`.
    #[schemars(with = "Span")]
    pub every: Option<Span>,
    /// Once, such as `2027-01-01T09:00:00`.
    #[schemars(with = "String")]
    pub at: Option<String>,
    /// The time zone, such as `Europe/Berlin`. UTC when left out.
    #[schemars(with = "String")]
    pub timezone: Option<String>,
    /// Each time is put off by up to this.
    #[schemars(with = "Span")]
    pub jitter: Option<Span>,
    /// What becomes of times that passed while the platform was away. `once` when left out.
    #[schemars(with = "CatchUp")]
    pub catch_up: Option<CatchUp>,
    /// What the function is given, in place of the scheduled event.
    #[schemars(with = "serde_json::Value")]
    pub input: Option<serde_json::Value>,
}

/// A queue and how it is drained.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct QueueTable {
    /// The queue; made when it is not there.
    pub name: String,
    /// Messages of one call. 10 when left out.
    #[schemars(with = "u32", range(min = 1, max = 1000))]
    pub batch_size: Option<u32>,
    /// How long to wait for a batch to fill. Not at all when left out.
    #[schemars(with = "Span")]
    pub batch_window: Option<Span>,
    /// Calls at once, over all messages. 10 when left out.
    #[schemars(with = "u32", range(min = 1))]
    pub concurrency_max: Option<u32>,
}

/// Objects of a bucket.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ObjectTable {
    /// The bucket; made when it is not there.
    pub bucket: String,
    /// What happens to them. `created` when left out.
    #[schemars(default)]
    pub events: Vec<ObjectChange>,
    /// How their keys begin.
    #[schemars(with = "String")]
    pub prefix: Option<String>,
    /// How their keys end.
    #[schemars(with = "String")]
    pub suffix: Option<String>,
}

/// Tables of a PostgreSQL database.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DatabaseTable {
    /// Where it is: `postgres://user:password@host:5432/database`, or `env:NAME` for one of the function's environment
    /// variables.
    pub url: String,
    /// Tables, as `schema.table`.
    pub tables: Vec<String>,
    /// Changes. `insert`, `update` and `delete` when left out.
    #[schemars(default)]
    pub operations: Vec<RowChange>,
}

/// Signed requests of another service to the function's own address.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WebhookTable {
    /// The path below the function's address, such as `/hooks/github`.
    pub path: String,
    /// Who signs, and how.
    pub signer: SignerName,
    /// Secrets, each as it is or as `env:NAME`; several while one is replaced.
    pub secrets: Vec<String>,
    /// How old a signature may be, where it tells its time. `5m` when left out.
    #[schemars(with = "Span")]
    pub tolerance: Option<Span>,
    /// With the signer `hmac`: the header that holds the signature.
    #[schemars(with = "String")]
    pub header: Option<String>,
    /// With the signer `hmac`: `sha256` when left out.
    #[schemars(with = "String")]
    pub algorithm: Option<String>,
    /// With the signer `hmac`: `hex` (when left out) or `base64`.
    #[schemars(with = "String")]
    pub encoding: Option<String>,
    /// With the signer `hmac`: what stands before the signature, such as `sha256=`.
    #[schemars(with = "String")]
    pub prefix: Option<String>,
    /// With the signer `hmac`: the header that names a delivery, so that a repeated one runs once.
    #[schemars(with = "String")]
    pub id_header: Option<String>,
}

/// Who signs webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SignerName {
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Stripe.
    Stripe,
    /// Who follows the Standard Webhooks, such as Svix.
    Standard,
    /// Slack.
    Slack,
    /// An HMAC of the body in a header.
    Hmac,
}

/// What becomes of the function's events.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EventsTable {
    /// How often an event is tried in all. 3 when left out.
    #[schemars(with = "u32", range(min = 1, max = 100))]
    pub attempts: Option<u32>,
    /// How long to wait before the second attempt; doubled for each further one. `1s` when left out.
    #[schemars(with = "Span")]
    pub backoff: Option<Span>,
    /// The longest wait. `5m` when left out.
    #[schemars(with = "Span")]
    pub backoff_max: Option<Span>,
    /// How old an event may grow before it is given up. `6h` when left out.
    #[schemars(with = "Span")]
    pub age_max: Option<Span>,
    /// How long a second call with the same `idempotency-key` gets the first one's answer, 1 second to 30 days. Once it is
    /// said, also for calls that someone waits for; else `24h`, for asynchronous calls alone.
    #[schemars(with = "Span")]
    pub idempotency: Option<Span>,
    /// Where the outcome goes when it ended well: `function:NAME`, `queue:NAME`, `topic:NAME`, or a URL.
    #[schemars(with = "rouse_types::EventTarget")]
    pub on_success: Option<rouse_types::EventTarget>,
    /// Where it goes when it was given up, besides the dead letters.
    #[schemars(with = "rouse_types::EventTarget")]
    pub on_failure: Option<rouse_types::EventTarget>,
}
