//! Signing in as a build: by the token that its CI signs for it.
//!
//! | where | how it is had |
//! |---|---|
//! | anywhere | a file or a variable that is named |
//! | GitLab, and whoever sets it | the variable `ROUSE_ID_TOKEN` |
//! | GitHub, with `id-token: write` | asked for at `ACTIONS_ID_TOKEN_REQUEST_URL` |

use std::path::PathBuf;

use anyhow::Context as _;
use rouse_identity::Http;
use serde::Deserialize;

use super::exchange;
use crate::cli::{args::Global, report, session::Sessions};

/// For whom tokens are asked for when nothing else is said.
pub(crate) const AUDIENCE: &str = "rouse";

/// Where the token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Variable(String),
    GitHub { url: String, bearer: String },
}

impl Source {
    /// What this build offers, if it is one.
    pub(crate) fn find(audience: &str) -> Option<Self> {
        Self::among(audience, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Pure.
    fn among(audience: &str, get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        const VARIABLE: &str = "ROUSE_ID_TOKEN";
        if get(VARIABLE).is_some() {
            return Some(Self::Variable(VARIABLE.to_owned()));
        }
        let (url, bearer) = (get("ACTIONS_ID_TOKEN_REQUEST_URL")?, get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?);
        let mark = if url.contains('?') { '&' } else { '?' };
        let audience = rouse_api::percent::encode(audience);
        Some(Self::GitHub { url: format!("{url}{mark}audience={audience}"), bearer })
    }

    async fn token(&self) -> anyhow::Result<String> {
        match self {
            Self::File(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                Ok(text.trim().to_owned())
            }
            Self::Variable(name) => match std::env::var(name) {
                Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
                _ => Err(report::hinted(
                    format!("the variable {name} holds no token"),
                    "let the CI set it: see docs/guides/sign-in.md",
                )),
            },
            Self::GitHub { url, bearer } => {
                #[derive(Deserialize)]
                struct Answer {
                    value: String,
                }
                let http = Http::new(rouse_image::authorities(), None)?;
                let body = Box::pin(http.get(url, Some(bearer)))
                    .await
                    .context("ask GitHub for the build's token")?;
                let Answer { value } =
                    serde_json::from_slice(&body).context("read what GitHub says is the build's token")?;
                Ok(value)
            }
        }
    }
}

/// Exchanges the build's token for a session, and keeps it: a token is exchanged once.
pub(crate) async fn sign_in(global: &Global, source: &Source) -> anyhow::Result<()> {
    let token = source.token().await?;
    let saved = exchange(global, token, None, None).await.context("exchange the build's token for a key")?;
    Sessions::open()?.set(global, Some(saved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_known_by_what_its_ci_sets() {
        let find = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
            Source::among("my rouse", get)
        };
        assert_eq!(find(&[("CI", "true")]), None);
        assert_eq!(find(&[("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x")]), None);
        assert_eq!(find(&[("ROUSE_ID_TOKEN", "a.b.c")]), Some(Source::Variable("ROUSE_ID_TOKEN".to_owned())));
        let github = |url: &str| Some(Source::GitHub { url: url.to_owned(), bearer: "b".to_owned() });
        let set =
            |url| find(&[("ACTIONS_ID_TOKEN_REQUEST_URL", url), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "b")]);
        assert_eq!(set("https://x/t?v=2"), github("https://x/t?v=2&audience=my%20rouse"));
        assert_eq!(set("https://x/t"), github("https://x/t?audience=my%20rouse"));
    }
}
