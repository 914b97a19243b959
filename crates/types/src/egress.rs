//! What code may reach: nothing, named destinations, or everything.

pub mod address;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

/// The platform itself, as AWS' clients reach it: a destination whose name stands for no address of any network.
pub const PLATFORM_HOST: &str = "rouse.internal";
/// Its port.
pub const PLATFORM_PORT: u16 = 4_566;
/// Where a sandbox finds it: an address, for clients of S3 put the bucket before a name, and before no address.
pub const PLATFORM_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 6, 0, 1);

/// What a function may reach. Written as a list of destinations, or as `"*"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Egress {
    /// These destinations and nothing else; an empty list is nothing at all.
    Only(Vec<Destination>),
    /// Everything that the machine reaches, but not the machine itself.
    All,
}

impl Default for Egress {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Egress {
    /// The text that stands for everything.
    pub const ALL: &str = "*";

    /// Whether a connection to this host (of any case) and port is allowed.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Only(destinations) => destinations.iter().any(|one| one.allows(host, port)),
            Self::All => true,
        }
    }

    /// The platform itself, and nothing else.
    #[must_use]
    pub fn platform() -> Self {
        Self::Only(vec![Destination { host: Host::Name(PLATFORM_HOST.to_owned()), port: PLATFORM_PORT }])
    }

    /// Whether the platform itself is among what is named. What allows everything does not name it.
    #[must_use]
    pub fn reaches_platform(&self) -> bool {
        let is_platform = |one: &Destination| {
            matches!(one.host(), Host::Name(name) if name == PLATFORM_HOST) && one.port() == PLATFORM_PORT
        };
        self.destinations().iter().any(is_platform)
    }

    /// The destinations that are named; none where everything is allowed.
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        match self {
            Self::Only(destinations) => destinations,
            Self::All => &[],
        }
    }
}

impl Serialize for Egress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Only(destinations) => destinations.serialize(serializer),
            Self::All => serializer.serialize_str(Self::ALL),
        }
    }
}

impl<'de> Deserialize<'de> for Egress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Egress;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of destinations, or \"*\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Egress, E> {
                if text == Egress::ALL {
                    return Ok(Egress::All);
                }
                Err(E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Egress, A::Error> {
                let mut destinations = Vec::new();
                while let Some(destination) = list.next_element()? {
                    destinations.push(destination);
                }
                Ok(Egress::Only(destinations))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl schemars::JsonSchema for Egress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Egress".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let destination = generator.subschema_for::<Destination>();
        schemars::json_schema!({
            "anyOf": [
                { "type": "array", "items": destination },
                { "type": "string", "const": Self::ALL },
            ],
        })
    }
}

/// A place that code may reach, `host:port`: a name, an address, or with `*.` as the host's beginning every name
/// below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    host: Host,
    port: u16,
}

/// The host of a [`Destination`], in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Exactly this name.
    Name(String),
    /// Every name that ends with a dot and this.
    Below(String),
    /// This address.
    Address(IpAddr),
}

/// A text that is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// It has not the form of one.
    #[error("'{0}' is not a destination: write host:port, such as api.example.com:443")]
    Form(String),
    /// Its `*` stands where it cannot.
    #[error("'{0}' is not a destination: `*` stands for the first part of a name, as in *.example.com:443")]
    Wildcard(String),
    /// Nothing can be dialled there, or nothing may.
    #[error("{0} cannot be a destination: {1}")]
    Address(IpAddr, &'static str),
}

impl Destination {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a call to this host (of any case, with or without the dot of a full name) and port is allowed by
    /// this destination.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.port == port
            && match &self.host {
                Host::Name(name) => name.eq_ignore_ascii_case(host),
                Host::Below(domain) => {
                    let dot = host.len().checked_sub(domain.len() + 1).filter(|&dot| dot > 0);
                    let parts = dot.and_then(|dot| Some((host.get(..dot)?, host.get(dot..)?)));
                    parts.is_some_and(|(_, rest)| {
                        rest.strip_prefix('.').is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
                    })
                }
                Host::Address(address) => host.parse() == Ok(*address),
            }
    }
}

