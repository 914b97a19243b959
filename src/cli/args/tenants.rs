//! The words of `rouse tenant`, `rouse key` and `rouse access-key`.

use std::time::Duration;

use clap::Subcommand;
use rouse_types::{FunctionName, Role, TenantId, size::parse_duration};

/// `rouse tenant …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant. One that is there stays as it is.
    Create {
        /// Its name: lowercase letters, digits and hyphens.
        name: TenantId,
    },
    /// List the tenants.
    List,
    /// Show a tenant.
    Show {
        /// Its name.
        name: TenantId,
    },
    /// Delete a tenant without apps, queues and buckets, with its keys. Its name is not given again.
    Delete {
        /// Its name.
        name: TenantId,
    },
}

/// `rouse key …`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key. It is shown this once.
    Create {
        /// What it may do: owner, deployer, invoker, viewer or billing.
        #[arg(long)]
        role: Role,
        /// A function that it is for, and no other; may be given several times [default: all].
        #[arg(long = "function", value_name = "NAME")]
        functions: Vec<FunctionName>,
        /// After how long it is refused, such as 90d [default: never].
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        expires: Option<Duration>,
        /// What it is for, in words.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// List the API keys.
    List,
    /// Make a key that takes the place of an old one, which does for a while longer.
    Rotate {
        /// The old key's id.
        id: String,
        /// How long the old key still does, such as 1h or 0s [default: 1d].
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        overlap: Option<Duration>,
    },
    /// Revoke a key: it is refused from now on.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// `rouse access-key …`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make an access key for AWS' clients. Its secret is shown this once.
    Create {
        /// What it may do: owner, deployer, invoker or viewer.
        #[arg(long, default_value_t = rouse_types::access_key::role())]
        role: Role,
    },
    /// List the access keys.
    List,
    /// Delete an access key: what it signs is refused at once.
    Delete {
        /// Its id.
        id: String,
    },
}
