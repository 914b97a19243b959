//! `rouse login` and `rouse logout`.

use crate::cli::{
    self,
    args::{Global, LoginArgs},
    out, session,
    sign_in::{
        self, Provider, browser,
        build::{self, Source},
    },
    units,
};

pub(crate) async fn login(global: &Global, args: LoginArgs) -> anyhow::Result<()> {
    let LoginArgs { provider, device, no_browser, token_file, token_env, audience } = args;
    let named = token_file.map(Source::File).or(token_env.map(Source::Variable));
    let asks_a_person = provider.is_some() || device || no_browser;
    let source = named.or_else(|| if asks_a_person { None } else { Source::find(&audience) });
    match source {
        Some(source) => build::sign_in(global, &source).await?,
        None => {
            let provider = Provider::find(global, provider.as_ref()).await?;
            match device {
                true => browser::elsewhere(global, &provider).await?,
                false => browser::here(global, &provider, !no_browser).await?,
            }
        }
    }
    let Some(saved) = session::find(global)? else { return Ok(()) };
    let who = cli::connect(global, Some(saved.key))?.who_am_i().await?;
    if global.json {
        return out::json(&who);
    }
    let name = who.session.map(|session| session.name).unwrap_or_default();
    let role = who.role.map(|role| role.to_string()).unwrap_or_default();
    out::text(&format!(
        "signed in as {name}: tenant {}, role {role}, until {}\n",
        global.tenant,
        units::time(saved.expires)
    ))
}

pub(crate) async fn logout(global: &Global) -> anyhow::Result<()> {
    sign_in::end(global).await?;
    if global.json {
        return out::json(&serde_json::json!({ "tenant": global.tenant }));
    }
    out::text(&format!("signed out of tenant {}\n", global.tenant))
}
