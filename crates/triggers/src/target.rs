//! Addresses that outcomes are posted to. Where they may lead is for the function's egress to say.

use http::{Uri, uri::Scheme};

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The host, without the brackets of an address of version 6.
    pub host: String,
    /// The port, the scheme's own if none is written.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// What the header `host` says.
    pub authority: String,
    /// The path and the query.
    pub path: String,
}

/// Why something is no URL that can be posted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has not the form of one.
    #[error("it is no URL such as https://hooks.example.com/path")]
    Form,
    /// A URL is shown and logged in many places.
    #[error("it holds a name or a password: nobody would be asked for it")]
    UserInfo,
}

impl Address {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// It is none of HTTP.
    pub fn of(url: &str) -> Result<Self, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::Form)?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Error::Form),
        };
        let authority = uri.authority().ok_or(Error::Form)?;
        if authority.as_str().contains('@') {
            return Err(Error::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // What stands where a port would and is none.
            None if authority.as_str() != authority.host() => return Err(Error::Form),
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(Error::Form);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host: host.to_owned(), port, tls, authority: authority.to_string(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let of = |url: &str| Address::of(url).map(|a| (a.host, a.port, a.tls, a.path));
        assert_eq!(
            of("https://a.example/x?y=1"),
            Ok(("a.example".to_owned(), 443, true, "/x?y=1".to_owned()))
        );
        assert_eq!(of("http://[::1]:8080"), Ok(("::1".to_owned(), 8080, false, "/".to_owned())));
        assert_eq!(of("https://user:secret@a.example/"), Err(Error::UserInfo));
        for wrong in ["", "a.example", "/x", "ftp://a.example", "https://", "https://a:99999/", "https://:1/"]
        {
            assert!(Address::of(wrong).is_err(), "{wrong}");
        }
    }
}
