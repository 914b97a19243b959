//! Addresses of registries: where to connect, and whether without TLS.

use http::Uri;
use rouse_types::Refusal;

use crate::{invalid, unavailable};

/// An absolute address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl Url {
    /// The begin of all addresses of a registry, given as `host` or `host:port`.
    pub(crate) fn registry(authority: &str, plain: &Plain) -> Result<Self, Refusal> {
        let tls = !plain.allows(authority);
        Self::parse(&format!("{}://{authority}/", if tls { "https" } else { "http" }))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = || invalid(format!("'{}' is no address of a registry", crate::shown(text.as_bytes())));
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_ascii_lowercase();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }), host, path })
    }

    /// Another address on the same machine.
    pub(crate) fn at(&self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self.clone() }
    }

    /// Where a redirect leads: an absolute address, or a path.
    pub(crate) fn follow(&self, location: &str) -> Result<Self, Refusal> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(self.at(location));
        }
        Self::parse(location)
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host as a name to look up or to prove: without the brackets of an IPv6 address.
    pub(crate) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// Refuses what would go over the network in the clear.
    pub(crate) fn check(&self, plain: &Plain) -> Result<(), Refusal> {
        if self.tls || plain.allows(&self.authority()) || plain.allows(&self.host) {
            return Ok(());
        }
        Err(unavailable(format!("{} would be asked without TLS, which is not allowed", self.authority()))
            .hint("let the registry speak https, or name it in ROUSE_INSECURE_REGISTRIES of the platform"))
    }
}

/// The registries that are asked without TLS: those of this machine, and those that the operator named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plain(Vec<String>);

impl Plain {
    pub(crate) fn new(named: impl IntoIterator<Item = String>) -> Self {
        let named = named.into_iter().map(|name| name.trim().to_ascii_lowercase());
        Self(named.filter(|name| !name.is_empty()).collect())
    }

    pub(crate) fn allows(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority.as_str(),
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost"
            || address.is_ok_and(|address| address.is_loopback())
            || self.0.contains(&authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_what_was_named_is_asked_in_the_clear() {
        let plain = Plain::new(["registry.lan:5000".to_owned(), " ".to_owned()]);
        for allowed in
            ["localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "registry.lan:5000", "127.9.9.9"]
        {
            assert!(plain.allows(allowed), "{allowed}");
        }
        for refused in [
            "registry.lan",
            "registry.lan:5001",
            "localhost.example.com",
            "10.0.0.1:5000",
            "",
            "127.0.0.1.example.com",
        ] {
            assert!(!plain.allows(refused), "{refused}");
        }
        assert!(Url::parse("http://cdn.example.com/x").expect("an address").check(&plain).is_err());
        Url::parse("https://cdn.example.com/x").expect("an address").check(&plain).expect("it has TLS");
    }

    #[test]
    fn redirects_are_paths_or_addresses() {
        let from = Url::parse("https://r.example.com/v2/a").expect("an address");
        assert_eq!(from.follow("/b?c=d").expect("a path"), from.at("/b?c=d"));
        assert_eq!(
            from.follow("https://cdn.example.com:8443/b").expect("an address").authority(),
            "cdn.example.com:8443"
        );
        assert!(from.follow("file:///etc/passwd").is_err() && from.follow("b").is_err());
    }
}
