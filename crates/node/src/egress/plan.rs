//! Which addresses and listeners a sandbox gets for what it may reach. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use rouse_sandbox::{Network, Spec};
use rouse_types::{
    Egress,
    egress::{Host, PLATFORM_ADDRESS, PLATFORM_HOST},
};

/// Where the sandbox asks for names: the address that systemd's resolver has on many hosts, so that programs which
/// know it do not wonder.
pub(super) const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// Names that are written out have addresses from here on: part of the loopback, which nobody else has a use for.
const FIXED: u32 = 0x7f07_0000;
/// And those that a wildcard allows have theirs from here on, as they are asked for.
const ASKED: u32 = 0x7f08_0000;
/// The name of the machine itself: whoever writes it means it.
pub(super) const LOCALHOST: &str = "localhost";

/// What stands behind an address of a sandbox' loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A name.
    Name(String),
    /// That address itself, because it was written.
    Address(IpAddr),
}

/// What a sandbox gets beside its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Lines of `/etc/hosts`.
    pub(super) hosts: Vec<(IpAddr, String)>,
    pub(super) listeners: Vec<SocketAddr>,
    /// What stands behind each address.
    pub(super) targets: BTreeMap<IpAddr, Target>,
    /// Destinations that cannot be given, because the platform itself listens there.
    pub(super) lost: Vec<String>,
}

impl Plan {
    /// Plans for a sandbox in which the platform listens at `taken` already.
    pub(super) fn new(egress: &Egress, taken: &[SocketAddr]) -> Self {
        let mut plan = Self::default();
        let mut names: BTreeMap<&str, IpAddr> = BTreeMap::new();
        let mut listeners = BTreeSet::new();
        for destination in egress.destinations() {
            let (address, target) = match destination.host() {
                // Whatever is asked for later: the accepted address tells what it is.
                Host::Below(_) => (Ipv4Addr::UNSPECIFIED.into(), None),
                Host::Address(address) => (*address, Some(Target::Address(*address))),
                Host::Name(name) if name == LOCALHOST => {
                    (Ipv4Addr::LOCALHOST.into(), Some(Target::Name(name.clone())))
                }
                Host::Name(name) if name == PLATFORM_HOST => {
                    names.insert(name, PLATFORM_ADDRESS.into());
                    (PLATFORM_ADDRESS.into(), Some(Target::Name(name.clone())))
                }
                Host::Name(name) => {
                    let next = nth(FIXED, names.len());
                    let address = *names.entry(name).or_insert(next);
                    (address, Some(Target::Name(name.clone())))
                }
            };
            let listener = SocketAddr::new(address, destination.port());
            if taken.contains(&listener) {
                plan.lost.push(destination.to_string());
                continue;
            }
            listeners.insert(listener);
            if let Some(target) = target {
                plan.targets.entry(address).or_insert(target);
            }
        }
        plan.hosts = names.into_iter().map(|(name, address)| (address, name.to_owned())).collect();
        plan.listeners = listeners.into_iter().collect();
        plan
    }

    /// Adds it to what the sandbox is made from.
    pub(super) fn apply(&self, egress: &Egress, spec: &mut Spec) {
        spec.hosts.extend(self.hosts.iter().cloned());
        spec.listeners.extend(&self.listeners);
        spec.resolver = Some(RESOLVER);
        if *egress == Egress::All {
            spec.network = Network::Full;
        }
    }
}

/// The address of the nth name that was asked for.
pub(super) fn asked(index: usize) -> IpAddr {
    nth(ASKED, index)
}

/// Leaves out .0 and .255, which some programs take for a network and its broadcast.
fn nth(base: u32, index: usize) -> IpAddr {
    let index = u32::try_from(index).unwrap_or(u32::MAX) % (254 * 256);
    Ipv4Addr::from(base + (index / 254) * 256 + index % 254 + 1).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(destinations: &[&str]) -> Plan {
        let all = destinations.iter().map(|one| one.parse().expect("a destination")).collect();
        Plan::new(&Egress::Only(all), &["127.0.0.1:9001".parse().expect("an address")])
    }

    fn listeners(plan: &Plan) -> Vec<String> {
        plan.listeners.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn a_name_has_one_address_and_each_of_its_ports_a_listener() {
        let plan = plan(&["db.internal:5432", "db.internal:5433", "api.example.com:443", "db.internal:5432"]);
        assert_eq!(listeners(&plan), ["127.7.0.1:5432", "127.7.0.1:5433", "127.7.0.2:443"]);
        let hosts: Vec<_> = plan.hosts.iter().map(|(address, name)| format!("{address} {name}")).collect();
        assert_eq!(hosts, ["127.7.0.2 api.example.com", "127.7.0.1 db.internal"]);
        assert_eq!(plan.targets.len(), 2);
    }

    #[test]
    fn a_wildcard_listens_at_every_address_and_an_address_at_itself() {
        let plan = plan(&["*.example.com:443", "*.example.org:443", "10.0.0.5:5432", "[2001:db8::1]:80"]);
        assert_eq!(listeners(&plan), ["0.0.0.0:443", "10.0.0.5:5432", "[2001:db8::1]:80"]);
        assert_eq!(plan.hosts, []);
        let ten: IpAddr = "10.0.0.5".parse().expect("an address");
        assert_eq!(plan.targets[&ten], Target::Address(ten));
    }

    #[test]
    fn what_the_platform_itself_listens_on_is_not_given_away() {
        let plan = plan(&["localhost:9001", "localhost:5432", "127.0.0.1:9001"]);
        assert_eq!(listeners(&plan), ["127.0.0.1:5432"]);
        assert_eq!(plan.lost, ["localhost:9001", "127.0.0.1:9001"]);
    }

    #[test]
    fn the_platform_is_found_at_its_own_address() {
        let plan = plan(&["db.internal:1", "rouse.internal:4566", "a.internal:1"]);
        let hosts: Vec<_> = plan.hosts.iter().map(|(address, name)| format!("{address} {name}")).collect();
        assert_eq!(hosts.len(), 3);
        assert!(hosts.contains(&"127.6.0.1 rouse.internal".to_owned()), "{hosts:?}");
        assert!(listeners(&plan).contains(&"127.6.0.1:4566".to_owned()));
    }

    #[test]
    fn no_two_names_share_an_address() {
        let all: BTreeSet<_> = (0..2_000).map(asked).collect();
        assert_eq!(all.len(), 2_000);
        assert!(all.iter().all(|address| address.is_loopback()));
    }
}
