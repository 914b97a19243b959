//! Sign-in: a provider's token becomes a session, which is an API key that lives for hours.
//!
//! ```text
//!   token ─▶ is its issuer known? ─▶ its signature, its times ─▶ member or trust policy of the tenant ─▶ key
//!     └──────────────┴───────────────────────┴──────────────────────────────┴─▶ one 401 for all; why: the log
//! ```
//!
//! Strangers reach this. So nothing is fetched that the operator did not configure, the signature is checked before
//! anything of the tenant is looked at, and whatever is wrong is answered the same.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use rouse_api::{ApiKeyInfo, NewApiKey, SignInRequest};
use rouse_identity::{
    Claims, Error, decide,
    token::{self, Head, TOKEN_BYTES_MAX},
};
use rouse_metering::audit::log::Outcome;
use rouse_store::records::{Expect, Write};
use rouse_types::{
    ApiKey, Code, Digest, Grant, Member, Provider, Refusal, Role, Session, TenantId, Timestamp, Trust,
};
use serde_json::json;

use crate::{
    api_keys::after,
    audit::Begun,
    control::Control,
    state::{self, ATTEMPTS_MAX, At, MEMBERS, SIGN_INS, TRUST},
    who::Who,
};

/// The largest request: a token and a few names.
pub(crate) const BODY_BYTES_MAX: usize = TOKEN_BYTES_MAX + (4 << 10);
/// How long a person's session lives: a working day. The command line begins another without asking.
const PERSON_SECONDS: u64 = 12 * 3_600;
/// How long a build's does.
const PROGRAM_SECONDS: u64 = 3_600;
/// Hours since the epoch, as the keys of records sort.
const HOUR_SECONDS: u64 = 3_600;
/// Records of tokens past their end that one sign-in clears away.
const CLEARED_MAX: usize = 50;

/// Why there is no session.
enum Denied {
    /// The token: told to the log alone.
    Token(Error),
    /// It was exchanged before.
    Used,
    /// The platform's own trouble, or a full house.
    Platform(Refusal),
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self::Token(error)
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Platform(refusal)
    }
}

/// What let someone in, and the write that fails if it is no longer so.
struct Found {
    by: Grant,
    role: Role,
    functions: Vec<rouse_types::FunctionName>,
    seconds: u64,
    unchanged: Write,
}

impl Control {
    /// Exchanges a token for a session's key.
    pub(crate) async fn sign_in(
        self: &Arc<Self>,
        request: SignInRequest,
        from: Option<IpAddr>,
    ) -> Result<NewApiKey, Refusal> {
        let tenant = request.tenant.clone();
        let mut proven = None;
        let why = match Box::pin(self.exchange(request, from, &mut proven)).await {
            Ok(new) => return Ok(new),
            Err(Denied::Platform(refusal)) => return Err(refusal),
            Err(Denied::Token(error)) => error.to_string(),
            Err(Denied::Used) => "it was exchanged before".to_owned(),
        };
        tracing::warn!(%tenant, why, ?from, "a token that was shown to sign in is not taken");
        // Beside the answer, whose time tells nothing of whether there is such a tenant.
        let control = Arc::clone(self);
        self.tasks.spawn(async move { control.note_refusal(&tenant, from, proven, &why).await });
        Err(Refusal::new(Code::Unauthorized, "the token opens nothing of this tenant").hint(
            "whether it has expired, was used before, or is nobody's who is a member or trusted stands in the \
             platform's log; an owner of the tenant looks with `rouse member list` and `rouse trust list`",
        ))
    }

    /// Has the audit log of the tenant tell of one that was refused; of a tenant that is not there nothing is kept.
    async fn note_refusal(&self, tenant: &TenantId, from: Option<IpAddr>, proven: Option<String>, why: &str) {
        let now = self.config.clock.now();
        if !self.gate.tells(from, tenant, now.as_millis() / 1_000) || self.tenant(tenant).await.is_err() {
            return;
        }
        let who = proven.unwrap_or_else(|| "a stranger".to_owned());
        let why: String = why.chars().filter(|char| !char.is_control()).take(200).collect();
        let of = BTreeMap::from([("tenant".to_owned(), tenant.to_string()), ("why".to_owned(), why)]);
        let begun = Begun::sign_in(tenant, now, who, from, of);
        if let Err(refusal) = self.note_ended(&begun, Outcome::Refused).await {
            tracing::error!(%refusal, %tenant, "a refused sign-in is not in the audit log");
        }
    }

