//! Where a database is: an address as PostgreSQL's clients write it.
//!
//! Source: PostgreSQL 15 Documentation, §34.1.1.2 "Connection URIs".

use std::{collections::BTreeMap, fmt};

use percent_encoding::percent_decode_str;
use rouse_types::egress::Destination;

const PORT_DEFAULT: u16 = 5432;
const PREFIXES: [&str; 2] = ["postgres://", "postgresql://"];

/// A database and who asks for its changes. Displays without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Its password; may be empty.
    pub password: String,
    /// The database.
    pub database: String,
    /// Whether the connection is encrypted.
    pub tls: Tls,
}

/// Whether a connection is encrypted: the values of `sslmode`, by the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Never.
    Disable,
    /// Where the server offers it; its certificate is not looked at.
    #[default]
    Prefer,
    /// Always; the server's certificate is not looked at.
    Require,
    /// Always, with a certificate of a public authority for the host's name.
    VerifyFull,
}

/// Why a text is no address of a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has another form.
    #[error("the url is no address of a database: write postgres://user:password@host:5432/database")]
    Form,
    /// What it needs is not there.
    #[error("the url names no {0}: write postgres://user:password@host:5432/database")]
    Lacks(&'static str),
    /// The host cannot be dialled.
    #[error("the url's host cannot be dialled: {0}")]
    Host(String),
    /// A way of encryption that is not offered.
    #[error(
        "sslmode={0} is not offered: write disable, prefer, require, or verify-full (certificates of public authorities)"
    )]
    Tls(String),
    /// Something after the `?`.
    #[error("the url has the parameter '{0}', which is not known here: leave it out; only sslmode is taken")]
    Parameter(String),
    /// `env:NAME` without the variable.
    #[error(
        "the url is 'env:{0}', and the function's environment has no variable {0}: write env = {{ {0} = \"postgres://…\" }}"
    )]
    Variable(String),
}

impl Address {
    /// The address of a trigger: its `url`, or what the function's environment has for `env:NAME`.
    ///
    /// # Errors
    /// What keeps it from being one. No error shows a password.
    pub fn of(url: &str, env: &BTreeMap<String, String>) -> Result<Self, Error> {
        match url.strip_prefix("env:") {
            Some(name) => Self::parse(env.get(name).ok_or_else(|| Error::Variable(name.to_owned()))?),
            None => Self::parse(url),
        }
    }

    /// Reads a connection URI.
    ///
    /// # Errors
    /// As [`Address::of`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).ok_or(Error::Form)?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // A password that was not encoded may have an @ in it, a host never.
        let (who, place) = authority.rsplit_once('@').ok_or(Error::Lacks("user"))?;
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (host, port) = split_port(place)?;
        let user = decode(user)?;
        let database = if database.is_empty() { user.clone() } else { decode(database)? };
        if user.is_empty() {
            return Err(Error::Lacks("user"));
        }
        if host.is_empty() {
            return Err(Error::Lacks("host"));
        }
        if [&user, &database].iter().any(|name| name.contains('\0')) {
            return Err(Error::Form);
        }
        let address = Self {
            host: host.to_owned(),
            port,
            user,
            password: decode(password)?,
            database,
            tls: tls(parameters)?,
        };
        address.destination().map_err(|error| Error::Host(error.to_string()))?;
        Ok(address)
    }

    /// What is dialled, as egress has it: where no function may be sent, no trigger goes either.
    ///
    /// # Errors
    /// It may not be dialled; never of an address that was read by [`Address::parse`].
    pub fn destination(&self) -> Result<Destination, rouse_types::egress::DestinationError> {
        let v6 = self.host.contains(':');
        let host = if v6 { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port).parse()
    }

    /// Whether both name the same database, by whatever role.
    #[must_use]
    pub fn is_same_database(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.database) == (&other.host, other.port, &other.database)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self}, {:?})", self.tls)
    }
}

fn split_port(place: &str) -> Result<(&str, u16), Error> {
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or(Error::Form)?;
            (host, rest.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    match port {
        None | Some("") => Ok((host, PORT_DEFAULT)),
        Some(port) => port.parse().ok().filter(|port| *port != 0).map(|port| (host, port)).ok_or(Error::Form),
    }
}

fn decode(text: &str) -> Result<String, Error> {
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| Error::Form)
}

fn tls(parameters: &str) -> Result<Tls, Error> {
    let mut tls = Tls::default();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name != "sslmode" {
            return Err(Error::Parameter(name.chars().take(80).collect()));
        }
        tls = match value {
            "disable" => Tls::Disable,
            "allow" | "prefer" => Tls::Prefer,
            "require" => Tls::Require,
            "verify-full" => Tls::VerifyFull,
            other => return Err(Error::Tls(other.chars().take(80).collect())),
        };
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_psql_reads_it() {
        let address =
            Address::parse("postgres://me:p%40ss%3Aw@db.internal:6543/shop?sslmode=require").expect("one");
        assert_eq!((address.user.as_str(), address.password.as_str()), ("me", "p@ss:w"));
        assert_eq!((address.port, address.database.as_str(), address.tls), (6543, "shop", Tls::Require));
        assert_eq!(address.to_string(), "me@db.internal:6543/shop");
        assert!(!format!("{address:?}").contains("p@ss"), "the password is shown to nobody");
        let least = Address::parse("postgresql://me@[2001:db8::1]").expect("one");
        assert_eq!((least.host.as_str(), least.port, least.database.as_str()), ("2001:db8::1", 5432, "me"));
        assert!(address.is_same_database(&Address { user: "other".to_owned(), ..address.clone() }));
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        for (text, says) in [
            ("mysql://a@b/c", "postgres://user"),
            ("postgres://db/shop", "no user"),
            ("postgres://me@/shop", "no host"),
            ("postgres://me@db:x/shop", "postgres://user"),
            ("postgres://me@db:0/shop", "postgres://user"),
            ("postgres://me@169.254.169.254/shop", "cannot be dialled"),
            ("postgres://me:secret@db/shop?sslmode=verify-ca", "sslmode=verify-ca is not offered"),
            ("postgres://me:secret@db/shop?application_name=x", "'application_name'"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{text}: {error}");
        }
        let env = BTreeMap::from([("URL".to_owned(), "postgres://me@db".to_owned())]);
        assert_eq!(Address::of("env:URL", &env).expect("one").host, "db");
        assert!(Address::of("env:OTHER", &env).expect_err("none").to_string().contains("variable OTHER"));
    }
}