/// Why no destination can be this address, if so: what is no host's, and what belongs to the machine's own
/// surroundings, where clouds keep their credentials.
fn unusable(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        address if address.is_unspecified() || address.is_multicast() => Some("it is no host's"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("it is no host's"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("functions never reach link-local addresses"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("functions never reach link-local addresses"),
        _ => None,
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Destination {
    type Err = DestinationError;
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let shown = || text.chars().take(80).collect();
        let wrong = || DestinationError::Form(shown());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)?;
        let host = if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Host::Address(v6.parse::<Ipv6Addr>().map_err(|_| wrong())?.into())
        } else if let Ok(v4) = host.parse::<Ipv4Addr>() {
            Host::Address(v4.into())
        } else if let Some(domain) = host.strip_prefix("*.").filter(|domain| is_name(domain)) {
            Host::Below(domain.to_ascii_lowercase())
        } else if host.contains('*') {
            return Err(DestinationError::Wildcard(shown()));
        } else if is_name(host) {
            Host::Name(host.to_ascii_lowercase())
        } else {
            return Err(wrong());
        };
        if let Host::Address(address) = host
            && let Some(reason) = unusable(address)
        {
            return Err(DestinationError::Address(address, reason));
        }
        Ok(Self { host, port })
    }
}

/// Whether a text is a host's name: its parts are not empty, and hold nothing that a line of a file could not.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    text.len() <= 253
        && text.split('.').all(|part| !part.is_empty() && part.len() <= 63 && part.bytes().all(plain))
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Destination {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Destination".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "examples": ["api.example.com:443", "*.example.com:443", "10.0.0.5:5432"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(text: &str) -> Destination {
        text.parse().expect("a destination")
    }

    #[test]
    fn a_destination_allows_its_host_and_port_alone() {
        let db = destination("Db.Internal:5432");
        assert!(db.allows("db.INTERNAL", 5432) && db.allows("db.internal.", 5432));
        assert!(!db.allows("db.internal", 5433));
        assert!(!db.allows("xdb.internal", 5432));
    }

    #[test]
    fn a_wildcard_allows_every_name_below_it_and_not_its_own() {
        let all = destination("*.Example.com:443");
        for name in ["api.example.com", "API.Example.COM", "a.b.example.com", "a.example.com."] {
            assert!(all.allows(name, 443), "{name}");
        }
        for name in
            ["example.com", ".example.com", "badexample.com", "example.com.evil.org", "é.example.co", ""]
        {
            assert!(!all.allows(name, 443), "{name}");
        }
        assert!(!all.allows("api.example.com", 80));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in [
            "",
            "db",
            ":443",
            "db:",
            "db:0",
            "db:70000",
            "a b:1",
            "http://db:1",
            "[::zz]:1",
            "a..b:1",
            "db.:1",
            "*:443",
            "*.:443",
            "a.*.com:443",
            "*a.com:443",
            "*.*.com:443",
            "*.com",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
        assert_eq!(destination("[::1]:80").to_string(), "[::1]:80");
        assert_eq!(destination("*.Example.com:443").to_string(), "*.example.com:443");
    }

    #[test]
    fn addresses_that_no_function_may_reach_are_refused_where_they_are_written() {
        for text in [
            "169.254.169.254:80",
            "[fe80::1]:80",
            "[::ffff:169.254.169.254]:80",
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
        ] {
            let refused = text.parse::<Destination>();
            assert!(matches!(refused, Err(DestinationError::Address(..))), "{text}: {refused:?}");
        }
        assert!(destination("127.0.0.1:5432").allows("127.0.0.1", 5432));
        assert!(destination("[2001:db8:0::1]:80").allows("2001:db8::1", 80));
    }

    #[test]
    fn the_platform_is_reached_where_it_is_named() {
        let only = |text: &str| Egress::Only(vec![text.parse().expect("a destination")]);
        assert_eq!(only("rouse.internal:4566"), Egress::platform());
        assert!(Egress::platform().reaches_platform());
        for other in ["rouse.internal:80", "*.internal:4566", "internal:4566"] {
            assert!(!only(other).reaches_platform(), "{other}");
        }
        assert!(!Egress::All.reaches_platform());
    }

    #[test]
    fn egress_is_a_list_or_a_star() {
        let read = |json: &str| serde_json::from_str::<Egress>(json);
        let some = Egress::Only(vec![destination("a:1")]);
        assert_eq!(read("[\"a:1\"]").expect("a list"), some);
        assert_eq!(serde_json::to_string(&some).expect("json"), "[\"a:1\"]");
        assert_eq!(read("\"*\"").expect("a star"), Egress::All);
        assert_eq!(serde_json::to_string(&Egress::All).expect("json"), "\"*\"");
        assert!(read("\"a:1\"").is_err() && read("[\"*\"]").is_err());
        assert!(Egress::All.allows("anything", 1) && !Egress::default().allows("anything", 1));
    }
}
