//! Registries: an image is found by its name, and its layers pulled. OCI distribution specification 1.1, "Pull"; tokens
//! as distribution's "Token Authentication Specification" has them.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::http::{HeaderMap, HeaderName, StatusCode, header};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rouse_types::{Digest, Image, Refusal, limits};
use serde::Deserialize;
use tokio::time::sleep;

use crate::{
    Credentials, Reference, Store, blob,
    http::{Answer, Failure, Http},
    invalid, io, layers,
    manifest::{self, Config, Document, INDEXES_MAX, Manifest},
    unavailable,
    unpack::Bounds,
    url::{Plain, Url},
};

/// How often what passes is tried again; with the pauses below that is half a minute: a registry that restarts is back.
pub(crate) const RETRIES_MAX: u32 = 10;
/// The first pause; each is twice the one before, up to the last.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Layers that are pulled at once: what Docker does.
const PULLS_AT_ONCE: usize = 3;
/// Bytes of a token's answer, and of an error's.
const TOKEN_BYTES_MAX: usize = 256 << 10;

/// Asks registries.
#[derive(Debug, Clone)]
pub struct Registry {
    http: Http,
}

/// An image that was found, and is not pulled yet.
#[derive(Debug)]
pub struct Remote {
    session: Session,
    /// Of the manifest for this machine.
    pub digest: Digest,
    /// The name with the digest of what it stood for: the index, where there is one.
    pub reference: Reference,
    manifest: Manifest,
    config: Config,
}

/// How far a pull is: bytes so far, and in all.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

impl Registry {
    /// A client of registries. Those in `insecure`, as `host:port`, are asked without TLS, and those of this machine.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(insecure: impl IntoIterator<Item = String>) -> Result<Self, Refusal> {
        Ok(Self { http: Http::new(Plain::new(insecure))? })
    }

    /// Finds an image: what its name stands for now, for this machine's architecture.
    ///
    /// # Errors
    /// [`rouse_types::Code::ImageUnavailable`], [`rouse_types::Code::ImageInvalid`].
    pub async fn find(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Remote, Refusal> {
        let session = Session {
            http: self.http.clone(),
            base: Url::registry(reference.host(), &self.http.plain)?,
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            credentials,
            authorization: Mutex::default(),
        };
        let name = reference.to_string();
        let mut wanted = reference.wanted();
        let mut expected = reference.digest();
        let mut pinned = None;
        for _ in 0..=INDEXES_MAX {
            let text = session.document(&format!("manifests/{wanted}"), Some(manifest::ACCEPT)).await?;
            let digest = checked(&text, expected, &name)?;
            pinned.get_or_insert(digest);
            match manifest::document(&text, &name)? {
                Document::Index(next) => {
                    wanted = next.digest.to_string();
                    expected = Some(next.digest);
                }
                Document::Manifest(manifest) => {
                    let config = session.document(&format!("blobs/{}", manifest.config.digest), None).await?;
                    checked(&config, Some(manifest.config.digest), &name)?;
                    let config = manifest::config(&config, &name)?;
                    if config.diff_ids.len() != manifest.layers.len() {
                        return Err(invalid(format!(
                            "{name} has a configuration that is not its manifest's"
                        )));
                    }
                    let reference = reference.pinned(pinned.unwrap_or(digest));
                    return Ok(Remote { session, digest, reference, manifest, config });
                }
            }
        }
        Err(invalid(format!("{name} is an index of indexes without end")))
    }
}

