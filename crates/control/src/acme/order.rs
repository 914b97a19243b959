//! One order of an ACME authority (RFC 8555 §7.4): the account, the proof by HTTP-01, the certificate.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rouse_store::file;
use rouse_tls::{Pair, challenge};
use rouse_types::{Digest, Domain};

use super::{Settings, http::Http};

/// How long the authority may take to look, and again to sign.
const PATIENCE: Duration = Duration::from_secs(90);
/// An order for one name has one authorization.
const AUTHORIZATIONS_MAX: usize = 4;

/// The file of the account's key at an authority: each has one of its own.
fn account_file(state: &Path, directory: &str) -> PathBuf {
    let digest = Digest::of(directory.as_bytes()).hex();
    state.join("control").join(format!("acme-{}.json", &digest[..12]))
}

/// The account at the authority: made with the first order, its key kept with mode 0600.
async fn account(state: &Path, settings: &Settings, http: Http) -> Result<Account, String> {
    let path = account_file(state, &settings.directory);
    let builder = Account::builder_with_http(Box::new(http));
    match fs::read(&path) {
        Ok(bytes) => {
            let credentials: AccountCredentials = serde_json::from_slice(&bytes)
                .map_err(|error| format!("the account's file {} is none: {error}", path.display()))?;
            return builder.from_credentials(credentials).await.map_err(|error| told(&error));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{}: {error}", path.display())),
    }
    let contact: Vec<String> = settings.contact.iter().map(|address| format!("mailto:{address}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let made = builder.create(&new, settings.directory.clone(), None).await;
    let (account, credentials) = made.map_err(|error| format!("no account: {}", told(&error)))?;
    let kept = serde_json::to_vec(&credentials)
        .map_err(io::Error::from)
        .and_then(|json| file::replace(&path, &json));
    kept.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(account)
}

/// Gets a certificate for a domain. Gateways answer for its proof meanwhile.
pub(super) async fn certificate(state: &Path, settings: &Settings, domain: &Domain) -> Result<Pair, String> {
    let http = Http::new(settings.ca.as_deref())?;
    let account = account(state, settings, http).await?;
    let identifiers = [Identifier::Dns(domain.to_string())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.map_err(|error| told(&error))?;
    let mut tokens = Vec::new();
    let got = prove_and_take(state, &mut order, &mut tokens, domain).await;
    for token in tokens {
        challenge::remove(state, &token);
    }
    let (certificates, key) = got?;
    let pair = Pair { from: settings.directory.clone(), certificates, key };
    // What an authority sends is believed no more than what an operator does.
    let read = pair.load().map_err(|error| error.to_string())?;
    if !read.names.iter().any(|name| name == domain.as_str()) {
        return Err(format!("the certificate that came is for {}", read.names.join(", ")));
    }
    Ok(pair)
}

async fn prove_and_take(
    state: &Path,
    order: &mut Order,
    tokens: &mut Vec<String>,
    domain: &Domain,
) -> Result<(String, String), String> {
    prove(state, order, tokens).await?;
    let patience = RetryPolicy::new().backoff(1.5).timeout(PATIENCE);
    match order.poll_ready(&patience).await {
        Ok(OrderStatus::Ready) => {}
        // Why not stands in the authorization.
        Ok(_) | Err(Error::Api(_)) => return Err(reason(order).await),
        Err(error) => return Err(told(&error)),
    }
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    let params = rcgen::CertificateParams::new([domain.to_string()]);
    let mut params = params.map_err(|error| error.to_string())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| error.to_string())?;
    order.finalize_csr(request.der()).await.map_err(|error| told(&error))?;
    let certificates = order.poll_certificate(&patience).await.map_err(|error| told(&error))?;
    Ok((certificates, key.serialize_pem()))
}

/// Puts what the authority will ask for in its place, and asks it to look.
async fn prove(state: &Path, order: &mut Order, tokens: &mut Vec<String>) -> Result<(), String> {
    let mut authorizations = order.authorizations();
    for _ in 0..AUTHORIZATIONS_MAX {
        let Some(authorization) = authorizations.next().await else { return Ok(()) };
        let mut authorization = authorization.map_err(|error| told(&error))?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(format!("the authority says that the authorization is {status:?}")),
        }
        let mut challenge = authorization
            .challenge(ChallengeType::Http01)
            .ok_or("the authority offers no proof by HTTP (http-01)")?;
        let token = challenge.token.clone();
        challenge::put(state, &token, challenge.key_authorization().as_str())
            .map_err(|error| format!("the answer to the authority cannot be written: {error}"))?;
        tokens.push(token);
        challenge.set_ready().await.map_err(|error| told(&error))?;
    }
    Ok(())
}

/// What the authority says of a proof that failed.
async fn reason(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        if let Ok(state) = authorization.refresh().await {
            let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
            if let Some(detail) = problem.and_then(|problem| problem.detail.clone()) {
                return detail;
            }
        }
    }
    "the authority refuses the order, and does not say why".to_owned()
}

/// An error in one line; what the authority itself says goes before what the library makes of it.
fn told(error: &Error) -> String {
    match error {
        Error::Api(problem) => problem.detail.clone().unwrap_or_else(|| problem.to_string()),
        error => error.to_string(),
    }
}
