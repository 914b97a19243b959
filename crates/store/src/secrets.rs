//! Secrets of tenants, sealed: as control hands them over to whoever starts functions, so that these start while control is
//! away.
//!
//! ```text
//!  <state>/secrets/keys            keys, one a line, the newest first; mode 0600
//!  <state>/secrets/<tenant>.json   names and what is sealed; replaced whole at each change
//! ```
//!
//! Each value is sealed by XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under the newest key, for its tenant and name
//! alone: what is copied to another name does not open there.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rouse_types::{AppSnapshot, Digest, FunctionVersion, TenantId};
use serde::{Deserialize, Serialize};

use crate::file;

/// Of a key, in bytes.
const KEY_BYTES: usize = 32;
/// Of a nonce, in bytes: long enough to be drawn by chance.
const NONCE_BYTES: usize = 24;

/// A value that only whoever holds the key can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key: the begin of its digest.
    pub key: String,
    /// The nonce and what is sealed, in base64.
    text: String,
}

/// A tenant's secrets, by name.
pub type SealedSecrets = BTreeMap<String, Sealed>;

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant has none of this name.
    #[error("there is no secret '{0}'")]
    Missing(String),
    /// It was sealed by a key that is not here, for another name, or was changed.
    #[error("the secret '{0}' cannot be opened: its key is not in the file of keys, or it was damaged")]
    Damaged(String),
    /// The file of keys holds none, or something else.
    #[error("the file of keys for secrets is damaged")]
    Keys,
    /// The operating system said no.
    #[error("the files of secrets cannot be read")]
    Io(#[from] io::Error),
}

/// The keys that seal secrets.
#[derive(Clone)]
pub struct Keyring {
    path: PathBuf,
    /// The newest first: it seals.
    keys: Vec<(String, [u8; KEY_BYTES])>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("path", &self.path).finish_non_exhaustive()
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("secrets")
}

fn path(state: &Path, tenant: &TenantId) -> PathBuf {
    folder(state).join(format!("{tenant}.json"))
}

impl Keyring {
    /// Reads the keys of the platform with this state folder, and makes one if there is none.
    ///
    /// # Errors
    /// What the disk says, or [`Error::Keys`].
    pub fn prepare(state: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder(state))?;
        match Self::open(state) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                let mut ring = Self { path: folder(state).join("keys"), keys: Vec::new() };
                ring.add()?;
                Ok(ring)
            }
            other => other,
        }
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// What the disk says, or [`Error::Keys`].
    pub fn open(state: &Path) -> Result<Self, Error> {
        // An operator may keep the file elsewhere, and have a link here: it is replaced where it is.
        let path = folder(state).join("keys").canonicalize()?;
        let text = fs::read_to_string(&path)?;
        let keys = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let key: [u8; KEY_BYTES] =
                STANDARD.decode(line.trim()).ok().and_then(|key| key.try_into().ok()).ok_or(Error::Keys)?;
            Ok((name(&key), key))
        });
        let keys: Vec<_> = keys.collect::<Result<_, Error>>()?;
        if keys.is_empty() { Err(Error::Keys) } else { Ok(Self { path, keys }) }
    }

    /// Makes a new key, which seals from now on; those before still open.
    ///
    /// # Errors
    /// What the disk says.
    pub fn add(&mut self) -> Result<(), Error> {
        let mut key = [0; KEY_BYTES];
        random(&mut key)?;
        self.keys.insert(0, (name(&key), key));
        self.write()
    }

    /// Leaves the newest key alone: nothing is sealed by another.
    ///
    /// # Errors
    /// What the disk says.
    pub fn drop_old(&mut self) -> Result<(), Error> {
        self.keys.truncate(1);
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let lines: Vec<String> = self.keys.iter().map(|(_, key)| STANDARD.encode(key) + "\n").collect();
        Ok(file::replace(&self.path, lines.concat().as_bytes())?)
    }

    /// Whether this was sealed by the newest key.
    #[must_use]
    pub fn is_newest(&self, sealed: &Sealed) -> bool {
        self.keys.first().is_some_and(|(name, _)| *name == sealed.key)
    }

    /// Seals a value.
    ///
    /// # Errors
    /// No randomness could be had.
    pub fn seal(&self, tenant: &TenantId, name: &str, value: &str) -> Result<Sealed, Error> {
        let (key, bytes) = self.keys.first().ok_or(Error::Keys)?;
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let payload = Payload { msg: value.as_bytes(), aad: &about(tenant, name) };
        let sealed = XChaCha20Poly1305::new(Key::from_slice(bytes))
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| Error::Damaged(name.to_owned()))?;
        Ok(Sealed { key: key.clone(), text: STANDARD.encode([&nonce[..], &sealed].concat()) })
    }

    /// Opens what was sealed for this tenant and name.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn unseal(&self, tenant: &TenantId, name: &str, sealed: &Sealed) -> Result<String, Error> {
        let damaged = || Error::Damaged(name.to_owned());
        let (_, key) = self.keys.iter().find(|(name, _)| *name == sealed.key).ok_or_else(damaged)?;
        let bytes = STANDARD.decode(&sealed.text).map_err(|_| damaged())?;
        let (nonce, text) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?;
        let payload = Payload { msg: text, aad: &about(tenant, name) };
        let opened = XChaCha20Poly1305::new(Key::from_slice(key)).decrypt(XNonce::from_slice(nonce), payload);
        String::from_utf8(opened.map_err(|_| damaged())?).map_err(|_| damaged())
    }
}

