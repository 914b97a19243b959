//! Certificates by ACME (RFC 8555), for the domains of functions and the platform's own, from one authority.
//!
//! ```text
//!  domains that functions have ─┐
//!  certificates that are held ──┼─▶ decide (pure) ─┬─▶ order, prove by HTTP-01, take ─▶ tls/acme.json ─▶ gateways
//!  failures so far ─────────────┘                  └─▶ wait, or until a deployment changes the domains
//! ```
//!
//! One order at a time, and so many an hour: nobody who deploys many names uses up what the authority grants the platform.
//! A name that no function has is never asked for, and none that the operator's own files have.

mod decide;
mod http;
mod order;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rouse_api::CertificateInfo;
use rouse_store::records::Expect;
use rouse_tls::{ACME, Certificate, FILES, Pair, challenge};
use rouse_types::{Domain, FunctionName, Refusal, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub(crate) use decide::Failed;
use decide::{Life, Next};

use crate::{
    control::Control,
    state::{self, At, Claim},
};

/// Let's Encrypt's.
pub const DIRECTORY_DEFAULT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Orders an hour, good or bad: Let's Encrypt takes 300 of an account in three hours.
const ORDERS_AN_HOUR: usize = 90;
/// How long one order may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);
/// The pause when the store or the disk fails.
const PAUSE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The authority, and who we are there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Its directory.
    pub directory: String,
    /// Where it writes to when a certificate is not renewed: an address of electronic mail.
    pub contact: Option<String>,
    /// What is trusted of it besides what the host trusts, as PEM: a private authority's root.
    pub ca: Option<String>,
}

impl Settings {
    /// Whether they can be used.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if !self.directory.starts_with("https://") {
            return Err(format!("'{}' is no authority's directory: it begins with https://", self.directory));
        }
        if self.contact.as_ref().is_some_and(|contact| !contact.contains('@')) {
            return Err("the contact is an address of electronic mail, such as ops@example.com".to_owned());
        }
        http::Http::new(self.ca.as_deref()).map(drop)
    }
}

