//! Signing in: from a provider's token to a session that is kept, whichever way the token came.

pub(crate) mod browser;
pub(crate) mod build;

use rouse_api::{SignInOption, SignInRequest};
use rouse_identity::{Discovery, Http, discovery, flow};
use rouse_types::{ProviderName, SystemClock, Timestamp};

use super::{
    args::Global,
    out, report,
    session::{self, Renewal, Saved, Sessions},
};

/// A provider that is about to be asked.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) option: SignInOption,
    pub(crate) http: Http,
    pub(crate) said: Discovery,
}

impl Provider {
    /// Asks the platform which providers there are, and the one that is meant how it is talked to.
    pub(crate) async fn find(global: &Global, name: Option<&ProviderName>) -> anyhow::Result<Self> {
        let options = super::connect(global, None)?.sign_in_options().await?;
        let names: Vec<String> = options.iter().map(|option| option.name.to_string()).collect();
        let mut fit: Vec<_> =
            options.into_iter().filter(|option| name.is_none_or(|name| option.name == *name)).collect();
        let option = match (fit.pop(), name) {
            (Some(option), _) if fit.is_empty() => option,
            (Some(_), _) => {
                return Err(report::hinted(
                    "there are several providers",
                    format!("name one with --provider: {}", names.join(", ")),
                ));
            }
            (None, Some(name)) => {
                return Err(report::hinted(
                    format!("the platform has no provider '{name}' with which people sign in"),
                    format!(
                        "there are: {}",
                        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                    ),
                ));
            }
            (None, None) => {
                return Err(report::hinted(
                    "the platform has no provider with which people sign in",
                    "the operator adds one with `rouse provider add NAME --issuer URL --client-id ID`",
                ));
            }
        };
        let http = Http::new(rouse_image::authorities(), option.ca.as_deref())?;
        let said = Box::pin(discovery::discover(&http, &option.issuer)).await?;
        Ok(Self { option, http, said })
    }

    /// Exchanges a person's tokens for a session, and keeps it.
    pub(crate) async fn finish(
        &self,
        global: &Global,
        tokens: flow::Tokens,
        sent: Option<&str>,
    ) -> anyhow::Result<()> {
        let Some(token) = tokens.id_token else {
            return Err(report::hinted(
                format!("{} gave no ID token", self.option.issuer),
                "the provider must know the client as one of OpenID Connect",
            ));
        };
        let nonce = flow::nonce(&token, sent)?;
        let renewal = tokens.refresh_token.map(|refresh_token| Renewal {
            issuer: self.option.issuer.clone(),
            client_id: self.option.client_id.clone(),
            ca: self.option.ca.clone(),
            refresh_token,
            nonce: sent.map(str::to_owned),
        });
        let saved = exchange(global, token, nonce, renewal).await?;
        Sessions::open()?.set(global, Some(saved))
    }
}

/// Exchanges a token for a session's key.
async fn exchange(
    global: &Global,
    token: String,
    nonce: Option<String>,
    renewal: Option<Renewal>,
) -> anyhow::Result<Saved> {
    let request = SignInRequest { tenant: global.tenant.clone(), token, nonce };
    let new = super::connect(global, None)?.sign_in(&request).await?;
    let expires = new.info.expires.unwrap_or(Timestamp::default());
    Ok(Saved { key: new.key, expires, renewal })
}

/// Sees to it that there is a session, before a command that may want one: renews one that is over, and exchanges the
/// token of the build that this runs in. Without either nothing is done.
pub(crate) async fn prepare(global: &Global) -> anyhow::Result<()> {
    if global.token.is_some() {
        return Ok(());
    }
    let known = session::find(global)?;
    if known.as_ref().is_some_and(Saved::holds) {
        return Ok(());
    }
    if known.is_some_and(|saved| saved.renewal.is_some()) {
        return renew(global).await;
    }
    // On the platform's own machine the operator's token is at hand.
    let operator = super::state::token(&super::state::folder(global)).ok().flatten();
    match build::Source::find(build::AUDIENCE) {
        Some(source) if operator.is_none() => build::sign_in(global, &source).await,
        _ => Ok(()),
    }
}

/// Renews a session by its refresh token.
async fn renew(global: &Global) -> anyhow::Result<()> {
    let mut sessions = Sessions::open()?;
    let Some(saved) = sessions.get(global).cloned() else { return Ok(()) };
    // Another process may have done it meanwhile.
    let Some(renewal) = saved.renewal.clone().filter(|_| !saved.holds()) else { return Ok(()) };
    let http = Http::new(rouse_image::authorities(), renewal.ca.as_deref())?;
    let said = Box::pin(discovery::discover(&http, &renewal.issuer)).await?;
    let answer = Box::pin(flow::refresh(&http, &said, &renewal.client_id, &renewal.refresh_token)).await?;
    let over = |why: String| {
        Err(report::hinted(format!("the session is over: {why}"), "sign in again with `rouse login`"))
    };
    let tokens = match answer {
        Ok(tokens) => tokens,
        Err(declined) => {
            sessions.set(global, None)?;
            return over(declined.to_string());
        }
    };
    let Some(token) = tokens.id_token else { return over("the provider gave no ID token".to_owned()) };
    let nonce = flow::nonce(&token, renewal.nonce.as_deref())?;
    // Providers may give another one, and take the old one back.
    let refresh_token = tokens.refresh_token.unwrap_or(renewal.refresh_token.clone());
    let renewal = Renewal { refresh_token, ..renewal };
    // Kept even if the exchange fails: the old one may be of no use any more.
    sessions.set(global, Some(Saved { renewal: Some(renewal.clone()), ..saved }))?;
    let saved = exchange(global, token, nonce, Some(renewal)).await?;
    sessions.set(global, Some(saved))
}

/// Ends the session, here, at the platform and at the provider.
pub(crate) async fn end(global: &Global) -> anyhow::Result<()> {
    let mut sessions = Sessions::open()?;
    let Some(saved) = sessions.get(global).cloned() else {
        return Err(report::hinted(
            format!("nobody is signed in to {} for tenant {}", global.url, global.tenant),
            "name another with --url and --tenant",
        ));
    };
    sessions.set(global, None)?;
    if let Some(renewal) = &saved.renewal {
        let given_back = async {
            let http = Http::new(rouse_image::authorities(), renewal.ca.as_deref())?;
            let said = Box::pin(discovery::discover(&http, &renewal.issuer)).await?;
            Box::pin(flow::revoke(&http, &said, &renewal.client_id, &renewal.refresh_token)).await
        };
        if let Err(error) = given_back.await {
            out::note(&format!("the provider still knows the session: {error}"));
        }
    }
    use rouse_types::Clock as _;
    if saved.expires <= SystemClock.now() {
        return Ok(());
    }
    match super::connect(global, Some(saved.key))?.sign_out().await {
        // An owner ended it before.
        Err(refusal) if refusal.code == rouse_types::Code::Unauthorized => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
