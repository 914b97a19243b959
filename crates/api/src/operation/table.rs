//! The table of operations.

use http::Method;
use rouse_types::{Alias, Budget, InstanceInfo, LogLine, TenantLimits};

use super::{
    Body, Id, Operation,
    build::{of, operation},
    cluster, identity,
};
use crate::{
    AliasAnswer, ApiKeyInfo, ApiKeyRequest, AppDetail, AppSummary, AuditKey, AuditQuery, BucketInfo,
    BudgetStatus, CertificateInfo, DeleteAnswer, DeployEvent, DeployRequest, EventCount, EventDetail,
    EventFilter, EventPage, EventsQuery, FunctionSummary, Info, InvoiceQuery, KeyInfo, KeyRequest, LogsQuery,
    NewApiKey, NewKey, ObjectInfo, ObjectPage, ObjectsQuery, PublishedEvents, QueueChange, QueueDetail,
    QueueSummary, ReceiveQuery, ReceivedMessage, RollbackAnswer, RollbackRequest, RotateRequest, SecretInfo,
    SecretValue, SecretsSealed, SendQuery, SentMessage, TenantInfo, TopicSummary, TriggerInfo, UsageQuery,
    UsageReport, VersionInfo, WhoAmI, query::InvokeQuery,
};

/// Every operation.
pub static ALL: &[Operation] = &[
    operation(Id::Info, Method::GET, "/v1/info", "What this platform is and offers.")
        .response(Body::Json(of::<Info>)),
    cluster::STATUS,
    cluster::PUT_NODE,
    operation(Id::WhoAmI, Method::GET, "/v1/whoami", "Whose the key is that was shown, and what it may do.")
        .response(Body::Json(of::<WhoAmI>)),
    operation(Id::ListTenants, Method::GET, "/v1/tenants", "Lists the tenants.")
        .response(Body::Json(of::<Vec<TenantInfo>>)),
    operation(
        Id::CreateTenant,
        Method::PUT,
        "/v1/tenants/{tenant}",
        "Makes a tenant. One that is there stays as it is; the name of one that was deleted is not given again.",
    )
    .response(Body::Json(of::<TenantInfo>)),
    operation(Id::GetTenant, Method::GET, "/v1/tenants/{tenant}", "Shows a tenant.")
        .response(Body::Json(of::<TenantInfo>)),
    operation(
        Id::DeleteTenant,
        Method::DELETE,
        "/v1/tenants/{tenant}",
        "Deletes a tenant without apps, queues and buckets, with its keys. Its usage and logs stay.",
    )
    .response(Body::Json(of::<TenantInfo>)),
    operation(
        Id::CreateApiKey,
        Method::POST,
        "/v1/tenants/{tenant}/api-keys",
        "Makes an API key with a role. Its text is told this once.",
    )
    .request(Body::Json(of::<ApiKeyRequest>))
    .response(Body::Json(of::<NewApiKey>)),
    operation(Id::ListApiKeys, Method::GET, "/v1/tenants/{tenant}/api-keys", "Lists the API keys.")
        .response(Body::Json(of::<Vec<ApiKeyInfo>>)),
    operation(
        Id::RotateApiKey,
        Method::POST,
        "/v1/tenants/{tenant}/api-keys/{key}/rotate",
        "Makes a key that takes the place of this one, which does for a while longer.",
    )
    .request(Body::Json(of::<RotateRequest>))
    .response(Body::Json(of::<NewApiKey>)),
    operation(
        Id::RevokeApiKey,
        Method::DELETE,
        "/v1/tenants/{tenant}/api-keys/{key}",
        "Revokes an API key: it is refused from now on.",
    )
    .response(Body::Json(of::<ApiKeyInfo>)),
    identity::SIGN_IN_OPTIONS,
    identity::SIGN_IN,
    identity::SIGN_OUT,
    identity::LIST_PROVIDERS,
    identity::PUT_PROVIDER,
    identity::DELETE_PROVIDER,
    identity::LIST_MEMBERS,
    identity::PUT_MEMBER,
    identity::DELETE_MEMBER,
    identity::LIST_TRUST,
    identity::PUT_TRUST,
    identity::DELETE_TRUST,
    operation(Id::HasBlob, Method::HEAD, "/v1/blobs/{digest}", "Whether code was uploaded already."),
    operation(
        Id::PutBlob,
        Method::PUT,
        "/v1/blobs/{digest}",
        "Uploads code, a component or a zip archive, under its digest. Uploading it again changes nothing.",
    )
    .request(Body::Bytes),
    operation(
        Id::Deploy,
        Method::POST,
        "/v1/tenants/{tenant}/apps/{app}/deployments",
        "Puts an app live, whole and at once, and tells of it on the way.",
    )
    .request(Body::Json(of::<DeployRequest>))
    .response(Body::Lines(of::<DeployEvent>)),
    operation(Id::ListApps, Method::GET, "/v1/tenants/{tenant}/apps", "Lists the apps.")
        .response(Body::Json(of::<Vec<AppSummary>>)),
    operation(
        Id::GetApp,
        Method::GET,
        "/v1/tenants/{tenant}/apps/{app}",
        "Shows an app's functions and its history.",
    )
    .response(Body::Json(of::<AppDetail>)),
    operation(
        Id::DeleteApp,
        Method::DELETE,
        "/v1/tenants/{tenant}/apps/{app}",
        "Deletes an app: its functions stop answering. Its usage and logs stay.",
    )
    .response(Body::Json(of::<DeleteAnswer>)),
    operation(
        Id::Rollback,
        Method::POST,
        "/v1/tenants/{tenant}/apps/{app}/rollback",
        "Puts an earlier deployment of an app live again, whole and at once.",
    )
    .request(Body::Json(of::<RollbackRequest>))
    .response(Body::Json(of::<RollbackAnswer>)),
    operation(
        Id::ListFunctions,
        Method::GET,
        "/v1/tenants/{tenant}/functions",
        "Lists the functions of all apps.",
    )
    .response(Body::Json(of::<Vec<FunctionSummary>>)),
    operation(
        Id::ListVersions,
        Method::GET,
        "/v1/tenants/{tenant}/functions/{function}/versions",
        "Lists the versions of a function that are kept, newest first.",
    )
    .response(Body::Json(of::<Vec<VersionInfo>>)),
    operation(
        Id::PutAlias,
        Method::PUT,
        "/v1/tenants/{tenant}/functions/{function}/aliases/{alias}",
        "Points an alias at a version, or spreads its calls over several. `live` can be moved so, too, \
             until the next deployment moves it.",
    )
    .request(Body::Json(of::<Alias>))
    .response(Body::Json(of::<AliasAnswer>)),
    operation(
        Id::GetAlias,
        Method::GET,
        "/v1/tenants/{tenant}/functions/{function}/aliases/{alias}",
        "Shows an alias.",
    )
    .response(Body::Json(of::<AliasAnswer>)),
    operation(
        Id::DeleteAlias,
        Method::DELETE,
        "/v1/tenants/{tenant}/functions/{function}/aliases/{alias}",
        "Deletes an alias. `live` cannot be deleted.",
    )
    .response(Body::Json(of::<DeleteAnswer>)),
    operation(
        Id::Invoke,
        Method::POST,
        "/v1/tenants/{tenant}/functions/{function}/invocations",
        "Runs a function once with the body as its payload, and answers with what it answers. The headers \
             x-rouse-invocation-id, x-rouse-outcome, x-rouse-billed-ms, x-rouse-cost-nanos and server-timing \
             tell what came of it.",
    )
    .query(of::<InvokeQuery>)
    .request(Body::Bytes)
    .response(Body::Bytes),
    operation(
        Id::CreateKey,
        Method::POST,
        "/v1/tenants/{tenant}/keys",
        "Makes an access key for AWS' clients. Its secret is told this once.",
    )
    .request(Body::Json(of::<KeyRequest>))
    .response(Body::Json(of::<NewKey>)),
    operation(
        Id::PutSecret,
        Method::PUT,
        "/v1/tenants/{tenant}/secrets/{secret}",
        "Sets a secret. Instances that start from now on have the new value.",
    )
    .request(Body::Json(of::<SecretValue>))
    .response(Body::Json(of::<SecretInfo>)),
    operation(
        Id::ListSecrets,
        Method::GET,
        "/v1/tenants/{tenant}/secrets",
        "Lists the secrets, without their values.",
    )
    .response(Body::Json(of::<Vec<SecretInfo>>)),
    operation(
        Id::DeleteSecret,
        Method::DELETE,
        "/v1/tenants/{tenant}/secrets/{secret}",
        "Deletes a secret that no live function uses.",
    )
    .response(Body::Json(of::<SecretInfo>)),
    operation(Id::RotateSecretsKey, Method::POST, "/v1/secrets/rotate", "Seals all secrets under a new key.")
        .response(Body::Json(of::<SecretsSealed>)),
    operation(Id::ListKeys, Method::GET, "/v1/tenants/{tenant}/keys", "Lists the access keys.")
        .response(Body::Json(of::<Vec<KeyInfo>>)),
    operation(
        Id::DeleteKey,
        Method::DELETE,
        "/v1/tenants/{tenant}/keys/{key}",
        "Deletes an access key: what it signs is refused at once.",
    )
    .response(Body::Json(of::<KeyInfo>)),
    operation(Id::GetLimits, Method::GET, "/v1/tenants/{tenant}/limits", "Shows what the tenant may use.")
        .response(Body::Json(of::<TenantLimits>)),
    operation(
        Id::PutLimits,
        Method::PUT,
        "/v1/tenants/{tenant}/limits",
        "Sets what the tenant may use, whole: what is left out is not limited. In force when it is answered.",
    )
    .request(Body::Json(of::<TenantLimits>))
    .response(Body::Json(of::<TenantLimits>)),
    operation(
        Id::GetBudget,
        Method::GET,
        "/v1/tenants/{tenant}/budget",
        "Shows what the tenant may spend in a month, and how this month stands.",
    )
    .response(Body::Json(of::<BudgetStatus>)),
    operation(
        Id::PutBudget,
        Method::PUT,
        "/v1/tenants/{tenant}/budget",
        "Sets what the tenant may spend in a month, whole. In force when it is answered.",
    )
    .request(Body::Json(of::<Budget>))
    .response(Body::Json(of::<BudgetStatus>)),
    operation(
        Id::DeleteBudget,
        Method::DELETE,
        "/v1/tenants/{tenant}/budget",
        "Lets the tenant spend without a budget.",
    )
    .response(Body::Json(of::<BudgetStatus>)),
    operation(
        Id::ListEvents,
        Method::GET,
        "/v1/tenants/{tenant}/events",
        "Lists events that wait, run or were given up. Those that ended well are not kept.",
    )
    .query(of::<EventsQuery>)
    .response(Body::Json(of::<EventPage>)),
    operation(
        Id::GetEvent,
        Method::GET,
        "/v1/tenants/{tenant}/events/{event}",
        "Shows an event with its body.",
    )
    .response(Body::Json(of::<EventDetail>)),
    operation(
        Id::CancelEvent,
        Method::DELETE,
        "/v1/tenants/{tenant}/events/{event}",
        "Cancels an event that waits or runs: an attempt that is under way is broken off.",
    )
    .response(Body::Json(of::<EventCount>)),
    operation(
        Id::RedriveEvents,
        Method::POST,
        "/v1/tenants/{tenant}/events/redrive",
        "Has events that were given up tried again, with all of their attempts.",
    )
    .request(Body::Json(of::<EventFilter>))
    .response(Body::Json(of::<EventCount>)),
    operation(
        Id::PurgeEvents,
        Method::POST,
        "/v1/tenants/{tenant}/events/purge",
        "Deletes events that wait or were given up, for good.",
    )
    .request(Body::Json(of::<EventFilter>))
    .response(Body::Json(of::<EventCount>)),
    operation(
        Id::ListTriggers,
        Method::GET,
        "/v1/tenants/{tenant}/triggers",
        "Lists the triggers that are in force, and how they fare.",
    )
    .response(Body::Json(of::<Vec<TriggerInfo>>)),
    operation(
        Id::ListQueues,
        Method::GET,
        "/v1/tenants/{tenant}/queues",
        "Lists the queues that are there: made by someone, named by a trigger, or with messages.",
    )
    .response(Body::Json(of::<Vec<QueueSummary>>)),
    operation(
        Id::CreateQueue,
        Method::PUT,
        "/v1/tenants/{tenant}/queues/{queue}",
        "Makes a queue with these settings. One that is there is left as it is, and shown.",
    )
    .request(Body::Json(of::<QueueChange>))
    .response(Body::Json(of::<QueueDetail>)),
    operation(
        Id::GetQueue,
        Method::GET,
        "/v1/tenants/{tenant}/queues/{queue}",
        "Shows a queue: its settings, and how many messages it has.",
    )
    .response(Body::Json(of::<QueueDetail>)),
    operation(
        Id::UpdateQueue,
        Method::PATCH,
        "/v1/tenants/{tenant}/queues/{queue}",
        "Changes those settings of a queue that are named.",
    )
    .request(Body::Json(of::<QueueChange>))
    .response(Body::Json(of::<QueueDetail>)),
    operation(
        Id::DeleteQueue,
        Method::DELETE,
        "/v1/tenants/{tenant}/queues/{queue}",
        "Deletes a queue with all its messages.",
    )
    .response(Body::Json(of::<EventCount>)),
    operation(
        Id::SendMessage,
        Method::POST,
        "/v1/tenants/{tenant}/queues/{queue}/messages",
        "Sends a message: the body. Answered once it is on the disk.",
    )
    .query(of::<SendQuery>)
    .request(Body::Bytes)
    .response(Body::Json(of::<SentMessage>)),
    operation(
        Id::ReceiveMessages,
        Method::POST,
        "/v1/tenants/{tenant}/queues/{queue}/receive",
        "Receives messages that are there. Each comes back after the queue's visibility timeout unless it is deleted by its receipt.",
    )
    .query(of::<ReceiveQuery>)
    .response(Body::Json(of::<Vec<ReceivedMessage>>)),
    operation(
        Id::DeleteMessage,
        Method::DELETE,
        "/v1/tenants/{tenant}/queues/{queue}/messages/{receipt}",
        "Deletes a message that was received, by its receipt.",
    )
    .response(Body::Json(of::<EventCount>)),
    operation(
        Id::PurgeQueue,
        Method::POST,
        "/v1/tenants/{tenant}/queues/{queue}/purge",
        "Deletes the messages of a queue that wait, and its dead ones.",
    )
    .response(Body::Json(of::<EventCount>)),
    operation(Id::ListBuckets, Method::GET, "/v1/tenants/{tenant}/buckets", "Lists the buckets.")
        .response(Body::Json(of::<Vec<BucketInfo>>)),
    operation(
        Id::CreateBucket,
        Method::PUT,
        "/v1/tenants/{tenant}/buckets/{bucket}",
        "Makes a bucket. One that is there stays as it is.",
    )
    .response(Body::Json(of::<BucketInfo>)),
    operation(
        Id::DeleteBucket,
        Method::DELETE,
        "/v1/tenants/{tenant}/buckets/{bucket}",
        "Deletes a bucket, which must be empty.",
    )
    .response(Body::Json(of::<BucketInfo>)),
    operation(
        Id::ListObjects,
        Method::GET,
        "/v1/tenants/{tenant}/buckets/{bucket}/objects",
        "Lists a bucket's objects by their keys.",
    )
    .query(of::<ObjectsQuery>)
    .response(Body::Json(of::<ObjectPage>)),
    operation(
        Id::PutObject,
        Method::PUT,
        "/v1/tenants/{tenant}/buckets/{bucket}/objects/{key}",
        "Puts an object: the body, with its content type. Answered once it is on the disk.",
    )
    .request(Body::Bytes)
    .response(Body::Json(of::<ObjectInfo>)),
    operation(
        Id::GetObject,
        Method::GET,
        "/v1/tenants/{tenant}/buckets/{bucket}/objects/{key}",
        "Gets an object.",
    )
    .response(Body::Bytes),
    operation(
        Id::DeleteObject,
        Method::DELETE,
        "/v1/tenants/{tenant}/buckets/{bucket}/objects/{key}",
        "Deletes an object.",
    )
    .response(Body::Json(of::<ObjectInfo>)),
    operation(
        Id::ListTopics,
        Method::GET,
        "/v1/tenants/{tenant}/topics",
        "Lists the topics that triggers name, each with who wants what of it.",
    )
    .response(Body::Json(of::<Vec<TopicSummary>>)),
    operation(
        Id::PublishEvents,
        Method::POST,
        "/v1/tenants/{tenant}/topics/{topic}/events",
        "Publishes CloudEvents, in binary, structured or batched mode. Answered with 202 once they are on the disk for \
             each function that wants them.",
    )
    .request(Body::Bytes)
    .response(Body::Json(of::<PublishedEvents>)),
    operation(
        Id::RedriveQueue,
        Method::POST,
        "/v1/tenants/{tenant}/queues/{queue}/redrive",
        "Has the dead messages of a queue received again; those of other queues that died into it go back there.",
    )
    .response(Body::Json(of::<EventCount>)),
    operation(
        Id::Logs,
        Method::GET,
        "/v1/tenants/{tenant}/logs",
        "Shows what functions printed, oldest first.",
    )
    .query(of::<LogsQuery>)
    .response(Body::Lines(of::<LogLine>)),
    operation(Id::Usage, Method::GET, "/v1/tenants/{tenant}/usage", "Sums what was used, and prices it.")
        .query(of::<UsageQuery>)
        .response(Body::Json(of::<UsageReport>)),
    operation(
        Id::Invoice,
        Method::GET,
        "/v1/tenants/{tenant}/invoices/{month}",
        "Writes the invoice of a month, such as 2026-11: JSON, CSV, HTML, or the columns of FinOps FOCUS 1.0.",
    )
    .query(of::<InvoiceQuery>)
    .response(Body::Text),
    operation(
        Id::AuditExport,
        Method::GET,
        "/v1/tenants/{tenant}/audit/usage",
        "Exports the ledger's records and seals of some hours, so that they can be checked offline. A \
             stream without its end line broke off.",
    )
    .query(of::<AuditQuery>)
    .response(Body::Lines(of::<serde_json::Value>)),
    operation(
        Id::AuditLog,
        Method::GET,
        "/v1/tenants/{tenant}/audit/log",
        "Exports what was done to the tenant by this API: who, from where, what, before and after, so that it can be \
             checked offline. A stream without its end line broke off.",
    )
    .response(Body::Lines(of::<serde_json::Value>)),
    operation(
        Id::PlatformAuditLog,
        Method::GET,
        "/v1/audit/log",
        "Exports what was done to no one tenant, or made and ended one. A stream without its end line broke off.",
    )
    .response(Body::Lines(of::<serde_json::Value>)),
    operation(Id::AuditKey, Method::GET, "/v1/audit/key", "Shows the public key of the ledger's seals.")
        .response(Body::Json(of::<AuditKey>)),
    operation(
        Id::ListCertificates,
        Method::GET,
        "/v1/tenants/{tenant}/certificates",
        "Lists what HTTPS is answered with at the functions' domains, and at the platform's own.",
    )
    .response(Body::Json(of::<Vec<CertificateInfo>>)),
    operation(Id::Ps, Method::GET, "/v1/tenants/{tenant}/ps", "Lists the instances that are there now.")
        .response(Body::Json(of::<Vec<InstanceInfo>>)),
    operation(Id::Metrics, Method::GET, "/metrics", "Metrics of all processes, in Prometheus' text form.")
        .response(Body::Text),
    operation(Id::Health, Method::GET, "/healthz", "Whether this process works.").open().response(Body::Text),
    operation(
        Id::Ready,
        Method::GET,
        "/readyz",
        "Whether deployments and calls can be taken: the store answers and a gateway is there.",
    )
    .open()
    .response(Body::Text),
    operation(Id::Openapi, Method::GET, "/openapi.json", "This API as an OpenAPI 3.1 document.")
        .open()
        .response(Body::Json(of::<serde_json::Value>)),
];