/// Gets and renews certificates until `stop`.
pub(crate) async fn keep(control: Arc<Control>, settings: Settings, stop: CancellationToken) {
    challenge::clear(&control.config.state);
    let mut recent = VecDeque::new();
    while !stop.is_cancelled() {
        let pause = match step(&control, &settings, &mut recent, &stop).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "certificates cannot be kept; it is tried again");
                PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = control.domains.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// One look, and one order at most. Says how long there is nothing to do.
async fn step(
    control: &Control,
    settings: &Settings,
    recent: &mut VecDeque<Timestamp>,
    stop: &CancellationToken,
) -> Result<Duration, String> {
    let now = control.config.clock.now();
    let wanted = control.wanted().await.map_err(|refusal| refusal.to_string())?;
    let mut pairs = control.pairs(ACME).map_err(|error| error.to_string())?;
    let held: BTreeMap<Domain, Life> =
        wanted.iter().filter_map(|domain| Some((domain.clone(), life(&pairs, domain)?))).collect();
    let failed = control.failures().await.map_err(|refusal| refusal.to_string())?;
    recent.retain(|&at| now.since(at) < HOUR);
    let domain = match decide::next(&wanted, &held, &failed, now) {
        Next::Wait(pause) => return Ok(pause),
        Next::Order(_) if recent.len() >= ORDERS_AN_HOUR => {
            return Ok(recent.front().map_or(PAUSE, |&first| HOUR.saturating_sub(now.since(first))));
        }
        Next::Order(domain) => domain,
    };
    recent.push_back(now);
    let order = order::certificate(&control.config.state, settings, &domain);
    let got = tokio::select! {
        got = tokio::time::timeout(ORDER_TIMEOUT, Box::pin(order)) => {
            got.unwrap_or_else(|_| Err(format!("the authority did not end within {} s", ORDER_TIMEOUT.as_secs())))
        }
        () = stop.cancelled() => return Ok(Duration::ZERO),
    };
    let now = control.config.clock.now();
    let outcome = match got {
        Ok(pair) => {
            tracing::info!(%domain, from = settings.directory, "a certificate is in force");
            // Those that have ended are of no use to anybody.
            pairs.retain(|(_, other)| !other.names.contains(&domain.to_string()) && other.not_after > now);
            let mut all: Vec<Pair> = pairs.into_iter().map(|(pair, _)| pair).collect();
            all.push(pair);
            rouse_tls::hand_over(&control.config.state, ACME, &all, None)
                .map_err(|error| error.to_string())?;
            None
        }
        Err(error) => {
            let times = failed.get(&domain).map_or(0, |failed| failed.times).saturating_add(1);
            tracing::warn!(%domain, error, times, "no certificate");
            Some(Failed { times, at: now, error: error.chars().take(1_000).collect() })
        }
    };
    control.note(&domain, outcome).await.map_err(|refusal| refusal.to_string())?;
    Ok(Duration::ZERO)
}

fn life(pairs: &[(Pair, Certificate)], domain: &Domain) -> Option<Life> {
    let of = pairs.iter().filter(|(_, read)| read.names.iter().any(|name| name == domain.as_str()));
    let newest = of.max_by_key(|(_, read)| read.not_after)?;
    Some(Life { not_before: newest.1.not_before, not_after: newest.1.not_after })
}

/// Whether a certificate is for a domain, by its name or a wildcard.
fn covers(read: &Certificate, domain: &Domain) -> bool {
    let parent = domain.as_str().split_once('.').map(|(_, parent)| format!("*.{parent}"));
    read.names.iter().any(|name| name == domain.as_str() || Some(name) == parent.as_ref())
}

impl Control {
    /// The certificates of one of the files, those left out that are none.
    fn pairs(&self, file: &str) -> std::io::Result<Vec<(Pair, Certificate)>> {
        let pairs = rouse_tls::read(&self.config.state.join(file))?;
        Ok(pairs.into_iter().filter_map(|pair| pair.load().ok().map(|read| (pair, read))).collect())
    }

    /// The platform's own domain, if it is one that an authority could know.
    fn own_domain(&self) -> Option<Domain> {
        self.config.domain.to_ascii_lowercase().parse().ok()
    }

    /// The domains that certificates are to be got for.
    async fn wanted(&self) -> Result<BTreeSet<Domain>, Refusal> {
        let files = self.pairs(FILES).map_err(|error| state::io_refusal("read certificates", &error))?;
        let claims = state::scan::<Claim>(&self.records, state::DOMAINS, "").await?;
        let claimed = claims.into_iter().filter_map(|at| at.key.parse::<Domain>().ok());
        let all = claimed.chain(self.own_domain());
        Ok(all.filter(|domain| !files.iter().any(|(_, read)| covers(read, domain))).collect())
    }

    async fn failures(&self) -> Result<BTreeMap<Domain, Failed>, Refusal> {
        let records = state::scan::<Failed>(&self.records, state::CERTIFICATES, "").await?;
        Ok(records.into_iter().filter_map(|at| Some((at.key.parse().ok()?, at.value))).collect())
    }

    /// Notes what became of an order.
    async fn note(&self, domain: &Domain, failed: Option<Failed>) -> Result<(), Refusal> {
        let key = domain.to_string();
        let write = match failed {
            Some(failed) => state::put(state::CERTIFICATES, key, &failed, Expect::Any)?,
            None => state::delete(state::CERTIFICATES, key, Expect::Any),
        };
        state::commit(&self.records, vec![write]).await.map(drop)
    }

    /// What a tenant's domains are answered with, and the platform's own.
    pub(crate) async fn certificates(&self, tenant: &TenantId) -> Result<Vec<CertificateInfo>, Refusal> {
        let unreadable = |error| state::io_refusal("read certificates", &error);
        let mut pairs = self.pairs(FILES).map_err(unreadable)?;
        pairs.extend(self.pairs(ACME).map_err(unreadable)?);
        let failed = self.failures().await?;
        let show = |domain: Domain, function: Option<FunctionName>| {
            let found = pairs.iter().find(|(_, read)| covers(read, &domain)).map(|(_, read)| read);
            let failed = failed.get(&domain);
            CertificateInfo {
                from: found.map(|read| read.from.clone()),
                until: found.map(|read| read.not_after),
                error: failed.map(|failed| failed.error.clone()),
                next: failed.map(Failed::next),
                domain,
                function,
            }
        };
        let claims = state::scan::<Claim>(&self.records, state::DOMAINS, "").await?;
        let own = claims.into_iter().filter(|at| at.value.tenant == *tenant);
        let of_functions =
            own.filter_map(|At { key, value, .. }| Some((key.parse().ok()?, Some(value.function))));
        let all = of_functions.chain(self.own_domain().map(|domain| (domain, None)));
        Ok(all.map(|(domain, function)| show(domain, function)).collect())
    }
}
