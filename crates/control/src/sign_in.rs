//! Sign-in: a provider's token becomes a session, which is an API key that lives for hours.
//!
//! ```text
//!   token ─▶ is its issuer known? ─▶ its signature, its times ─▶ member or trust policy of the tenant ─▶ key
//!     └──────────────┴───────────────────────┴──────────────────────────────┴─▶ one 401 for all; why: the log
//! ```
//!
//! Strangers reach this. So nothing is fetched that the operator did not configure, the signature is checked before
//! anything of the tenant is looked at, and whatever is wrong is answered the same.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rouse_api::{ApiKeyInfo, NewApiKey, SignInRequest};
use rouse_identity::{
    Claims, Error, decide,
    token::{self, Head, TOKEN_BYTES_MAX},
};
use rouse_store::records::{Expect, Write};
use rouse_types::{
    ApiKey, Code, Digest, Grant, Member, Provider, Refusal, Role, Session, TenantId, Timestamp, Trust,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    api_keys::after,
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
/// Sign-ins under way at once.
const PLACES: usize = 64;
/// Sign-ins a second, and how many may come at once: a signature takes a tenth of a millisecond to check.
const PER_SECOND: u32 = 50;
const BURST: u32 = 200;
/// Hours since the epoch, as the keys of records sort.
const HOUR_SECONDS: u64 = 3_600;
/// Records of tokens past their end that one sign-in clears away.
const CLEARED_MAX: usize = 50;

/// How many may try to sign in.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    /// When all that was let through so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), paid: Mutex::default() }
    }
}

impl Gate {
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let busy = || {
            Refusal::new(Code::TooManyRequests, "too many sign in at once")
                .hint("try again in a moment")
                .retry_after(Duration::from_secs(1))
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = Some(pay(*paid, now).ok_or_else(busy)?);
        Ok(place)
    }
}

/// One more is let through if what came before is paid for but for a burst: then it is paid for at this time. Pure.
fn pay(paid: Option<Instant>, now: Instant) -> Option<Instant> {
    let each = Duration::from_secs(1) / PER_SECOND;
    let next = paid.unwrap_or(now).max(now) + each;
    (next <= now + each * BURST).then_some(next)
}

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
        &self,
        request: SignInRequest,
        from: Option<IpAddr>,
    ) -> Result<NewApiKey, Refusal> {
        let tenant = request.tenant.clone();
        let why = match Box::pin(self.exchange(request)).await {
            Ok(new) => return Ok(new),
            Err(Denied::Platform(refusal)) => return Err(refusal),
            Err(Denied::Token(error)) => error.to_string(),
            Err(Denied::Used) => "it was exchanged before".to_owned(),
        };
        tracing::warn!(%tenant, why, ?from, "a token that was shown to sign in is not taken");
        Err(Refusal::new(Code::Unauthorized, "the token opens nothing of this tenant").hint(
            "whether it has expired, was used before, or is nobody's who is a member or trusted stands in the \
             platform's log; an owner of the tenant looks with `rouse member list` and `rouse trust list`",
        ))
    }

    async fn exchange(&self, request: SignInRequest) -> Result<NewApiKey, Denied> {
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
                name: claims.name().chars().take(100).collect(),
                by: found.by,
            };
            let name = session.name.clone();
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
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut paid = None;
        for _ in 0..BURST {
            paid = pay(paid, now);
            assert!(paid.is_some());
        }
        assert_eq!(pay(paid, now), None);
        let later = now + Duration::from_secs(1);
        for _ in 0..PER_SECOND {
            paid = pay(paid, later);
            assert!(paid.is_some());
        }
        assert_eq!(pay(paid, later), None);
        assert!(pay(paid, now + Duration::from_secs(3_600)).is_some());
    }

    #[test]
    fn hours_sort_as_they_come() {
        assert!(hour(0) < hour(3_600) && hour(9 * 3_600) < hour(10 * 3_600) && hour(3_599) == hour(0));
    }
}
