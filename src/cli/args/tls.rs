//! The arguments about HTTPS.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// How `rouse serve` answers HTTPS.
#[derive(Debug, Clone, Default, Args)]
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
}
