//! Dialling a destination from the node: what its name resolves to at this moment, less what no name may lead to.
//!
//! Who controls a name controls what it resolves to, also from one question to the next. So a name never leads to the
//! machine itself, to its neighbours on the link, or to where clouds keep a machine's credentials, and the address
//! that was checked is the address that is dialled. What is meant to be reached there is written as it is: the
//! address itself, `localhost`, or a name in the operator's own file.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::plan::{LOCALHOST, Target};

/// How long a name may take to resolve, and each address to answer.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// The operator's names, in the state folder, in the form of `hosts(5)`.
const HOSTS_FILE: &str = "hosts";
/// More than an operator writes by hand.
const HOSTS_BYTES_MAX: u64 = 1 << 20;

/// Where clouds answer their machines beside the link-local addresses: Alibaba's metadata, Azure's host, and the
/// addresses of version 6 of Amazon's and Google's.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Why a destination was not reached. Told in the function's log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The name system said no.
    #[error("its name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// The name has no address.
    #[error("its name has no address")]
    NoAddress,
    /// The name leads only to where no name may lead.
    #[error("its name leads to {0}, {1}; if that is meant, write the address itself as the destination")]
    Forbidden(IpAddr, &'static str),
    /// Nobody answers there.
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
}

/// Dials for all sandboxes of a node.
#[derive(Debug)]
pub(crate) struct Dialer {
    hosts: PathBuf,
    names: Names,
}

/// Who resolves names.
#[derive(Debug)]
pub(super) enum Names {
    /// This machine, as for its other programs.
    System,
    /// A test.
    #[cfg(test)]
    These(std::collections::HashMap<String, Vec<IpAddr>>),
}

impl Dialer {
    /// A dialer with the operator's names of this state folder.
    pub(crate) fn new(state: &std::path::Path) -> Self {
        Self { hosts: state.join(HOSTS_FILE), names: Names::System }
    }

    #[cfg(test)]
    pub(super) fn with(state: &std::path::Path, names: Names) -> Self {
        Self { names, ..Self::new(state) }
    }

    /// Connects to a destination that is allowed.
    pub(super) async fn dial(&self, target: &Target, port: u16) -> Result<TcpStream, Error> {
        let addresses = match target {
            Target::Address(address) => vec![*address],
            Target::Name(name) => self.addresses(name).await?,
        };
        let mut last = Error::NoAddress;
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(address, port);
            match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Error::Connect(address, error),
                Err(_) => last = Error::Connect(address, io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    /// What a name leads to, less what it may not lead to.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        if name == LOCALHOST {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // The operator's word stands, wherever it leads.
        if let Some(meant) = self.operators(name).await {
            return Ok(vec![meant]);
        }
        let resolved: Vec<IpAddr> = match &self.names {
            Names::System => {
                // The port matters not.
                let looked_up = timeout(RESOLVE_MAX, lookup_host((name, 0))).await;
                let looked_up = looked_up.map_err(|_| Error::Resolve(io::ErrorKind::TimedOut.into()))?;
                looked_up.map_err(Error::Resolve)?.map(|address| address.ip()).collect()
            }
            #[cfg(test)]
            Names::These(names) => names.get(name).cloned().unwrap_or_default(),
        };
        allowed(resolved, is_own)
    }

    async fn operators(&self, name: &str) -> Option<IpAddr> {
        let metadata = tokio::fs::metadata(&self.hosts).await.ok()?;
        if metadata.len() > HOSTS_BYTES_MAX {
            tracing::warn!(file = %self.hosts.display(), "too large to be read");
            return None;
        }
        let text = tokio::fs::read_to_string(&self.hosts).await.ok()?;
        in_hosts(&text, name)
    }
}

/// The address of a name in a text of `hosts(5)`.
fn in_hosts(text: &str, name: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

/// Those of a name's addresses that it may lead to.
fn allowed(resolved: Vec<IpAddr>, is_own: impl Fn(IpAddr) -> bool) -> Result<Vec<IpAddr>, Error> {
    let mut result: Result<Vec<IpAddr>, Error> = Err(Error::NoAddress);
    for address in resolved {
        let forbidden = match forbidden(address) {
            None if is_own(address) => Some("which is this machine's own"),
            forbidden => forbidden,
        };
        match (forbidden, &mut result) {
            (None, Ok(addresses)) => addresses.push(address),
            (None, refused) => *refused = Ok(vec![address]),
            (Some(why), refused @ Err(_)) => *refused = Err(Error::Forbidden(address, why)),
            (Some(_), Ok(_)) => {}
        }
    }
    result
}

/// Why no name may lead to this address, if so.
fn forbidden(address: IpAddr) -> Option<&'static str> {
    let address = embedded(address);
    if address.is_loopback() {
        return Some("which is the loopback");
    }
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some("which is no host's");
    }
    let link_local = match address {
        // All of 0.0.0.0/8 means this machine to some kernels.
        IpAddr::V4(v4) if v4.octets()[0] == 0 => return Some("which is no host's"),
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local {
        return Some("which is link-local");
    }
    METADATA.contains(&address).then_some("where a cloud answers its machines")
}

/// The address of version 4 that one of version 6 stands for: mapped, compatible, or behind a translator (RFC 6052).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            if !v6.is_unspecified() && !v6.is_loopback() =>
        {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Ipv4Addr::new(a, b, c, d).into()
        }
        _ => address,
    }
}

/// Whether an address is one of this machine's own: then it is also where the machine would send from. Nothing is
/// sent for it.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Any port does. Where there is no way to it, it is not ours.
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address || from.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn no_name_leads_to_the_machine_its_link_or_its_cloud() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
        ] {
            let refused = allowed(vec![ip(address)], |_| false);
            assert!(matches!(refused, Err(Error::Forbidden(..))), "{address}: {refused:?}");
        }
        for address in ["10.0.0.5", "192.168.1.2", "fd00::5", "93.184.216.34", "2606:4700::1"] {
            assert!(allowed(vec![ip(address)], |_| false).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_name_that_also_leads_elsewhere_is_reached_there() {
        let mixed = vec![ip("127.0.0.1"), ip("10.0.0.5"), ip("169.254.169.254"), ip("10.0.0.6")];
        assert_eq!(allowed(mixed, |_| false).expect("some"), [ip("10.0.0.5"), ip("10.0.0.6")]);
        assert!(matches!(allowed(vec![], |_| false), Err(Error::NoAddress)));
        assert!(matches!(allowed(vec![ip("10.0.0.5")], |_| true), Err(Error::Forbidden(..))));
    }

    #[test]
    fn the_machines_own_addresses_are_known() {
        assert!(is_own(ip("127.0.0.1")) && is_own(ip("127.1.2.3")));
        assert!(!is_own(ip("192.0.2.200")));
    }

    #[test]
    fn the_operators_file_is_read_as_other_programs_read_it() {
        let text = "# names\n10.0.0.5 db.internal db # the database\nnonsense\n127.0.0.1\tAPI.example.com\n";
        assert_eq!(in_hosts(text, "db"), Some(ip("10.0.0.5")));
        assert_eq!(in_hosts(text, "api.example.com"), Some(ip("127.0.0.1")));
        assert_eq!(in_hosts(text, "the"), None);
    }
}