    /// The session that a token is exchanged for. `proven` is told who shows it, once its signature is proven.
    async fn exchange(
        &self,
        request: SignInRequest,
        from: Option<IpAddr>,
        proven: &mut Option<String>,
    ) -> Result<NewApiKey, Denied> {
        let SignInRequest { tenant, token, nonce } = request;
        let head = Head::read(&token)?;
        let provider = self.provider_of(&head.issuer).await?;
        if provider.is_none() && !self.is_trusted(&head.issuer).await? {
            let shown: String = head.issuer.chars().take(200).collect();
            return Err(Error::Unreachable(format!("'{shown}' is configured nowhere")).into());
        }
        let ca = provider.as_ref().and_then(|provider| provider.ca.as_deref());
        let keys = self.issuer_keys(&head.issuer, ca, &head).await?;
        let claims = token::verify(&token, &head, &keys)?;
        let name: String = claims.name().chars().filter(|char| !char.is_control()).take(100).collect();
        *proven = Some(format!("{name} of {}", head.issuer));
        let now = self.config.clock.now();
        claims.check(&head.issuer, now.as_millis() / 1_000)?;
        let used = used(&token, &claims, &tenant)?;
        // From here on nobody changes members and policies of the tenant on this node; on others, the writes tell.
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        for _ in 0..ATTEMPTS_MAX {
            if state::get::<Timestamp>(&self.records, SIGN_INS, &used).await?.is_some() {
                return Err(Denied::Used);
            }
            let found =
                self.let_in(&tenant, &head.issuer, provider.as_ref(), &claims, nonce.as_deref()).await?;
            let mut writes = self.past_their_end(now).await?;
            writes.push(state::put(SIGN_INS, used.clone(), &now, Expect::Absent)?);
            writes.push(found.unchanged);
            let session = Session {
                issuer: head.issuer.clone(),
                subject: claims.subject()?.to_owned(),
                name: name.clone(),
                by: found.by,
            };
            let of = BTreeMap::from([
                ("tenant".to_owned(), tenant.to_string()),
                ("role".to_owned(), found.role.to_string()),
            ]);
            let who = proven.clone().unwrap_or_default();
            let begun = Begun::sign_in(&tenant, now, who, from, of);
            // In the session's own transaction: there is none without its line.
            let action = self.begun(begun, &mut writes)?;
            let key = ApiKey {
                tenant: tenant.clone(),
                role: found.role,
                functions: found.functions,
                digest: Digest::of(b""),
                created: now,
                expires: Some(after(now, found.seconds)),
                note: None,
                rotated_to: None,
                session: Some(session),
            };
            if let Some(new) = self.begin_session(key, writes).await? {
                tracing::info!(%tenant, name, key = new.info.id, role = %new.info.role, "signed in");
                let after = json!({ "key": new.info.id, "expires": new.info.expires });
                self.end_noted(action, Outcome::Done, Some(after)).await;
                return Ok(new);
            }
        }
        Err(state::contended().into())
    }

    /// The member or the trust policy that lets the holder of these claims in.
    async fn let_in(
        &self,
        tenant: &TenantId,
        issuer: &str,
        provider: Option<&Provider>,
        claims: &Claims,
        nonce: Option<&str>,
    ) -> Result<Found, Denied> {
        if let Some(provider) = provider {
            let members = self.members(tenant).await?;
            if let Ok(member) = decide::person(claims, provider, members.iter().map(|at| &at.value)) {
                claims.check_nonce(nonce)?;
                let id = Member::id(&member.issuer, &member.is);
                let key = format!("{tenant}/{id}");
                let at = members.iter().find(|at| at.key == key);
                return Ok(Found {
                    by: Grant::Member(id),
                    role: member.role,
                    functions: Vec::new(),
                    seconds: PERSON_SECONDS,
                    unchanged: state::put(MEMBERS, key, member, state::unchanged(at))?,
                });
            }
        }
        let policies = self.trust(tenant).await?;
        let named = policies.iter().map(|at| (at, &at.value));
        let by_name = named.map(|(at, trust)| (at.key.as_str(), trust));
        let (key, trust) = decide::program(claims, issuer, by_name)?;
        let at: Option<&At<Trust>> = policies.iter().find(|at| at.key == key);
        let name = key.rsplit('/').next().unwrap_or_default();
        let name = name.parse().map_err(|_| Error::Nobody)?;
        Ok(Found {
            by: Grant::Trust(name),
            role: trust.role,
            functions: trust.functions.clone(),
            seconds: PROGRAM_SECONDS,
            unchanged: state::put(TRUST, key.to_owned(), trust, state::unchanged(at))?,
        })
    }

    /// Clears away some of the records of tokens that have expired since: they are refused by their age.
    async fn past_their_end(&self, now: Timestamp) -> Result<Vec<Write>, Refusal> {
        let page = self.records.scan(SIGN_INS, "", None, CLEARED_MAX).await;
        let page = page.map_err(|error| state::refusal(&error))?;
        let hour = hour(now.as_millis() / 1_000);
        let past =
            page.records.into_iter().filter(|record| record.key.split('/').next() < Some(hour.as_str()));
        Ok(past.map(|record| state::delete(SIGN_INS, record.key, Expect::Any)).collect())
    }

    /// Ends the session whose key was shown.
    pub(crate) async fn sign_out(&self, who: &Who) -> Result<ApiKeyInfo, Refusal> {
        match who {
            Who::Key { id, key } if key.session.is_some() => self.revoke_api_key(&key.tenant, id).await,
            _ => {
                Err(Refusal::new(Code::BadRequest, "this is not the key of a session, which alone signs out")
                    .hint("an owner ends other keys with `rouse key revoke`"))
            }
        }
    }
}

/// The record that says that a token was exchanged for a tenant. Named by what is signed, since a signature can be written
/// in several ways; kept until the hour after the token's end, the clocks' difference included.
fn used(token: &str, claims: &Claims, tenant: &TenantId) -> Result<String, Error> {
    let digest = Digest::of(token::signed_part(token).as_bytes());
    let end = claims.expires()?.saturating_add(rouse_identity::claims::SKEW_SECONDS);
    Ok(format!("{}/{}/{tenant}", hour(end), digest.hex()))
}

fn hour(seconds: u64) -> String {
    format!("{:010}", seconds / HOUR_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_sort_as_they_come() {
        assert!(hour(0) < hour(3_600) && hour(9 * 3_600) < hour(10 * 3_600) && hour(3_599) == hour(0));
    }
}