impl Remote {
    /// How it is run, before it is pulled.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.config.image
    }

    /// Pulls the layers that this machine does not have, and unpacks them.
    ///
    /// # Errors
    /// [`rouse_types::Code::ImageUnavailable`], [`rouse_types::Code::ImageInvalid`],
    /// [`rouse_types::Code::CodeTooLarge`], [`rouse_types::Code::StorageFull`].
    pub async fn pull(&self, store: &Store, progress: Progress<'_>) -> Result<Image, Refusal> {
        let chain = layers::chain(&self.config.diff_ids);
        // What is there already counts as pulled: the bar shows what is left to do.
        let first = chain.iter().take_while(|layer| store.has(layer)).count();
        let missing = self.manifest.layers.get(first..).unwrap_or_default();
        let total: u64 = missing.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        if total > limits::IMAGE_BYTES_MAX {
            let (has, most) = (total >> 20, limits::IMAGE_BYTES_MAX >> 20);
            return Err(Refusal::new(
                rouse_types::Code::CodeTooLarge,
                format!("{} has {has} MiB of layers; at most {most} MiB are taken", self.reference),
            ));
        }
        let done = std::sync::atomic::AtomicU64::new(0);
        let told = |bytes: i64| {
            // A blob that begins anew takes its bytes back.
            let now =
                done.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed).wrapping_add(bytes as u64);
            progress(now.min(total), total);
        };
        progress(0, total);
        let folder = store.partial()?;
        let pulls: Vec<_> = missing
            .iter()
            .enumerate()
            .map(|(index, layer)| {
                blob::pull(&self.session, layer, folder.path().join(index.to_string()), &told)
            })
            .collect();
        let files: Vec<_> = stream::iter(pulls).buffered(PULLS_AT_ONCE).try_collect().await?;
        let mut bounds = Bounds::default();
        for (index, path) in files.into_iter().enumerate() {
            let (store, below) = (store.clone(), self.config.diff_ids[..first + index].to_vec());
            let diff = self.config.diff_ids[first + index];
            let unpacked = tokio::task::spawn_blocking(move || {
                store.install(&below, diff, open(&path)?, &mut bounds)?;
                // What is unpacked needs no second place on the disk.
                std::fs::remove_file(&path).map_err(io("delete a pulled layer"))?;
                Ok(bounds)
            });
            bounds = unpacked.await.map_err(|error| io("unpack a layer")(std::io::Error::other(error)))??;
        }
        Ok(Image { reference: Some(self.reference.to_string()), layers: chain, ..self.config.image.clone() })
    }
}

fn open(path: &Path) -> Result<std::fs::File, Refusal> {
    std::fs::File::open(path).map_err(io("open a pulled layer"))
}

fn checked(text: &[u8], expected: Option<Digest>, name: &str) -> Result<Digest, Refusal> {
    let digest = Digest::of(text);
    match expected {
        Some(expected) if expected != digest => Err(invalid(format!(
            "the registry gave {digest} for {expected} of {name}: it is damaged, or somebody's else"
        ))),
        _ => Ok(digest),
    }
}

/// One repository, asked as one person.
#[derive(Debug)]
pub(crate) struct Session {
    http: Http,
    base: Url,
    registry: String,
    repository: String,
    credentials: Option<Credentials>,
    /// What the registry wants to see, once it said so.
    authorization: Mutex<Option<String>>,
}

impl Session {
    /// A whole document below the repository.
    async fn document(&self, path: &str, accept: Option<&str>) -> Result<Vec<u8>, Refusal> {
        let mut tries = Retries::default();
        loop {
            let headers: Vec<_> =
                accept.map(|accept| (header::ACCEPT, accept.to_owned())).into_iter().collect();
            let text = match self.get(path, &headers).await {
                Ok(answer) => answer.text(manifest::DOCUMENT_BYTES_MAX).await,
                Err(failure) => Err(failure),
            };
            match text {
                Ok(text) => return Ok(text),
                Err(failure) => tries.again(failure, &self.registry).await?,
            }
        }
    }

