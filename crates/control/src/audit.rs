//! The audit log: what the control API did, for whom and from where, kept as a chain. What was refused changed nothing and is not
//! in it, but for who wanted to sign in; nor is what functions' callers do.
//!
//! ```text
//!  begin ─▶ the record of what is under way ─▶ the action ─▶ end: into the chain, in one transaction
//!                            └───────── the process dies ─▶ the next start: into the chain, as unknown
//! ```

pub(crate) mod theirs;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::Method;
use rouse_api::{
    Operation,
    operation::{Id, Params},
};
use rouse_metering::audit::{
    Link,
    log::{self, Action, Entry, Outcome, Writer},
};
use rouse_store::records::{Expect, PAGE_MAX, Write};
use rouse_types::{AccessKey, ApiKey, Code, Refusal, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{
    body::Lines,
    control::Control,
    state::{self, App, At, Committed, Function},
    who::Who,
};

/// The namespace: `<tenant>/<number>` is an [`Entry`]; without a tenant, it is the platform's.
const LOG: &str = "audit-log";
/// The namespace: `<tenant>` is a [`Head`], `-` that of the platform.
const HEADS: &str = "audit-heads";
/// The namespace: `<node>/<time>-<number>` is a [`Begun`].
const BEGUN: &str = "audit-begun";

/// Tells actions that begin in the same microsecond apart.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// How far a chain goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    /// The number of the next action.
    next: u64,
    /// The last one's link.
    link: Link,
}

/// An action that was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// Whose log it goes to; the platform's, if no tenant's.
    tenant: Option<TenantId>,
    time: Timestamp,
    who: String,
    from: String,
    operation: String,
    of: BTreeMap<String, String>,
    before: Option<Value>,
}

/// An action under way. Whoever has it ends it, by [`Control::end_action`].
#[derive(Debug)]
pub(crate) struct UnderWay {
    key: String,
    id: Id,
    begun: Begun,
}

/// As the log names where someone is.
fn place(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "this machine".to_owned(), |from| from.to_string())
}

impl Begun {
    /// Someone signs in. What of it may be told stands in `of`.
    pub(crate) fn sign_in(
        tenant: &TenantId,
        time: Timestamp,
        who: String,
        from: Option<IpAddr>,
        of: BTreeMap<String, String>,
    ) -> Self {
        let operation = Id::SignIn.as_str().to_owned();
        Self { tenant: Some(tenant.clone()), time, who, from: place(from), operation, of, before: None }
    }
}

/// An action of no operation of the API that was begun; ended by [`Control::end_noted`].
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) key: String,
    begun: Begun,
}

/// Whether the log is for an operation: it changes what there is, and is no use of it.
fn is_logged(operation: &Operation) -> bool {
    let uses = matches!(
        operation.id,
        Id::PutBlob
            | Id::Invoke
            | Id::SendMessage
            | Id::ReceiveMessages
            | Id::DeleteMessage
            | Id::PutObject
            | Id::DeleteObject
            | Id::PublishEvents
    );
    !uses && !matches!(operation.method, Method::GET | Method::HEAD)
}

impl Control {
    /// Writes down that an action begins; nothing of one that the log is not for.
    pub(crate) async fn begin_action(
        &self,
        who: &Who,
        from: Option<IpAddr>,
        operation: &Operation,
        params: &Params,
    ) -> Result<Option<UnderWay>, Refusal> {
        if !is_logged(operation) {
            return Ok(None);
        }
        let of: BTreeMap<String, String> =
            params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // Who may read a tenant's log must not be able to lose it with the tenant.
        let platforms =
            matches!(operation.id, Id::CreateTenant | Id::DeleteTenant) || !of.contains_key("tenant");
        let tenant = if platforms { None } else { Some(params.parse("tenant")?) };
        let time = self.config.clock.now();
        let begun = Begun {
            before: self.standing(operation.id, tenant.as_ref(), &of).await?,
            tenant,
            time,
            who: who.name(),
            from: place(from),
            operation: operation.id.as_str().to_owned(),
            of,
        };
        let key = self.action_key(time);
        let write = state::put(BEGUN, key.clone(), &begun, Expect::Absent)?;
        match state::commit(&self.records, vec![write]).await? {
            Committed::Done => Ok(Some(UnderWay { key, id: operation.id, begun })),
            Committed::Conflict => Err(state::contended()),
        }
    }

