//! The arguments about HTTPS.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// How `rouse serve` answers HTTPS.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTPS")]
pub(crate) struct TlsArgs {
    /// Where functions answer by HTTPS, such as 0.0.0.0:443. Plain HTTP then redirects there.
    #[arg(long, value_name = "ADDR")]
    pub(crate) tls_listen: Option<SocketAddr>,
    /// A certificate with its chain, as PEM. Several are chosen by the name that a client asks for.
    #[arg(long, value_name = "FILE", requires_all = ["tls_listen", "tls_key"])]
    pub(crate) tls_certificate: Vec<PathBuf>,
    /// The key of the certificate named in the same place.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Vec<PathBuf>,
    /// A folder of pairs: NAME.pem with NAME.key, or certbot's NAME/fullchain.pem with NAME/privkey.pem.
    #[arg(long, value_name = "DIR", requires = "tls_listen")]
    pub(crate) tls_folder: Vec<PathBuf>,
    /// Get certificates by ACME for the domains of functions, and for --domain. You agree to the authority's terms so.
    #[arg(long, requires = "tls_listen", conflicts_with = "cluster")]
    pub(crate) acme: bool,
    /// The authority's directory.
    #[arg(long, value_name = "URL", requires = "acme", default_value = rouse_control::DIRECTORY_DEFAULT)]
    pub(crate) acme_directory: String,
    /// Where the authority writes to when something is wrong.
    #[arg(long, value_name = "ADDRESS", requires = "acme")]
    pub(crate) acme_contact: Option<String>,
    /// The root of a private authority, as PEM: trusted besides what this machine trusts.
    #[arg(long, value_name = "FILE", requires = "acme")]
    pub(crate) acme_ca: Option<PathBuf>,
}
