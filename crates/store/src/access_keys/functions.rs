//! The keys of functions: each function that may reach the platform has one of its own, made from its name and a secret of
//! the installation. So nothing is written down when an instance starts, and whoever checks a signature makes the key again.
//!
//! A key is good as long as its app is deployed. All are made void by removing the file and starting the platform again.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use rouse_types::{
    AccessKey, FunctionVersion, TenantId,
    access_key::{self, FUNCTIONS_FILE},
};

/// What the id of a function's key begins with. Names have no underscores.
const BEGIN: &str = "ROUSE_";

/// Makes the keys of functions.
#[derive(Debug)]
pub struct FunctionKeys(hmac::Key);

impl FunctionKeys {
    /// Whether an id is that of a function's key, good or not.
    #[must_use]
    pub fn is_one(id: &str) -> bool {
        id.starts_with(BEGIN)
    }

    /// Makes the secret of an installation, if it has none.
    ///
    /// # Errors
    /// What the disk says.
    pub fn prepare(state: &Path) -> io::Result<()> {
        let path = state.join(FUNCTIONS_FILE);
        if path.exists() {
            return Ok(());
        }
        let mut secret = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let half = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.write_all(&secret)?;
        file.sync_all()?;
        fs::rename(half, path)
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn open(state: &Path) -> io::Result<Self> {
        let secret = fs::read(state.join(FUNCTIONS_FILE))?;
        if secret.len() != 32 {
            return Err(io::Error::other(
                "the secret of functions' keys is damaged: remove it and start again",
            ));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    pub(super) fn secret(&self, id: &str) -> String {
        STANDARD.encode(hmac::sign(&self.0, id.as_bytes()))
    }

    /// The environment in which a function's code finds the platform at `endpoint`, with its key. Nothing where the
    /// function says itself where AWS is, or who it is there.
    #[must_use]
    pub fn environment(&self, version: &FunctionVersion, endpoint: &str) -> Vec<(String, String)> {
        let FunctionVersion { tenant, app, function, env, .. } = version;
        let own = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"];
        if own.iter().any(|name| env.contains_key(*name)) {
            return Vec::new();
        }
        let id = format!("{BEGIN}{tenant}_{app}_{function}");
        let secret = self.secret(&id);
        let pairs = [
            ("AWS_ENDPOINT_URL", endpoint.to_owned()),
            ("AWS_ACCESS_KEY_ID", id),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The key of this id, if its app is deployed.
    pub(super) fn find(&self, state: &Path, id: &str) -> Option<AccessKey> {
        let mut names = id.strip_prefix(BEGIN)?.split('_');
        let (tenant, app, function) = (names.next()?, names.next()?, names.next()?);
        let tenant: TenantId = tenant.parse().ok()?;
        // They become a path: nothing but names may.
        let app: rouse_types::AppName = app.parse().ok()?;
        let _: rouse_types::FunctionName = function.parse().ok()?;
        if names.next().is_some()
            || !state.join("apps").join(tenant.as_str()).join(format!("{app}.json")).exists()
        {
            return None;
        }
        let (secret, created) = (self.secret(id), Default::default());
        // What of it a function may not do is said where requests are taken.
        Some(AccessKey { tenant, secret, created, role: access_key::role() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_key_is_made_again_as_long_as_its_app_is_deployed() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        for made in ["aws", "apps/shop"] {
            fs::create_dir_all(state.join(made)).expect("a folder");
        }
        FunctionKeys::prepare(state).expect("a secret");
        let keys = FunctionKeys::open(state).expect("the secret");
        FunctionKeys::prepare(state).expect("it stays");
        let again = FunctionKeys::open(state).expect("the secret");
        let id = "ROUSE_shop_photos_thumbnail";
        assert_eq!(again.find(state, id), None, "it is not deployed");
        fs::write(state.join("apps/shop/photos.json"), "{}").expect("a snapshot");
        let found = again.find(state, id).expect("a key");
        assert_eq!((found.tenant.as_str(), &found.secret), ("shop", &keys.secret(id)));
        assert_ne!(found.secret, keys.secret("ROUSE_shop_photos_other"));
        for wrong in ["ROUSE_shop_photos", "ROUSE_shop_photos_a_b", "ROUSE_shop_.._a", "ROUSE_other_photos_a"]
        {
            assert_eq!(again.find(state, wrong), None, "{wrong}");
        }
        fs::remove_file(state.join(FUNCTIONS_FILE)).expect("removed");
        FunctionKeys::prepare(state).expect("another secret");
        let other = FunctionKeys::open(state).expect("the secret").find(state, id).expect("a key");
        assert_ne!(other.secret, found.secret);
    }
}
