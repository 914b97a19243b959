//! How a program without a secret gets a person's tokens: by a browser on the same machine (RFC 8252, RFC 7636), by one
//! elsewhere (`device`), and again later by a refresh token.
//!
//! ```text
//!   Attempt ─▶ url: the browser goes there ─▶ … ─▶ it comes back to the loopback ─▶ Attempt::code ─▶ Tokens
//! ```

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use serde::Deserialize;

use crate::{Discovery, Error, Http, token};

/// What a provider gives in the end.
#[derive(Clone, Deserialize)]
pub struct Tokens {
    /// Who the person is.
    #[serde(default)]
    pub id_token: Option<String>,
    /// What gets further tokens without the person.
    #[serde(default)]
    pub refresh_token: Option<String>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// What a provider says instead (RFC 6749 §5.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Declined {
    /// Its name in the specifications, such as `invalid_grant`.
    pub error: String,
    /// The same for people.
    #[serde(default)]
    pub error_description: Option<String>,
}

impl std::fmt::Display for Declined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What others wrote goes to a terminal.
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        f.write_str(&shown(&self.error))?;
        self.error_description.as_ref().map_or(Ok(()), |text| write!(f, " ({})", shown(text)))
    }
}

/// What came of asking for tokens.
pub type Answer = Result<Tokens, Declined>;

/// One attempt to sign in by a browser on this machine.
#[derive(Clone)]
pub struct Attempt {
    /// What the browser brings back, so that nobody else's answer is taken.
    state: String,
    /// What the token carries, so that no token of another attempt is taken.
    nonce: String,
    /// What shows the token endpoint that who began is who ends (RFC 7636).
    verifier: String,
    /// Where the browser comes back to.
    redirect: String,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("redirect", &self.redirect).finish_non_exhaustive()
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Unreachable("the system has no random numbers".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Attempt {
    /// Begins one whose browser comes back to this address of the loopback.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(redirect: String) -> Result<Self, Error> {
        Ok(Self { state: random()?, nonce: random()?, verifier: random()?, redirect })
    }

    /// The nonce, which the token must carry.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Where the browser is to go.
    ///
    /// # Errors
    /// People do not sign in by a browser there.
    pub fn url(&self, provider: &Discovery, client: &str, scopes: &[String]) -> Result<String, Error> {
        let endpoint =
            provider.authorization_endpoint.as_deref().ok_or_else(|| lacks("sign-in by a browser"))?;
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, self.verifier.as_bytes()));
        let scope = scope(scopes);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", &self.redirect),
            ("scope", &scope),
            ("state", &self.state),
            ("nonce", &self.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        // Without it there is no refresh token (OpenID Connect Core §11).
        if scopes.iter().any(|each| each == "offline_access") {
            query.append_pair("prompt", "consent");
        }
        let mark = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{mark}{}", query.finish()))
    }

    /// Reads what the browser came back with, the path and query of its request: the code, if it is this attempt's. None
    /// for requests of other kinds, which browsers make, too.
    ///
    /// # Errors
    /// The provider declined.
    pub fn code(&self, issuer: &str, request: &str) -> Result<Option<String>, Declined> {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let (mut code, mut state, mut said, mut declined, mut why) = (None, None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "code" => &mut code,
                "state" => &mut state,
                "iss" => &mut said,
                "error" => &mut declined,
                "error_description" => &mut why,
                _ => continue,
            };
            *place = Some(value.into_owned());
        }
        // Another provider's answer is not taken for this one's (RFC 9207).
        let ours = path == "/callback" && state.as_deref() == Some(&self.state);
        if !ours || said.is_some_and(|said| said != issuer) {
            return Ok(None);
        }
        match declined {
            Some(error) => Err(Declined { error, error_description: why }),
            None => Ok(code),
        }
    }

    /// Makes tokens of the code.
    ///
    /// # Errors
    /// The provider does not answer as it must.
    pub async fn tokens(
        &self,
        http: &Http,
        provider: &Discovery,
        client: &str,
        code: &str,
    ) -> Result<Answer, Error> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect),
            ("client_id", client),
            ("code_verifier", &self.verifier),
        ];
        ask(http, provider, &form).await
    }
}

/// Gets further tokens without the person.
///
/// # Errors
/// The provider does not answer as it must.
pub async fn refresh(
    http: &Http,
    provider: &Discovery,
    client: &str,
    refresh_token: &str,
) -> Result<Answer, Error> {
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token), ("client_id", client)];
    ask(http, provider, &form).await
}

