//! Access keys, with which AWS' clients sign what they ask for, and the file in which control hands them over to the
//! process that checks signatures: replaced whole at each change, so that requests are checked while control is away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Role, TenantId, Timestamp};

/// The file, below the state folder. It holds secrets: its mode is 0600.
pub const FILE: &str = "aws/keys.json";

/// The file that the keys of functions are made from, below the state folder: 32 bytes of chance, its mode 0600.
pub const FUNCTIONS_FILE: &str = "aws/functions.key";

/// All keys, by their ids.
pub type AccessKeys = BTreeMap<String, AccessKey>;

/// One key. Signatures are made with the secret itself, so it has to be kept as it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// What requests are signed with.
    pub secret: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it may do.
    #[serde(default = "role")]
    pub role: Role,
}

/// The role of a key that was made before keys had one, and of one that is asked for without: all that AWS' clients may ask for.
#[must_use]
pub fn role() -> Role {
    Role::Deployer
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