    /// Asks for something below the repository. The answer is 200 or 206.
    pub(crate) async fn get(&self, path: &str, headers: &[(HeaderName, String)]) -> Result<Answer, Failure> {
        let url = self.base.at(format!("/v2/{}/{path}", self.repository));
        let mut asked = false;
        loop {
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let answer = self.http.get(&url, headers, authorization.as_deref()).await?;
            let about = format!("{} of {}", self.repository, self.registry);
            return match answer.status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
                StatusCode::UNAUTHORIZED if !asked => {
                    asked = true;
                    self.authorize(&answer.headers).await?;
                    continue;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied().into()),
                StatusCode::NOT_FOUND => Err(unavailable(format!("there is no {path} in {about}"))
                    .hint("look at the name and the tag; a private image may also need a login")
                    .into()),
                status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    Err(Failure::Passing(format!("the registry says {status}")))
                }
                status => {
                    Err(unavailable(format!("the registry says {status} when asked for {path} of {about}"))
                        .into())
                }
            };
        }
    }

    fn denied(&self) -> Refusal {
        let why = match &self.credentials {
            Some(known) => format!("it does not let '{}' in", known.username),
            None => "it asks for a login".to_owned(),
        };
        unavailable(format!("the registry {} refuses {}: {why}", self.registry, self.repository)).hint(
            format!(
                "run `docker login {}`, or set ROUSE_REGISTRY_USER and ROUSE_REGISTRY_PASSWORD",
                self.registry
            ),
        )
    }

    /// Does what a 401 asks for.
    async fn authorize(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let challenges =
            headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut value = None;
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                value = Some(format!("Bearer {}", self.token(rest).await?));
                break;
            }
            if scheme.eq_ignore_ascii_case("basic") {
                value = self.credentials.as_ref().map(Credentials::basic);
            }
        }
        let value = value.ok_or_else(|| self.denied())?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// Asks the realm of a challenge for a token.
    async fn token(&self, challenge: &str) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Told {
            token: Option<String>,
            access_token: Option<String>,
        }
        let broken = || {
            unavailable(format!("the registry {} asks for a login in a way that is not known", self.registry))
        };
        let realm = parameter(challenge, "realm").ok_or_else(broken)?;
        let mut url = Url::parse(&realm)?;
        let scope =
            parameter(challenge, "scope").unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut add = |name: &str, value: &str| {
            url.path.push(if url.path.contains('?') { '&' } else { '?' });
            url.path.push_str(&format!("{name}={}", encoded(value)));
        };
        if let Some(service) = parameter(challenge, "service") {
            add("service", &service);
        }
        add("scope", &scope);
        let basic = self.credentials.as_ref().map(Credentials::basic);
        let answer = self.http.get(&url, &[], basic.as_deref()).await?;
        match answer.status {
            StatusCode::OK => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::Passing(format!("{} says {status}", url.authority())));
            }
            _ => return Err(self.denied().into()),
        }
        let told: Told =
            serde_json::from_slice(&answer.text(TOKEN_BYTES_MAX).await?).map_err(|_| broken())?;
        let token = told.token.or(told.access_token).ok_or_else(broken)?;
        // It becomes a header's value.
        if token.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(token) } else { Err(broken().into()) }
    }
}

/// A parameter of a challenge (RFC 9110 §11.4), in its quotes.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        if key.trim_start_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = after;
    }
}

/// Percent-encoded, but for what a query may hold as it is (RFC 3986 §3.4).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// How often something passing has failed.
#[derive(Debug, Default)]
pub(crate) struct Retries(u32);

impl Retries {
    /// Waits before the next try.
    ///
    /// # Errors
    /// It would not help, or was tried often enough.
    pub(crate) async fn again(&mut self, failure: Failure, registry: &str) -> Result<(), Refusal> {
        let what = match failure {
            Failure::Final(refusal) => return Err(refusal),
            Failure::Passing(what) => what,
        };
        if self.0 == RETRIES_MAX {
            return Err(unavailable(format!("the registry {registry} failed {RETRIES_MAX} times: {what}"))
                .hint("is it up, and can this machine reach it?"));
        }
        tracing::info!(registry, what, again = self.0 + 1, "a pull is tried again");
        sleep(RETRY_PAUSE_MAX.min(RETRY_PAUSE * 2_u32.pow(self.0))).await;
        self.0 += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let challenge = r#"realm="https://auth.example.com/token?a=b",service="registry.example.com",scope="repository:a/b:pull,push""#;
        assert_eq!(parameter(challenge, "realm").as_deref(), Some("https://auth.example.com/token?a=b"));
        assert_eq!(parameter(challenge, "scope").as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(parameter(challenge, "error"), None);
        assert_eq!(parameter("realm=\"open", "realm"), None);
        assert_eq!(encoded("a b&c=é"), "a%20b%26c%3D%C3%A9");
    }
}