/// What a value is sealed for. No name has a line's end.
fn about(tenant: &TenantId, name: &str) -> Vec<u8> {
    format!("{tenant}\n{name}").into_bytes()
}

fn name(key: &[u8]) -> String {
    Digest::of(key).hex()[..16].to_owned()
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::Io(io::Error::other("the kernel gives no random bytes")))
}

/// Makes a tenant's file hold these.
///
/// # Errors
/// What the disk says.
pub fn write(state: &Path, tenant: &TenantId, secrets: &SealedSecrets) -> io::Result<()> {
    file::replace(&path(state, tenant), &serde_json::to_vec(secrets)?)
}

/// Puts the values of a version's secrets among its variables, as they are now.
///
/// # Errors
/// The first that cannot be had; the version is what it was.
pub fn tell(state: &Path, version: &mut Arc<FunctionVersion>) -> Result<(), Error> {
    if version.secrets.is_empty() {
        return Ok(());
    }
    // The keys may be changed between the two files: then both are there anew.
    let values = read(state, version).or_else(|_| read(state, version))?;
    Arc::make_mut(version).env.extend(values);
    Ok(())
}

/// The same for all versions of an app. One that cannot have its secrets goes without, which the log says: its calls fail, and those of
/// the app's others go on.
pub fn tell_all(state: &Path, app: &mut AppSnapshot) {
    for version in app.functions.iter_mut().flat_map(|route| route.versions.values_mut()) {
        if let Err(error) = tell(state, version) {
            tracing::error!(%error, version = %version.key(), "a function gets no secrets");
        }
    }
}

fn read(state: &Path, version: &FunctionVersion) -> Result<BTreeMap<String, String>, Error> {
    let sealed = match fs::read(path(state, &version.tenant)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => SealedSecrets::new(),
        Err(error) => return Err(error.into()),
    };
    let keys = Keyring::open(state)?;
    let pairs = version.secrets.iter().map(|(variable, name)| {
        let sealed = sealed.get(name).ok_or_else(|| Error::Missing(name.clone()))?;
        Ok((variable.clone(), keys.unseal(&version.tenant, name, sealed)?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_name_alone_also_after_the_key_was_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut keys = Keyring::prepare(folder.path()).expect("keys");
        let (shop, other) = (TenantId::new("shop").expect("a name"), TenantId::new("b").expect("a name"));
        let sealed = keys.seal(&shop, "db", "pässword").expect("sealed");
        assert!(!serde_json::to_string(&sealed).expect("JSON").contains("ssword"));
        assert_ne!(sealed, keys.seal(&shop, "db", "pässword").expect("sealed"), "no two are alike");
        assert_eq!(keys.unseal(&shop, "db", &sealed).expect("opened"), "pässword");
        for (tenant, name) in [(&other, "db"), (&shop, "api")] {
            assert!(matches!(keys.unseal(tenant, name, &sealed), Err(Error::Damaged(_))));
        }
        let mut bytes = STANDARD.decode(&sealed.text).expect("base64");
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let changed = Sealed { text: STANDARD.encode(&bytes), ..sealed.clone() };
            assert!(keys.unseal(&shop, "db", &changed).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
        keys.add().expect("a new key");
        assert!(!keys.is_newest(&sealed));
        assert_eq!(
            Keyring::open(folder.path()).expect("both").unseal(&shop, "db", &sealed).expect("opened"),
            "pässword"
        );
        keys.drop_old().expect("the new one alone");
        assert!(Keyring::open(folder.path()).expect("one").unseal(&shop, "db", &sealed).is_err());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(folder.path().join("secrets/keys")).expect("the file").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_of_keys_is_said_and_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("secrets")).expect("a folder");
        let path = folder.path().join("secrets/keys");
        for wrong in ["", "short\n", "####\n"] {
            fs::write(&path, wrong).expect("a file");
            assert!(matches!(Keyring::prepare(folder.path()), Err(Error::Keys)), "{wrong:?}");
            assert_eq!(fs::read_to_string(&path).expect("the file"), wrong);
        }
    }
}
