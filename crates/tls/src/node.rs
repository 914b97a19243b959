//! Who the nodes of a cluster are to each other: certificates that the cluster's own authority issues, each for one node of
//! one cluster, and TLS 1.3 where both ends show theirs.
//!
//! ```text
//!  control: Authority (its key is sealed in the store) ─▶ issue, again and again ─▶ tls/node.json
//!                                                                                        └─▶ who calls and is called
//! ```

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rouse_types::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::TLS13,
};

/// What a node shows and believes, below its state folder. Mode 0600.
pub const FILE: &str = "tls/node.json";
/// The domain of nodes' names in certificates. `.internal` is nobody's (ICANN, 2024).
const DOMAIN: &str = "rouse.internal";
/// What is spoken between nodes.
const ALPN: &[u8] = b"h2";

/// Why there is no identity, or it is not one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What makes certificates said no.
    #[error("a certificate cannot be made: {0}")]
    Made(#[from] rcgen::Error),
    /// TLS cannot be set up with it.
    #[error("the identity cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// Something of it cannot be read.
    #[error("the identity cannot be used: {0}")]
    Unusable(String),
    /// The disk.
    #[error("the identity cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// The authority of one cluster, with its key.
pub struct Authority {
    cluster: String,
    key: KeyPair,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// What a node shows to others, and which authority it believes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Until when it holds.
    pub until: Timestamp,
    authority: String,
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cluster, node, until, .. } = self;
        f.debug_struct("Identity")
            .field("cluster", cluster)
            .field("node", node)
            .field("until", until)
            .finish_non_exhaustive()
    }
}

