//! Sessions of this user: the keys that signing in gave, by platform and tenant, in a file that nobody else reads.
//!
//! ```text
//!   --token, ROUSE_TOKEN ─▶ a session that holds ─▶ the operator's token in the state folder
//!                             └─ over, with a refresh token, or in CI: another one first
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use rouse_types::{Clock as _, SystemClock, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::args::Global;

/// A session that ends within this time is over: a deployment takes a while.
const RENEW: Duration = Duration::from_secs(300);

/// A session.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    /// The key; none once it is over and could not be renewed.
    pub(crate) key: String,
    pub(crate) expires: Timestamp,
    /// How to renew it, if that was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renewal: Option<Renewal>,
}

/// What gets a person's next token without the person.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renewal {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    pub(crate) refresh_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<String>,
}

impl Saved {
    /// Whether it still does for a while.
    pub(crate) fn holds(&self) -> bool {
        SystemClock.now() + RENEW < self.expires
    }
}

/// All of them, by platform and tenant.
type All = BTreeMap<String, BTreeMap<TenantId, Saved>>;

/// The file, held by this process alone until it is dropped: of two that renew at once one finds what the other did.
pub(crate) struct Sessions {
    folder: PathBuf,
    all: All,
    _lock: File,
}

/// `$XDG_CONFIG_HOME/rouse`, or `~/.config/rouse`; none where there is no home.
fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("rouse"))
}

fn read(folder: &std::path::Path) -> anyhow::Result<All> {
    let file = folder.join("sessions.json");
    match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("read {}; delete it to sign in anew", file.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(All::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

/// The session for this platform and tenant, whether or not it still holds.
pub(crate) fn find(global: &Global) -> anyhow::Result<Option<Saved>> {
    let Some(folder) = folder() else { return Ok(None) };
    Ok(read(&folder)?.get(&global.url).and_then(|tenants| tenants.get(&global.tenant)).cloned())
}

impl Sessions {
    /// Opens the file.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let folder =
            folder().context("there is no home to keep the session in: set HOME or XDG_CONFIG_HOME")?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join("sessions.lock");
        let lock = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let lock = lock.with_context(|| format!("open {}", path.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .with_context(|| format!("lock {}", path.display()))?;
        let all = read(&folder)?;
        Ok(Self { folder, all, _lock: lock })
    }

    pub(crate) fn get(&self, global: &Global) -> Option<&Saved> {
        self.all.get(&global.url)?.get(&global.tenant)
    }

    /// Keeps a session, or none.
    pub(crate) fn set(&mut self, global: &Global, saved: Option<Saved>) -> anyhow::Result<()> {
        let tenants = self.all.entry(global.url.clone()).or_default();
        match saved {
            Some(saved) => drop(tenants.insert(global.tenant.clone(), saved)),
            None => drop(tenants.remove(&global.tenant)),
        }
        self.all.retain(|_, tenants| !tenants.is_empty());
        // Whole or not at all; mode 0600 is what tempfile makes.
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&serde_json::to_vec_pretty(&self.all)?)?;
            file.persist(self.folder.join("sessions.json")).map_err(|error| error.error)
        };
        write().with_context(|| format!("write the session below {}", self.folder.display()))?;
        Ok(())
    }
}
