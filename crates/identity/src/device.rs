//! Signing in on a machine without a browser (RFC 8628): it shows a code, which a person types in elsewhere.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    Discovery, Error, Http,
    flow::{self, Answer, Declined, Tokens},
};

/// The longest that is waited, whatever the provider grants.
const WAIT_MAX: Duration = Duration::from_secs(30 * 60);

/// What the provider begins with (§3.2).
#[derive(Clone, Deserialize)]
pub struct Device {
    device_code: String,
    /// What the person types in.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same in one.
    #[serde(default)]
    pub verification_uri_complete: Option<String>,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("user_code", &self.user_code).finish_non_exhaustive()
    }
}

/// What to do after one more question (§3.5).
#[derive(Debug)]
pub enum Step {
    /// The person is done.
    Done(Tokens),
    /// Ask again after so long.
    Again(Duration),
    /// It came to nothing.
    Over(Declined),
}

/// Begins.
///
/// # Errors
/// The provider does not answer, or offers no such sign-in.
pub async fn begin(
    http: &Http,
    provider: &Discovery,
    client: &str,
    scopes: &[String],
) -> Result<Device, Error> {
    let endpoint =
        provider.device_authorization_endpoint.as_deref().ok_or_else(|| flow::lacks("sign-in by a code"))?;
    let form = [("client_id", client), ("scope", &flow::scope(scopes))];
    let (status, body) = http.post(endpoint, &form).await?;
    serde_json::from_slice(&body).map_err(|_| {
        let declined = serde_json::from_slice::<Declined>(&body).map(|declined| declined.to_string());
        let why = declined.unwrap_or_else(|_| status.to_string());
        Error::Unreachable(format!("it does not begin a sign-in by a code: {why}"))
    })
}

impl Device {
    /// How long the code holds.
    #[must_use]
    pub fn holds(&self) -> Duration {
        Duration::from_secs(self.expires_in).min(WAIT_MAX)
    }

    /// How long to wait before the first question.
    #[must_use]
    pub fn pause(&self) -> Duration {
        Duration::from_secs(self.interval.unwrap_or(5).clamp(1, 60))
    }

    /// Asks once whether the person is done.
    ///
    /// # Errors
    /// The provider does not answer as it must.
    pub async fn ask(
        &self,
        http: &Http,
        provider: &Discovery,
        client: &str,
        pause: Duration,
    ) -> Result<Step, Error> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", &self.device_code),
            ("client_id", client),
        ];
        Ok(step(flow::ask(http, provider, &form).await?, pause))
    }
}

/// Pure.
fn step(answer: Answer, pause: Duration) -> Step {
    match answer {
        Ok(tokens) => Step::Done(tokens),
        Err(declined) => match declined.error.as_str() {
            "authorization_pending" => Step::Again(pause),
            "slow_down" => Step::Again((pause + Duration::from_secs(5)).min(Duration::from_secs(60))),
            _ => Step::Over(declined),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_says_whether_to_wait_to_slow_down_or_to_give_up() {
        let said = |error: &str| Err(Declined { error: error.to_owned(), error_description: None });
        let pause = Duration::from_secs(5);
        assert!(matches!(step(said("authorization_pending"), pause), Step::Again(next) if next == pause));
        assert!(matches!(step(said("slow_down"), pause), Step::Again(next) if next == pause * 2));
        for over in ["access_denied", "expired_token", "invalid_grant", ""] {
            assert!(matches!(step(said(over), pause), Step::Over(_)), "{over}");
        }
    }
}
