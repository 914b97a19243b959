//! Gives each handshake its certificate, from the files as they are now.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{ACME, FILES, table::Table};

/// Tells one file from the one that replaced it: its inode, and when it was changed, in nanoseconds.
type Seen = Option<(u64, i64, i64)>;

/// The certificates of a state folder. At each handshake two files are looked at, which is nothing beside its
/// arithmetic; they are read again when one was replaced.
#[derive(Debug)]
pub struct Resolver {
    paths: [PathBuf; 2],
    read: Mutex<([Seen; 2], Arc<Table>)>,
}

impl Resolver {
    /// The certificates of the platform with this state folder. The operator's go before those got by ACME.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { paths: [FILES, ACME].map(|file| state.join(file)), read: Mutex::default() }
    }

    fn table(&self) -> Arc<Table> {
        let seen = self.paths.each_ref().map(|path| seen(path));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0 != seen {
            read.0 = seen;
            match load(&self.paths) {
                Ok(table) => read.1 = Arc::new(table),
                Err(error) => {
                    tracing::error!(%error, "certificates cannot be read; those before stay in force")
                }
            }
        }
        Arc::clone(&read.1)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.table().find(hello.server_name())
    }
}

fn seen(path: &Path) -> Seen {
    fs::metadata(path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec()))
}

/// What of the files can be used; the rest is logged. Who wrote them checked it before.
fn load(paths: &[PathBuf]) -> std::io::Result<Table> {
    let mut table = Table::default();
    for path in paths {
        for pair in crate::read(path)? {
            match pair.load() {
                Ok(certificate) => table.put(certificate),
                Err(error) => tracing::error!(%error, "a certificate is left out"),
            }
        }
    }
    Ok(table)
}

/// How HTTPS is answered: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1 (ALPN, RFC 7301).
///
/// # Errors
/// The library has no such versions.
pub fn server_config(resolver: Arc<Resolver>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hand_over, pair::tests::pair};

    #[test]
    fn a_file_that_was_replaced_is_read_again_and_a_broken_pair_left_out() {
        let state = tempfile::tempdir().expect("a folder");
        let resolver = Resolver::new(state.path());
        let found = |name: &str| resolver.table().find(Some(name)).map(|key| key.cert[0].to_vec());
        assert_eq!(found("a.example"), None);
        let (one, other, acme) = (pair(&["a.example"]), pair(&["a.example"]), pair(&["c.example"]));
        let der = |pair: &crate::Pair| Some(pair.load().expect("good").key.cert[0].to_vec());
        hand_over(state.path(), FILES, std::slice::from_ref(&one), None).expect("written");
        assert_eq!(found("a.example"), der(&one));
        hand_over(state.path(), ACME, std::slice::from_ref(&acme), None).expect("written");
        assert_eq!((found("a.example"), found("c.example")), (der(&one), der(&acme)));
        let broken = crate::Pair { key: one.key.clone(), ..acme.clone() };
        hand_over(state.path(), FILES, &[broken, other.clone()], None).expect("written");
        assert_eq!((found("a.example"), found("c.example")), (der(&other), der(&acme)));
        fs::write(state.path().join(FILES), "{").expect("written");
        assert_eq!(found("a.example"), der(&other), "those before stay in force");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(state.path().join(FILES)).expect("there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
