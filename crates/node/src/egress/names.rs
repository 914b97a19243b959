//! What stands behind the addresses of one sandbox' loopback, and how names that a wildcard allows get theirs.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use rouse_types::{Egress, egress::Host};

use super::plan::{self, LOCALHOST, Target};

/// Names below wildcards that one instance may ask for. An address that was told is never given to another name,
/// since the code may keep it: so they end at some time, and this is far beyond what code asks for.
const ASKED_MAX: usize = 1_024;

/// What a name is to a sandbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// At this address of the sandbox' own.
    At(IpAddr),
    /// Everything is allowed, so it is where it really is.
    Outside,
    /// Not allowed.
    No,
    /// Allowed, but there are too many.
    Full,
}

/// The names of one sandbox.
#[derive(Debug)]
pub(super) struct Names {
    egress: Egress,
    targets: BTreeMap<IpAddr, Target>,
    addresses: HashMap<String, IpAddr>,
    asked: usize,
}

impl Names {
    pub(super) fn new(egress: Egress, targets: BTreeMap<IpAddr, Target>) -> Self {
        let named = |(address, target): (&IpAddr, &Target)| match target {
            Target::Name(name) => Some((name.clone(), *address)),
            Target::Address(_) => None,
        };
        let addresses = targets.iter().filter_map(named).collect();
        Self { egress, targets, addresses, asked: 0 }
    }

    /// Where the sandbox finds a name, which is in lower case.
    pub(super) fn find(&mut self, name: &str) -> Found {
        if let Some(address) = self.addresses.get(name) {
            return Found::At(*address);
        }
        let below = |domain: &str| {
            name.strip_suffix(domain)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty())
        };
        if name == LOCALHOST || below(LOCALHOST) || name == "sandbox" {
            return Found::At(IpAddr::from([127, 0, 0, 1]));
        }
        if self.egress == Egress::All {
            return Found::Outside;
        }
        let is_below = |host: &Host| matches!(host, Host::Below(domain) if below(domain));
        if !self.egress.destinations().iter().any(|one| is_below(one.host())) {
            return Found::No;
        }
        if self.asked == ASKED_MAX {
            return Found::Full;
        }
        let address = plan::asked(self.asked);
        self.asked += 1;
        self.addresses.insert(name.to_owned(), address);
        self.targets.insert(address, Target::Name(name.to_owned()));
        Found::At(address)
    }

    /// What a connection to this address and port is meant for, and whether that is allowed. None where nothing
    /// stands behind the address.
    pub(super) fn meant(&self, address: IpAddr, port: u16) -> Option<(Target, bool)> {
        let target = self.targets.get(&address.to_canonical())?;
        let allowed = match target {
            Target::Name(name) => self.egress.allows(name, port),
            Target::Address(address) => self.egress.allows(&address.to_string(), port),
        };
        Some((target.clone(), allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::plan::Plan, *};

    fn names(destinations: &[&str]) -> Names {
        let egress =
            Egress::Only(destinations.iter().map(|one| one.parse().expect("a destination")).collect());
        let plan = Plan::new(&egress, &[]);
        Names::new(egress, plan.targets)
    }

    #[test]
    fn a_name_below_a_wildcard_keeps_its_address_and_its_port_counts() {
        let mut names = names(&["*.example.com:443", "db.internal:5432"]);
        let Found::At(api) = names.find("api.example.com") else { panic!("it is allowed") };
        let Found::At(other) = names.find("other.example.com") else { panic!("it is allowed") };
        assert_ne!(api, other);
        assert_eq!(names.find("api.example.com"), Found::At(api));
        assert_eq!(names.meant(api, 443), Some((Target::Name("api.example.com".into()), true)));
        assert_eq!(names.meant(api, 80), Some((Target::Name("api.example.com".into()), false)));
        let Found::At(db) = names.find("db.internal") else { panic!("it is allowed") };
        // The wildcard's listener is at every address, also at this one.
        assert_eq!(names.meant(db, 443), Some((Target::Name("db.internal".into()), false)));
        assert_eq!(names.meant("127.0.0.1".parse().expect("an address"), 443), None);
    }

    #[test]
    fn what_no_destination_names_is_not_found() {
        let mut names = names(&["*.example.com:443"]);
        for name in ["example.com", "evil.org", "api.example.com.evil.org", "notexample.com", ".example.com"]
        {
            assert_eq!(names.find(name), Found::No, "{name}");
        }
        assert_eq!(names.find("localhost"), Found::At("127.0.0.1".parse().expect("an address")));
    }

    #[test]
    fn names_below_a_wildcard_are_bounded() {
        let mut names = names(&["*.example.com:443"]);
        for number in 0..ASKED_MAX {
            assert!(matches!(names.find(&format!("n{number}.example.com")), Found::At(_)));
        }
        assert_eq!(names.find("one-more.example.com"), Found::Full);
        assert!(matches!(names.find("n0.example.com"), Found::At(_)));
    }
}