/// Has a refresh token forgotten (RFC 7009), where the provider can.
///
/// # Errors
/// The provider does not answer.
pub async fn revoke(
    http: &Http,
    provider: &Discovery,
    client: &str,
    refresh_token: &str,
) -> Result<(), Error> {
    let Some(endpoint) = &provider.revocation_endpoint else { return Ok(()) };
    let form = [("token", refresh_token), ("token_type_hint", "refresh_token"), ("client_id", client)];
    http.post(endpoint, &form).await.map(drop)
}

/// The nonce to send along with a token for it to be exchanged.
///
/// # Errors
/// The token is of another attempt than the one with this nonce.
pub fn nonce(id_token: &str, sent: Option<&str>) -> Result<Option<String>, Error> {
    match token::claimed_nonce(id_token)? {
        Some(nonce) if sent.is_some_and(|sent| sent != nonce) => Err(Error::Nonce),
        nonce => Ok(nonce),
    }
}

/// What is asked for.
pub(crate) fn scope(scopes: &[String]) -> String {
    let further = scopes.iter().map(String::as_str).filter(|each| *each != "openid");
    ["openid"].into_iter().chain(further).collect::<Vec<_>>().join(" ")
}

pub(crate) fn lacks(what: &str) -> Error {
    Error::Unreachable(format!("it offers no {what}"))
}

pub(crate) async fn ask(http: &Http, provider: &Discovery, form: &[(&str, &str)]) -> Result<Answer, Error> {
    let endpoint = provider.token_endpoint.as_deref().ok_or_else(|| lacks("tokens"))?;
    let (status, body) = http.post(endpoint, form).await?;
    let wrong = |_| Error::Unreachable(format!("{endpoint} answers {status}, with what are no tokens"));
    if status.is_success() {
        return serde_json::from_slice(&body).map(Ok).map_err(wrong);
    }
    serde_json::from_slice(&body).map(Err).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Discovery {
        let text = r#"{"issuer":"https://id","jwks_uri":"https://id/k","authorization_endpoint":"https://id/auth?x=1"}"#;
        serde_json::from_str(text).expect("a document")
    }

    #[test]
    fn the_browser_is_sent_with_a_challenge_and_never_with_what_it_is_made_from() {
        let attempt = Attempt::new("http://127.0.0.1:7/callback".to_owned()).expect("random numbers");
        let url = attempt.url(&provider(), "rouse", &["email".to_owned()]).expect("an address");
        assert!(url.starts_with("https://id/auth?x=1&response_type=code&client_id=rouse&"), "{url}");
        assert!(
            url.contains("&redirect_uri=http%3A%2F%2F127.0.0.1%3A7%2Fcallback&scope=openid+email&"),
            "{url}"
        );
        assert!(
            url.contains(&attempt.nonce) && url.contains(&attempt.state) && url.contains("=S256"),
            "{url}"
        );
        assert!(!url.contains(&attempt.verifier) && !url.contains("prompt"), "{url}");
        let offline = attempt.url(&provider(), "rouse", &["offline_access".to_owned()]).expect("an address");
        assert!(offline.ends_with("&prompt=consent"), "{offline}");
        let other = Attempt::new(String::new()).expect("random numbers");
        assert!(other.state != attempt.state && attempt.verifier.len() == 43);
        assert!(!format!("{attempt:?}").contains(&attempt.verifier));
        // The example of RFC 7636, appendix B.
        let known = Attempt { verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(), ..attempt };
        let url = known.url(&provider(), "rouse", &[]).expect("an address");
        assert!(url.contains("code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&"), "{url}");
    }

    #[test]
    fn only_the_answer_to_this_attempt_is_taken() {
        let attempt = Attempt::new(String::new()).expect("random numbers");
        let state = &attempt.state;
        let code = |request: &str| attempt.code("https://id", request);
        assert_eq!(code(&format!("/callback?code=c&state={state}")), Ok(Some("c".to_owned())));
        assert_eq!(
            code(&format!("/callback?code=c%2B1&state={state}&iss=https%3A%2F%2Fid")),
            Ok(Some("c+1".to_owned()))
        );
        for other in [
            "/callback?code=c&state=x".to_owned(),
            "/callback?code=c".to_owned(),
            "/callback?error=access_denied".to_owned(),
            format!("/favicon.ico?code=c&state={state}"),
            format!("/callback?code=c&state={state}&iss=https%3A%2F%2Fevil"),
            format!("/callback?state={state}"),
            "/".to_owned(),
        ] {
            assert_eq!(code(&other), Ok(None), "{other}");
        }
        let declined = code(&format!("/callback?error=access_denied&error_description=no%1b&state={state}"));
        assert_eq!(declined.expect_err("declined").to_string(), "access_denied (no)");
    }
}
