//! Trust policies of tenants: records of the store. They name issuers that the operator configured, or that are the same
//! for all the world; so no tenant has the platform fetch from where it likes.

use rouse_api::TrustInfo;
use rouse_identity::decide::{PUBLIC_ISSUERS, is_narrow};
use rouse_types::{Code, Grant, Refusal, TenantId, Trust, TrustName};

use crate::{
    api_keys::FUNCTIONS_MAX,
    control::Control,
    state::{self, ATTEMPTS_MAX, At, TRUST},
};

/// Trust policies of one tenant.
const POLICIES_MAX: usize = 100;
/// Claims that one policy names.
const CLAIMS_MAX: usize = 20;
/// The longest audience and the longest name of a claim, in bytes.
const TEXT_BYTES_MAX: usize = 200;

impl Control {
    pub(crate) async fn trust(&self, tenant: &TenantId) -> Result<Vec<At<Trust>>, Refusal> {
        state::scan(&self.records, TRUST, &format!("{tenant}/")).await
    }

    /// Whether tokens of this issuer are taken by anyone here, so that its keys may be fetched.
    pub(crate) async fn is_trusted(&self, issuer: &str) -> Result<bool, Refusal> {
        if !PUBLIC_ISSUERS.contains(&issuer) {
            return Ok(false);
        }
        let all = state::scan::<Trust>(&self.records, TRUST, "").await?;
        Ok(all.iter().any(|at| at.value.issuer == issuer))
    }

    pub(crate) async fn list_trust(&self, tenant: &TenantId) -> Result<Vec<TrustInfo>, Refusal> {
        Ok(self.trust(tenant).await?.into_iter().filter_map(shown).collect())
    }

    pub(crate) async fn put_trust(
        &self,
        tenant: &TenantId,
        name: TrustName,
        trust: Trust,
    ) -> Result<TrustInfo, Refusal> {
        self.check_trust(&trust).await?;
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        let key = format!("{tenant}/{name}");
        for _ in 0..ATTEMPTS_MAX {
            let known = self.trust(tenant).await?;
            let before = known.iter().find(|at| at.key == key);
            if before.is_none() && known.len() >= POLICIES_MAX {
                return Err(wrong(
                    format!("tenant '{tenant}' has {POLICIES_MAX} trust policies already"),
                    "`rouse trust delete` those that are no longer needed",
                ));
            }
            let write = state::put(TRUST, key.clone(), &trust, state::unchanged(before))?;
            if self.end_sessions(tenant, &Grant::Trust(name.clone()), write).await? {
                tracing::info!(%tenant, trust = %name, "set a trust policy");
                return Ok(TrustInfo { name, trust });
            }
        }
        Err(state::contended())
    }

    pub(crate) async fn delete_trust(
        &self,
        tenant: &TenantId,
        name: TrustName,
    ) -> Result<TrustInfo, Refusal> {
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        let key = format!("{tenant}/{name}");
        for _ in 0..ATTEMPTS_MAX {
            let found = state::get::<Trust>(&self.records, TRUST, &key).await?.ok_or_else(|| {
                Refusal::new(Code::TrustNotFound, format!("tenant '{tenant}' has no trust policy '{name}'"))
                    .hint("`rouse trust list` shows which there are")
            })?;
            let write = state::delete(TRUST, key.clone(), state::unchanged(Some(&found)));
            if self.end_sessions(tenant, &Grant::Trust(name.clone()), write).await? {
                tracing::info!(%tenant, trust = %name, "deleted a trust policy");
                return Ok(TrustInfo { name, trust: found.value });
            }
        }
        Err(state::contended())
    }

    async fn check_trust(&self, trust: &Trust) -> Result<(), Refusal> {
        is_narrow(trust).map_err(|why| wrong(why, "see the guide: docs/guides/sign-in.md"))?;
        let fits =
            |text: &str| (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
        if !fits(&trust.audience) || !trust.claims.keys().all(|name| fits(name)) {
            return Err(wrong(
                "the audience or a claim's name is empty or too long",
                "200 bytes are allowed",
            ));
        }
        if trust.claims.len() > CLAIMS_MAX || trust.functions.len() > FUNCTIONS_MAX {
            let what =
                format!("a trust policy names at most {CLAIMS_MAX} claims and {FUNCTIONS_MAX} functions");
            return Err(wrong(what, "leave functions out: then it is for all"));
        }
        if PUBLIC_ISSUERS.contains(&trust.issuer.as_str()) {
            return Ok(());
        }
        let Some(provider) = self.provider_of(&trust.issuer).await? else {
            let shown: String = trust.issuer.chars().take(200).collect();
            return Err(wrong(
                format!("the issuer '{shown}' is not known to this platform"),
                "the operator allows it with `rouse provider add NAME --issuer URL`; GitHub's and GitLab's own are \
                 known",
            ));
        };
        // Else a person's token would open what is meant for builds.
        if provider.client_id.iter().chain(&provider.audiences).any(|taken| *taken == trust.audience) {
            return Err(wrong(
                format!("'{}' is the audience of people who sign in", trust.audience),
                "choose another audience for builds",
            ));
        }
        Ok(())
    }
}

fn wrong(what: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(Code::BadRequest, what).hint(hint)
}

fn shown(at: At<Trust>) -> Option<TrustInfo> {
    let name = at.key.rsplit('/').next()?.parse().ok()?;
    Some(TrustInfo { name, trust: at.value })
}
