//! A network of its own for each sandbox that asks for all ([`crate::Network::Full`]): a pair of virtual interfaces, a
//! range of two addresses, and rules of the kernel's filter for where packets may go.
//!
//! ```text
//!  sandbox                          host
//!    eth0 100.96.0.2/30 ── pair ──▶ rouse-0 100.96.0.1/30 ─ table: refuse, count ─▶ masquerade ─▶ uplink
//! ```
//!
//! In the order of one start: `forwarding` lets the kernel pass packets on between the interfaces, `table` writes the
//! rules, once for all sandboxes of a spawner, and `link` makes the pair; its inner end is set up by the sandbox' own
//! first process before it gives up its rights. All of it is gone when the spawner ends, and what a killed one left,
//! the next start takes away. A host on which nobody asks is left as it is.
//!
//! Several spawners share a host, and with it the addresses: who makes the interface `rouse-N` has the Nth range.

mod forwarding;
mod link;
mod table;

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::Ipv4Addr,
};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{netlink::Netlink, wire::Refused};
pub(super) use forwarding::{is_on, uplinks};
pub(super) use link::set_up;
pub(super) use table::{closed_by_others, find};

/// The addresses of all sandboxes of a host: part of what is set aside for carriers (RFC 6598), which neither a
/// company's network nor the world outside has.
const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 96, 0, 0), 16);
/// Ranges of four addresses in it.
const SLOTS: u16 = 1 << 14;
/// Ranges that are tried when others have them: another spawner would have to have this many in a row.
const TRIES_MAX: usize = 64;

/// What a sandbox gets: told to its first process, which sets up the inner end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    slot: u16,
    /// Bytes of a packet.
    mtu: u32,
}

impl Link {
    /// The name of the outer end.
    fn name(self) -> String {
        format!("rouse-{}", self.slot)
    }

    /// The host's address, by which the sandbox sends.
    fn outer(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(RANGE.0.to_bits() + u32::from(self.slot) * 4 + 1)
    }

    /// The sandbox' address.
    fn inner(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.outer().to_bits() + 1)
    }
}

/// The networks of one spawner.
#[derive(Debug)]
pub(super) struct Full {
    instance: String,
    /// Taken from the front and put back at the end: a range rests as long as it can, so that nothing that was sent
    /// to its last sandbox reaches the next.
    free: VecDeque<u16>,
    /// The uplinks that the table stands for, once there is one.
    uplinks: Option<BTreeSet<String>>,
    /// Why there can be none; looked at once.
    unavailable: Option<Option<String>>,
}

impl Full {
    pub(super) fn new(instance: &str) -> Self {
        // Two spawners begin at different places, and seldom meet.
        let first = u16::try_from(group(instance) % u32::from(SLOTS)).unwrap_or(0);
        let free = (first..SLOTS).chain(0..first).collect();
        Self { instance: instance.to_owned(), free, uplinks: None, unavailable: None }
    }

    /// Takes away what a spawner of this name left that was killed.
    pub(super) fn clean(&self) {
        // The pairs went with their sandboxes; one that was just made may not have.
        if let Ok(mut netlink) = Netlink::open(None) {
            let _ = link::remove_all(&mut netlink, group(&self.instance));
        }
        if forwarding::was_asked(&self.instance) {
            self.undo();
        }
    }

    /// Takes away everything.
    pub(super) fn dismantle(&mut self) {
        if self.uplinks.take().is_some() {
            self.clean();
        }
    }

    fn undo(&self) {
        let removed = table::remove(&self.instance);
        let released = removed.and_then(|()| forwarding::release(&self.instance));
        if let Err(error) = released {
            tracing::warn!(%error, "the rules of full networks stay until the next start");
        }
    }

    /// Why no sandbox can have a network of its own on this host.
    pub(super) fn unavailable(&mut self) -> Option<String> {
        let instance = &self.instance;
        self.unavailable.get_or_insert_with(|| probe(instance).err()).clone()
    }

    /// Makes a network for the sandbox whose first process this is.
    pub(super) fn give(&mut self, process: Pid) -> Result<Link, Refused> {
        let step = |what: &'static str| move |error: io::Error| Refused::host(what, &error);
        let uplinks = uplinks();
        if self.uplinks.as_ref() != Some(&uplinks) {
            let ours = forwarding::ask(&self.instance, &uplinks)
                .map_err(step("let packets of sandboxes pass (net.ipv4.conf.*.forwarding)"))?;
            table::write(&self.instance, group(&self.instance), &ours)
                .map_err(step("write the rules of full networks (nft)"))?;
            self.uplinks = Some(uplinks.clone());
        }
        let mut netlink = Netlink::open(None).map_err(step("open netlink"))?;
        let mtu = forwarding::mtu(&uplinks);
        for _ in 0..TRIES_MAX {
            let slot = self.free.pop_front().ok_or_else(used_up)?;
            let link = Link { slot, mtu };
            match link::make(&mut netlink, link, group(&self.instance), process) {
                Ok(()) => return Ok(link),
                Err(error) => {
                    self.free.push_back(slot);
                    if error.raw_os_error() != Some(libc::EEXIST) {
                        return Err(Refused::host("make a pair of interfaces (veth)", &error));
                    }
                }
            }
        }
        Err(used_up())
    }

    /// Takes a network away. Its sandbox has ended.
    pub(super) fn take_back(&mut self, link: Link) {
        let removed = Netlink::open(None).and_then(|mut netlink| link::remove(&mut netlink, link));
        match removed {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                tracing::warn!(interface = link.name(), %error, "an interface stays until its network is gone");
            }
            _ => {}
        }
        self.free.push_back(link.slot);
    }
}

/// Tries all that is needed, and leaves nothing.
pub(super) fn probe(instance: &str) -> Result<(), String> {
    table::probe(instance, group(instance))?;
    let mut netlink = Netlink::open(None).map_err(|error| format!("netlink cannot be used: {error}"))?;
    link::probe(&mut netlink)
        .map_err(|error| format!("the kernel makes no pairs of interfaces: {error}; modprobe veth"))
}

fn used_up() -> Refused {
    Refused::host("find free addresses for a full network", &io::Error::from_raw_os_error(libc::EADDRINUSE))
}

/// The number of the group that all interfaces of a spawner are in: a hash of its name (FNV-1a), and never zero, which
/// all other interfaces of the host have.
fn group(instance: &str) -> u32 {
    let hash = instance
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_has_two_addresses_and_a_name_of_its_own() {
        let link = |slot| Link { slot, mtu: 1_500 };
        assert_eq!(link(0).outer(), Ipv4Addr::new(100, 96, 0, 1));
        assert_eq!(link(0).inner(), Ipv4Addr::new(100, 96, 0, 2));
        assert_eq!(link(SLOTS - 1).inner(), Ipv4Addr::new(100, 96, 255, 254));
        assert_eq!(link(SLOTS - 1).name(), "rouse-16383");
        // IFNAMSIZ, with the zero at its end.
        assert!(link(SLOTS - 1).name().len() < 16);
    }

    #[test]
    fn every_range_is_free_at_first_wherever_a_spawner_begins() {
        for instance in ["a", "test-1", "0123456789ab"] {
            let full = Full::new(instance);
            let all: BTreeSet<u16> = full.free.iter().copied().collect();
            assert_eq!((all.len(), full.free.len()), (SLOTS.into(), SLOTS.into()));
            assert_ne!(group(instance), 0);
        }
    }
}