fn params(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Rouse");
    params.distinguished_name.push(DnType::CommonName, cluster);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// The name of a node in its certificate.
fn host(cluster: &str, node: &str) -> String {
    format!("{node}.{cluster}.{DOMAIN}")
}

impl Authority {
    /// Makes one for a cluster.
    ///
    /// # Errors
    /// [`Error::Made`].
    pub fn generate(cluster: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let certificate = params(cluster).self_signed(&key)?.pem();
        Ok(Self { cluster: cluster.to_owned(), key, certificate })
    }

    /// The one that was made before.
    ///
    /// # Errors
    /// [`Error::Made`]: the key is none.
    pub fn open(cluster: &str, certificate: &str, key: &str) -> Result<Self, Error> {
        let (cluster, certificate) = (cluster.to_owned(), certificate.to_owned());
        Ok(Self { cluster, key: KeyPair::from_pem(key)?, certificate })
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, as PEM: to be sealed.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Issues a node's identity, for this time.
    ///
    /// # Errors
    /// [`Error::Made`].
    pub fn issue(&self, node: &str, from: Timestamp, until: Timestamp) -> Result<Identity, Error> {
        let at = |time: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(time.as_millis());
        let mut wanted = CertificateParams::new([host(&self.cluster, node)])?;
        wanted.distinguished_name = DistinguishedName::new();
        wanted.distinguished_name.push(DnType::CommonName, node);
        (wanted.not_before, wanted.not_after) = (at(from), at(until));
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(params(&self.cluster), &self.key);
        Ok(Identity {
            cluster: self.cluster.clone(),
            node: node.to_owned(),
            until,
            authority: self.certificate.clone(),
            certificate: wanted.signed_by(&key, &issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Identity {
    /// Reads the one of a state folder; none before control has written it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(state: &Path) -> Result<Option<Self>, Error> {
        match fs::read(state.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(io::Error::other)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, state: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        Ok(crate::replace(&state.join(FILE), &bytes, None)?)
    }

    fn own(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let unusable = |error: &dyn std::fmt::Display| Error::Unusable(error.to_string());
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>();
        let chain = chain.map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| unusable(&error))?;
        Ok((chain, key))
    }

    fn believed(&self) -> Result<Arc<RootCertStore>, Error> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes());
        roots.add(authority.map_err(|error| Error::Unusable(error.to_string()))?)?;
        Ok(Arc::new(roots))
    }

    /// How this node answers others: only those that show a certificate of the cluster, which holds now.
    ///
    /// # Errors
    /// Something of the identity is broken.
    pub fn server(&self) -> Result<ServerConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.believed()?, Arc::clone(&provider));
        let verifier = verifier.build().map_err(|error| Error::Unusable(error.to_string()))?;
        let (chain, key) = self.own()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Each handshake looks at the certificate anew: one that is over does not come in by an old ticket.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// How this node calls others: with its own certificate, believing the cluster's authority alone.
    ///
    /// # Errors
    /// Something of the identity is broken.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let (chain, key) = self.own()?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.believed()?)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// Who must answer where the node of this name is called.
    ///
    /// # Errors
    /// It is no name of a node.
    pub fn name_of(&self, node: &str) -> Result<ServerName<'static>, Error> {
        let name = ServerName::try_from(host(&self.cluster, node));
        name.map_err(|_| Error::Unusable(format!("'{node}' is no name of a node")))
    }

    /// Which node of this cluster showed these certificates, after the handshake.
    #[must_use]
    pub fn peer(&self, shown: Option<&[CertificateDer<'_>]>) -> Option<String> {
        let certificate = webpki::EndEntityCert::try_from(shown?.first()?).ok()?;
        let suffix = host(&self.cluster, "");
        certificate.valid_dns_names().find_map(|name| Some(name.strip_suffix(&suffix)?.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn now() -> i64 {
        let now = rouse_types::Clock::now(&rouse_types::SystemClock).as_millis();
        i64::try_from(now).expect("a time")
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(u64::try_from(ms).expect("a time"))
    }

    fn identity(authority: &Authority, node: &str) -> Identity {
        authority.issue(node, at(now() - HOUR_MS), at(now() + HOUR_MS)).expect("issued")
    }

    /// What both ends say of a handshake: the client's view, and which node the server sees.
    fn shake(
        client: ClientConfig,
        wanted: ServerName<'static>,
        server: &Identity,
    ) -> (Result<(), String>, Result<Option<String>, String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(64 << 10);
            let acceptor = TlsAcceptor::from(Arc::new(server.server().expect("a server")));
            let connector = TlsConnector::from(Arc::new(client));
            let (called, answered) = tokio::join!(
                async {
                    use tokio::io::AsyncReadExt as _;
                    let mut stream =
                        connector.connect(wanted, near).await.map_err(|error| error.to_string())?;
                    // In TLS 1.3 a client hears of its certificate's refusal with the first bytes.
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await.map(drop).map_err(|error| error.to_string())
                },
                async {
                    use tokio::io::AsyncWriteExt as _;
                    let mut stream = acceptor.accept(far).await.map_err(|error| error.to_string())?;
                    let peer = server.peer(stream.get_ref().1.peer_certificates());
                    stream.write_all(b".").await.map_err(|error| error.to_string())?;
                    stream.flush().await.map_err(|error| error.to_string())?;
                    Ok(peer)
                },
            );
            (called, answered)
        })
    }

    #[test]
    fn nodes_of_one_cluster_know_each_other_also_after_the_authority_was_read_again() {
        let authority = Authority::generate("c1").expect("an authority");
        let again = Authority::open("c1", authority.certificate(), &authority.key()).expect("read");
        let (a, b) = (identity(&authority, "a"), identity(&again, "b"));
        let name = a.name_of("b").expect("a name");
        let (called, answered) = shake(a.client().expect("a client"), name, &b);
        assert_eq!((called, answered), (Ok(()), Ok(Some("a".to_owned()))));
        assert!(!format!("{a:?}{authority:?}").contains("PRIVATE"), "a key is never printed");
    }

    #[test]
    fn another_cluster_an_expired_certificate_another_node_and_none_are_refused_with_the_reason() {
        let authority = Authority::generate("c1").expect("an authority");
        let b = identity(&authority, "b");
        let name = || b.name_of("b").expect("a name");
        let own = || identity(&authority, "a").client().expect("a client");

        // Another cluster's, and one that says it is this one's.
        for (cluster, why) in [("c2", "UnknownIssuer"), ("c1", "BadSignature")] {
            let other = Authority::generate(cluster).expect("an authority");
            // It believes whom it calls: else it would hang up itself.
            let spy = Identity { authority: b.authority.clone(), ..identity(&other, "a") };
            let (called, answered) = shake(spy.client().expect("a client"), name(), &b);
            assert!(called.is_err());
            assert!(answered.as_ref().is_err_and(|said| said.contains(why)), "{answered:?}");
            let (called, _) = shake(own(), name(), &identity(&other, "b"));
            assert!(called.as_ref().is_err_and(|said| said.contains(why)), "{called:?}");
        }

        let over = authority.issue("a", at(now() - 2 * HOUR_MS), at(now() - HOUR_MS)).expect("issued");
        let (called, answered) = shake(over.client().expect("a client"), name(), &b);
        assert!(called.is_err());
        assert!(answered.expect_err("refused").to_lowercase().contains("expired"), "says why");

        // Who answers in the place of another node.
        let (called, _) = shake(own(), name(), &identity(&authority, "c"));
        assert!(called.expect_err("refused").contains("not valid for name"), "by its caller");

        let mut nobody = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(b.believed().expect("an authority"))
            .with_no_client_auth();
        nobody.alpn_protocols = vec![ALPN.to_vec()];
        let (called, answered) = shake(nobody, name(), &b);
        assert!(called.is_err());
        assert!(answered.expect_err("refused").contains("no certificate"), "says why");
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_for_its_owner_alone() {
        let state = tempfile::tempdir().expect("a folder");
        assert_eq!(Identity::read(state.path()).expect("none"), None);
        let a = identity(&Authority::generate("c1").expect("an authority"), "a");
        a.write(state.path()).expect("written");
        assert_eq!(Identity::read(state.path()).expect("read"), Some(a));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(state.path().join(FILE)).expect("there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
