//! What a provider says of itself (OpenID Connect Discovery 1.0 §4).

use serde::Deserialize;

use crate::{Error, Http, Keys, url::Url};

/// The document, as far as it is of use here. Providers add fields as they like.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Discovery {
    /// Who it is about: the issuer that was asked.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where people sign in.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// Where codes and refresh tokens become tokens.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// Where machines without a browser begin (RFC 8628).
    #[serde(default)]
    pub device_authorization_endpoint: Option<String>,
    /// Where refresh tokens are given back (RFC 7009).
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
}

/// Asks a provider of itself.
///
/// # Errors
/// It does not answer, or says something else than it must.
pub async fn discover(http: &Http, issuer: &str) -> Result<Discovery, Error> {
    let body =
        http.get(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')), None).await?;
    read(issuer, &body)
}

/// Reads the document: it must be about this issuer, and lead to no place in the clear.
///
/// # Errors
/// It is not such a document.
pub fn read(issuer: &str, body: &[u8]) -> Result<Discovery, Error> {
    let wrong = |what: String| Error::Unreachable(format!("the configuration of {issuer} {what}"));
    let found: Discovery =
        serde_json::from_slice(body).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    // Else one provider could speak for another (§4.3).
    if found.issuer != issuer {
        let said: String = found.issuer.chars().take(200).collect();
        return Err(wrong(format!("is of '{said}'")));
    }
    let issuer_tls = Url::parse(issuer)?.tls;
    let further = [
        &found.authorization_endpoint,
        &found.token_endpoint,
        &found.device_authorization_endpoint,
        &found.revocation_endpoint,
    ];
    for each in further.into_iter().flatten().chain([&found.jwks_uri]) {
        let url = Url::parse(each)?;
        if issuer_tls && !url.tls {
            return Err(wrong(format!("leads to {}, which has no TLS", url.authority)));
        }
    }
    Ok(found)
}

/// Asks a provider for its keys.
///
/// # Errors
/// It does not answer, or with something else.
pub async fn keys(http: &Http, issuer: &str) -> Result<Keys, Error> {
    let found = discover(http, issuer).await?;
    Keys::read(&http.get(&found.jwks_uri, None).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_of_the_issuer_that_was_asked_and_stays_on_tls() {
        let document =
            |issuer: &str, keys: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}","x":1}}"#);
        let read = |text: &str| read("https://id.example", text.as_bytes());
        assert!(read(&document("https://id.example", "https://keys.example/k")).is_ok());
        for (issuer, keys) in [
            ("https://id.example/", "https://keys.example/k"),
            ("https://evil.example", "https://keys.example/k"),
            ("https://id.example", "http://keys.example/k"),
            ("https://id.example", "http://127.0.0.1:1/k"),
            ("https://id.example", "file:///etc/passwd"),
        ] {
            assert!(read(&document(issuer, keys)).is_err(), "{issuer} {keys}");
        }
        assert!(read("[]").is_err() && read(r#"{"issuer":"https://id.example"}"#).is_err());
    }
}
