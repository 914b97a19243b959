//! Which certificate answers to which name. Pure.

use std::{collections::HashMap, sync::Arc};

use tokio_rustls::rustls::sign::CertifiedKey;

use crate::pair::Certificate;

/// Certificates by name. Of two with one name, the one that was put first answers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name no host, or one that no certificate has: they see a certificate that does not fit,
    /// which tells people more than a connection that breaks.
    first: Option<Arc<CertifiedKey>>,
}

impl Table {
    pub(crate) fn put(&mut self, certificate: Certificate) {
        self.first.get_or_insert_with(|| Arc::clone(&certificate.key));
        for name in certificate.names {
            self.by_name.entry(name).or_insert_with(|| Arc::clone(&certificate.key));
        }
    }

    /// The certificate for a host: one of its very name, else one of `*.` and all after its first label
    /// (RFC 6125 §6.4.3).
    pub(crate) fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.by_name.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(&format!("*.{parent}"))
            })
        });
        found.or(self.first.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::pair;

    #[test]
    fn a_name_of_its_own_wins_over_a_wildcard_and_the_first_answers_for_the_rest() {
        let load = |names: &[&str]| pair(names).load().expect("it is good");
        let (own, wild, late) =
            (load(&["api.example.com"]), load(&["*.example.com", "example.com"]), load(&["api.example.com"]));
        let (own_key, wild_key) = (Arc::clone(&own.key), Arc::clone(&wild.key));
        let mut table = Table::default();
        assert!(table.find(Some("api.example.com")).is_none());
        for certificate in [own, wild, late] {
            table.put(certificate);
        }
        for (name, expected) in [
            (Some("api.example.com"), &own_key),
            (Some("API.Example.COM"), &own_key),
            (Some("www.example.com"), &wild_key),
            (Some("example.com"), &wild_key),
            // One label, not two.
            (Some("a.www.example.com"), &own_key),
            (Some("elsewhere.example"), &own_key),
            (None, &own_key),
        ] {
            assert!(Arc::ptr_eq(&table.find(name).expect("one"), expected), "{name:?}");
        }
    }
}
