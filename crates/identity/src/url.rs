//! Addresses of providers: https, or http on this machine's loopback, where nobody else listens.

use std::net::IpAddr;

use http::Uri;

use crate::Error;

/// Longer ones are nobody's.
const URL_BYTES_MAX: usize = 2_048;

/// An absolute address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `host` or `host:port`, as the header has it.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(100).collect();
            Error::Unreachable(format!("'{shown}' {why}"))
        };
        let plain = text.len() <= URL_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        if !plain || text.contains(['@', '#', '\\']) {
            return Err(wrong("is not the address of a provider"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("is not the address of a provider"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            _ => return Err(wrong("is neither https nor on this machine's loopback")),
        };
        Ok(Self {
            tls,
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: uri.authority().map_or_else(String::new, |authority| authority.as_str().to_owned()),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            host,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a provider may be at this address: https, or http on the loopback; without user, query and fragment
/// (OpenID Connect Discovery §3).
///
/// # Errors
/// It may not; the text says why.
pub fn check(issuer: &str) -> Result<(), Error> {
    let url = Url::parse(issuer)?;
    if url.path.contains('?') {
        return Err(Error::Unreachable(format!("'{issuer}' has a query, which no issuer has")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_the_loopback_are_asked() {
        for right in [
            "https://token.actions.githubusercontent.com",
            "https://id.acme.example/realms/a",
            "https://[::1]:8443",
            "http://127.0.0.1:9000",
            "http://localhost:9000/a",
            "http://[::1]:9000",
        ] {
            check(right).expect(right);
        }
        for wrong in [
            "",
            "acme.example",
            "http://acme.example",
            "http://127.0.0.1.acme.example",
            "http://localhost@acme.example",
            "https://user@acme.example",
            "https://acme.example/?x",
            "https://acme.example/#x",
            "https://acme.example/ x",
            "ftp://acme.example",
            "file:///etc/passwd",
            "http://169.254.169.254/latest",
            "http://0.0.0.0:80",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_taken_apart() {
        let url = Url::parse("https://Acme.example/a?b=c").expect("an address");
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("acme.example", 443, "/a?b=c"));
        assert_eq!(Url::parse("http://[::1]:9").expect("an address").host, "::1");
    }
}
