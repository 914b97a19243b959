//! Where no name may lead, and no code that was not told the address itself: the machine, its neighbours on the link,
//! and where clouds keep a machine's credentials.
//!
//! Who controls a name controls what it resolves to, also from one question to the next. So whoever dials for code
//! resolves, asks here about every address, and dials exactly the one that was asked about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

const LOOPBACK: &str = "which is the loopback";
const NO_HOST: &str = "which is no host's";
const LINK_LOCAL: &str = "which is link-local";
const CLOUD: &str = "where a cloud answers its machines";

/// Networks of version 4 that are never reached, with the length of their prefix and why, to follow the address.
pub const NEVER_V4: [(Ipv4Addr, u8, &str); 8] = [
    // All of it means this machine to some kernels.
    (Ipv4Addr::new(0, 0, 0, 0), 8, NO_HOST),
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    // Alibaba's metadata, Azure's host, Oracle's metadata.
    (Ipv4Addr::new(100, 100, 100, 200), 32, CLOUD),
    (Ipv4Addr::new(168, 63, 129, 16), 32, CLOUD),
    (Ipv4Addr::new(192, 0, 0, 192), 32, CLOUD),
    (Ipv4Addr::new(224, 0, 0, 0), 4, NO_HOST),
    // Nobody has these, the broadcast among them (RFC 1112 §4).
    (Ipv4Addr::new(240, 0, 0, 0), 4, NO_HOST),
];

/// The same of version 6.
pub const NEVER_V6: [(Ipv6Addr, u8, &str); 6] = [
    (Ipv6Addr::UNSPECIFIED, 128, NO_HOST),
    (Ipv6Addr::LOCALHOST, 128, LOOPBACK),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    // Amazon's and Google's metadata.
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128, CLOUD),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128, CLOUD),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, NO_HOST),
];

/// Why none of a name's addresses may be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Never {
    /// The name has no address.
    #[error("its name has no address")]
    NoAddress,
    /// The name leads only to where no name may lead.
    #[error("its name leads to {0}, {1}; if that is meant, write the address itself as the destination")]
    Forbidden(IpAddr, &'static str),
}

/// Those of a name's addresses that it may lead to, in their order. `is_own` is [`is_own`], or a test's.
///
/// # Errors
/// When there is none.
pub fn allowed(
    resolved: impl IntoIterator<Item = IpAddr>,
    is_own: impl Fn(IpAddr) -> bool,
) -> Result<Vec<IpAddr>, Never> {
    let mut allowed = Vec::new();
    let mut refused = Never::NoAddress;
    for address in resolved {
        match forbidden(address) {
            Some(why) => refused = Never::Forbidden(address, why),
            None if is_own(address) => refused = Never::Forbidden(address, "which is this machine's own"),
            None => allowed.push(address),
        }
    }
    if allowed.is_empty() { Err(refused) } else { Ok(allowed) }
}

/// Why no name may lead to this address on any machine, if so.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match embedded(address) {
        IpAddr::V4(v4) => NEVER_V4.iter().find_map(|(network, prefix, why)| {
            let mask = u32::MAX << (32 - u32::from(*prefix));
            (v4.to_bits() & mask == network.to_bits()).then_some(*why)
        }),
        IpAddr::V6(v6) => NEVER_V6.iter().find_map(|(network, prefix, why)| {
            let mask = u128::MAX << (128 - u32::from(*prefix));
            (v6.to_bits() & mask == network.to_bits()).then_some(*why)
        }),
    }
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

/// Whether an address is one of this machine's own: then it is also where the machine would send from. The kernel is
/// asked, and nothing is sent.
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    let address = embedded(address);
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Any port does. Where there is no way to it, it is not ours.
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address || from.ip().is_loopback())
}

/// The address of a name in a text of `hosts(5)`: the operator's word, which stands wherever it leads.
#[must_use]
pub fn in_hosts(text: &str, name: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
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
            "239.255.255.250",
            "ff02::1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
        ] {
            let refused = allowed([ip(address)], |_| false);
            assert!(matches!(refused, Err(Never::Forbidden(..))), "{address}: {refused:?}");
        }
        for address in ["10.0.0.5", "192.168.1.2", "fd00::5", "93.184.216.34", "2606:4700::1", "169.253.0.1"]
        {
            assert!(allowed([ip(address)], |_| false).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_name_that_also_leads_elsewhere_is_reached_there() {
        let mixed = ["127.0.0.1", "10.0.0.5", "169.254.169.254", "10.0.0.6"].map(ip);
        assert_eq!(allowed(mixed, |_| false).expect("some"), [ip("10.0.0.5"), ip("10.0.0.6")]);
        assert_eq!(allowed([], |_| false), Err(Never::NoAddress));
        assert!(matches!(allowed([ip("10.0.0.5")], |_| true), Err(Never::Forbidden(..))));
    }

    #[test]
    fn the_machines_own_addresses_are_known() {
        assert!(is_own(ip("127.0.0.1")) && is_own(ip("127.1.2.3")) && is_own(ip("::ffff:127.0.0.1")));
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
