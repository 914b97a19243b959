//! Providers of identities: records of the store, which the operator alone sets. So the platform fetches from nowhere
//! that a tenant or a stranger chose.

use rouse_api::{ProviderInfo, SignInOption};
use rouse_store::records::Expect;
use rouse_types::{Code, Provider, ProviderName, Refusal};

use crate::{
    control::Control,
    state::{self, At, Committed, PROVIDERS},
};

/// Providers of one platform.
const PROVIDERS_MAX: usize = 50;
/// Audiences, and scopes, of one provider.
const LIST_MAX: usize = 20;
/// The longest text of a provider's settings, in bytes.
const TEXT_BYTES_MAX: usize = 200;

impl Control {
    pub(crate) async fn providers(&self) -> Result<Vec<At<Provider>>, Refusal> {
        state::scan(&self.records, PROVIDERS, "").await
    }

    /// The provider of this issuer, if the operator configured it.
    pub(crate) async fn provider_of(&self, issuer: &str) -> Result<Option<Provider>, Refusal> {
        let found = self.providers().await?.into_iter().find(|at| at.value.issuer == issuer);
        Ok(found.map(|at| at.value))
    }

    pub(crate) async fn list_providers(&self) -> Result<Vec<ProviderInfo>, Refusal> {
        let show = |at: At<Provider>| Some(ProviderInfo { name: at.key.parse().ok()?, provider: at.value });
        Ok(self.providers().await?.into_iter().filter_map(show).collect())
    }

    /// Those with which people sign in, as anyone may know who is about to.
    pub(crate) async fn sign_in_options(&self) -> Result<Vec<SignInOption>, Refusal> {
        let show = |ProviderInfo { name, provider }| {
            let Provider { issuer, client_id, scopes, ca, .. } = provider;
            Some(SignInOption { name, issuer, client_id: client_id?, scopes, ca })
        };
        Ok(self.list_providers().await?.into_iter().filter_map(show).collect())
    }

    pub(crate) async fn put_provider(
        &self,
        name: ProviderName,
        provider: Provider,
    ) -> Result<ProviderInfo, Refusal> {
        check(&provider)?;
        let _lock = self.locks.hold("providers".to_owned()).await;
        let known = self.providers().await?;
        if let Some(same) =
            known.iter().find(|at| at.key != name.as_str() && at.value.issuer == provider.issuer)
        {
            return Err(wrong(
                format!("the provider '{}' has this issuer already", same.key),
                "one issuer is one provider: change that one, or delete it first",
            ));
        }
        let before = known.iter().find(|at| at.key == name.as_str());
        if before.is_some_and(|at| at.value.issuer != provider.issuer) {
            return Err(wrong(
                format!("the provider '{name}' has another issuer"),
                "delete it first, which ends the sessions of whoever signed in by it",
            ));
        }
        if before.is_none() && known.len() >= PROVIDERS_MAX {
            return Err(wrong(
                format!("there are {PROVIDERS_MAX} providers already"),
                "delete one that nobody uses",
            ));
        }
        // Now, so that a mistake shows where it is made.
        self.fetch_keys(&provider.issuer, provider.ca.as_deref()).await.map_err(|error| {
            wrong(
                format!("the provider cannot be used: {error}"),
                "check the issuer's URL, and whether this machine reaches and trusts it (--ca)",
            )
        })?;
        let write = state::put(PROVIDERS, name.to_string(), &provider, state::unchanged(before))?;
        match state::commit(&self.records, vec![write]).await? {
            Committed::Done => Ok(ProviderInfo { name, provider }),
            Committed::Conflict => Err(state::contended()),
        }
    }

    /// Deletes a provider, and ends the sessions of whoever signed in by it.
    pub(crate) async fn delete_provider(&self, name: ProviderName) -> Result<ProviderInfo, Refusal> {
        let _lock = self.locks.hold("providers".to_owned()).await;
        let found = state::get::<Provider>(&self.records, PROVIDERS, name.as_str()).await?;
        let Some(At { value: provider, .. }) = found else {
            return Err(not_found(&name));
        };
        state::commit(&self.records, vec![state::delete(PROVIDERS, name.to_string(), Expect::Any)]).await?;
        self.issuers.forget(&provider.issuer);
        for tenant in self.list_tenants().await? {
            self.end_sessions_of(&tenant.tenant, &provider.issuer).await?;
        }
        Ok(ProviderInfo { name, provider })
    }
}

pub(crate) fn not_found(name: &ProviderName) -> Refusal {
    Refusal::new(Code::ProviderNotFound, format!("there is no provider '{name}'"))
        .hint("`rouse provider list` shows the operator which there are")
}

fn wrong(what: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(Code::BadRequest, what).hint(hint)
}

fn check(provider: &Provider) -> Result<(), Refusal> {
    rouse_identity::check_url(&provider.issuer).map_err(|error| {
        wrong(
            error.to_string(),
            "write the issuer exactly as the provider's tokens do, such as https://id.example.com",
        )
    })?;
    if let Some(ca) = &provider.ca {
        rouse_identity::http::authorities(ca)
            .map_err(|error| wrong(error.to_string(), "give certificates in PEM"))?;
    }
    let Provider { client_id, audiences, groups_claim, scopes, .. } = provider;
    let texts = client_id.iter().chain(audiences).chain(scopes).chain([groups_claim]);
    let fits = |text: &String| {
        (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    };
    if let Some(text) = texts.clone().find(|text| !fits(text)) {
        let shown: String = text.chars().take(40).collect();
        return Err(wrong(
            format!("'{shown}' is no client id, audience, scope or claim"),
            "each is 1 to 200 printable characters without spaces",
        ));
    }
    if audiences.len() > LIST_MAX || scopes.len() > LIST_MAX {
        return Err(wrong(format!("a provider has at most {LIST_MAX} audiences and scopes"), "name fewer"));
    }
    Ok(())
}