    fn action_key(&self, time: Timestamp) -> String {
        format!("{}{:020}-{}", self.own_actions(), time.0, COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Has a transaction write down that something begins.
    pub(crate) fn begun(&self, begun: Begun, writes: &mut Vec<Write>) -> Result<Noted, Refusal> {
        let key = self.action_key(begun.time);
        writes.push(state::put(BEGUN, key.clone(), &begun, Expect::Absent)?);
        Ok(Noted { key, begun })
    }

    /// Writes down what came of it. As for all actions, what cannot be written down stays begun.
    pub(crate) async fn end_noted(&self, noted: Noted, outcome: Outcome, after: Option<Value>) {
        let Noted { key, begun } = noted;
        if let Err(refusal) = self.append(&key, &begun, outcome, after).await {
            tracing::error!(%refusal, who = begun.who, operation = begun.operation, "an action is not in the audit log yet");
        }
    }

    /// Writes down what has ended as it began.
    pub(crate) async fn note_ended(&self, begun: &Begun, outcome: Outcome) -> Result<(), Refusal> {
        self.append(&self.action_key(begun.time), begun, outcome, None).await
    }

    /// Writes down what came of an action. One that cannot be written down stays begun, and is in the log, as unknown,
    /// after the next start.
    pub(crate) async fn end_action(&self, action: UnderWay, refused: Option<&Refusal>) {
        let UnderWay { key, id, begun } = action;
        let done = match refused {
            None => {
                let after = self.standing(id, begun.tenant.as_ref(), &begun.of).await;
                match after {
                    Ok(after) => self.append(&key, &begun, Outcome::Done, after).await,
                    Err(refusal) => Err(refusal),
                }
            }
            Some(refusal) if refusal.code.status() >= 500 => {
                self.append(&key, &begun, Outcome::Failed, None).await
            }
            Some(_) => {
                let write = state::delete(BEGUN, key, Expect::Any);
                state::commit(&self.records, vec![write]).await.map(drop)
            }
        };
        if let Err(refusal) = done {
            tracing::error!(%refusal, who = begun.who, operation = begun.operation, of = ?begun.of, "an action is not in the audit log yet");
        }
    }

    /// Puts what a predecessor of this process had begun into the log.
    pub(crate) async fn recover_actions(&self) -> Result<(), Refusal> {
        for At { key, value: begun, .. } in
            state::scan::<Begun>(&self.records, BEGUN, &self.own_actions()).await?
        {
            self.append(&key, &begun, Outcome::Unknown, None).await?;
        }
        Ok(())
    }

    /// Where the keys of this node's actions begin: nodes share the records.
    fn own_actions(&self) -> String {
        format!("{}/", self.shared.as_ref().map_or("alone", |shared| shared.settings.node.as_str()))
    }

    async fn append(
        &self,
        begun_key: &str,
        begun: &Begun,
        outcome: Outcome,
        after: Option<Value>,
    ) -> Result<(), Refusal> {
        let Begun { tenant, time, who, from, operation, of, before } = begun.clone();
        let chain = tenant.as_ref().map_or("", TenantId::as_str);
        let head_key = if chain.is_empty() { "-" } else { chain };
        let _lock = self.locks.hold(format!("audit log {chain}")).await;
        let failed = |error: serde_json::Error| Refusal::new(Code::Internal, error.to_string());
        let mut action = Action { number: 0, time, who, from, operation, of, outcome, before, after };
        for _ in 0..state::ATTEMPTS_MAX {
            let head = state::get::<Head>(&self.records, HEADS, head_key).await?;
            let Head { next, link } = match &head {
                Some(at) => at.value.clone(),
                None => Head { next: 0, link: log::first(tenant.as_ref()) },
            };
            action.number = next;
            let link = log::next(&link, &action.to_json().map_err(failed)?);
            let entry = Entry { action: action.clone(), link };
            let head_now = Head { next: next + 1, link };
            let writes = vec![
                state::put(LOG, state::numbered(chain, next), &entry, Expect::Absent)?,
                state::put(HEADS, head_key.to_owned(), &head_now, state::unchanged(head.as_ref()))?,
                state::delete(BEGUN, begun_key.to_owned(), Expect::Any),
            ];
            if state::commit(&self.records, writes).await? == Committed::Done {
                return Ok(());
            }
        }
        Err(state::contended())
    }

    /// What there is of what an operation changes, where that is small and no secret.
    async fn standing(
        &self,
        id: Id,
        tenant: Option<&TenantId>,
        of: &BTreeMap<String, String>,
    ) -> Result<Option<Value>, Refusal> {
        if id == Id::PutNode {
            let node = of.get("node").map(String::as_str).unwrap_or_default();
            // One of no node is refused later on.
            let asked = state::get::<Value>(&self.records, state::NODES, node).await.ok().flatten();
            return Ok(asked.map(|at| at.value));
        }
        let Some(tenant) = tenant else { return Ok(None) };
        let named = |name: &str| of.get(name).map(String::as_str).unwrap_or_default();
        Ok(match id {
            Id::Deploy | Id::DeleteApp | Id::Rollback => {
                let Ok(app) = named("app").parse() else { return Ok(None) };
                let app =
                    state::get::<App>(&self.records, state::APPS, &state::app_key(tenant, &app)).await?;
                app.map(|at| json!({ "live": at.value.live, "functions": at.value.functions }))
            }
            Id::PutAlias | Id::DeleteAlias => {
                let Ok(function) = named("function").parse() else { return Ok(None) };
                let key = state::function_key(tenant, &function);
                let function = state::get::<Function>(&self.records, state::FUNCTIONS, &key).await?;
                function.and_then(|at| Some(json!(at.value.aliases.get(named("alias"))?)))
            }
            Id::CreateApiKey | Id::RotateApiKey | Id::RevokeApiKey => {
                let keys = state::scan::<ApiKey>(&self.records, state::API_KEYS, "").await?;
                let keys = keys.into_iter().filter(|at| at.value.tenant == *tenant).map(|at| {
                    let ApiKey { role, functions, expires, .. } = at.value;
                    (at.key, json!({ "role": role, "functions": functions, "expires": expires }))
                });
                Some(json!({ "keys": keys.collect::<BTreeMap<_, _>>() }))
            }
            Id::CreateKey | Id::DeleteKey => {
                let prefix = format!("{tenant}/");
                let keys = state::scan::<AccessKey>(&self.records, state::KEYS, &prefix).await?;
                let roles = keys.iter().filter_map(|at| Some((at.key.strip_prefix(&prefix)?, at.value.role)));
                Some(json!({ "keys": roles.collect::<BTreeMap<_, _>>() }))
            }
            Id::PutMember | Id::DeleteMember => {
                let members = self.members(tenant).await?.into_iter();
                let members = members.map(|at| (at.value.is.to_string(), at.value.role.to_string()));
                Some(json!({ "members": members.collect::<BTreeMap<_, _>>() }))
            }
            Id::PutTrust | Id::DeleteTrust => {
                let policies = self.list_trust(tenant).await?;
                let found = policies.into_iter().find(|policy| policy.name.as_str() == named("trust"));
                found.map(|policy| json!(policy.trust))
            }
            Id::PutLimits => Some(json!(self.limits(tenant).await?)),
            Id::PutBudget | Id::DeleteBudget => self.budget(tenant).await.ok().map(|budget| json!(budget)),
            _ => None,
        })
    }
}

/// Sends a log. What goes wrong in between ends it without its end line.
pub(crate) async fn export(control: Arc<Control>, tenant: Option<TenantId>, mut to: Lines<Box<RawValue>>) {
    if let Err(refusal) = write(&control, tenant.as_ref(), &mut to).await {
        tracing::error!(?tenant, %refusal, "an export of the audit log broke off");
    }
}

async fn write(
    control: &Control,
    tenant: Option<&TenantId>,
    to: &mut Lines<Box<RawValue>>,
) -> Result<(), Refusal> {
    let failed = |error: serde_json::Error| Refusal::new(Code::Internal, error.to_string());
    let key = control.usage.signer();
    let (mut writer, first) = Writer::begin(tenant, &key).map_err(failed)?;
    to.send(&RawValue::from_string(first).map_err(failed)?).await;
    let (prefix, mut after) = (format!("{}/", tenant.map_or("", TenantId::as_str)), None);
    loop {
        let page = control.records.scan(LOG, &prefix, after.as_deref(), PAGE_MAX).await;
        let page = page.map_err(|error| state::refusal(&error))?;
        for record in page.records {
            let entry: Entry = serde_json::from_slice(&record.value).map_err(failed)?;
            let line = writer.action(entry).map_err(failed)?;
            if !to.send(&RawValue::from_string(line).map_err(failed)?).await {
                return Ok(());
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let last = writer.end(&key).map_err(failed)?;
    to.send(&RawValue::from_string(last).map_err(failed)?).await;
    Ok(())
}
