//! How many may try to sign in: at once, from one address, and over all. Strangers reach this, and each try costs a signature.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rouse_quota::{Rate, next};
use rouse_types::{Code, Refusal, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Sign-ins under way at once.
const PLACES: usize = 64;
/// Over all who try: a signature takes a tenth of a millisecond to check.
const ALL: Rate = Rate { per_second: 50, burst: 200 };
/// From one address: an office or a fleet of builds behind one, but no tenth of what all have together.
const EACH: Rate = Rate { per_second: 5, burst: 50 };
/// Addresses that are held before those are forgotten that are within their rate again. Those that are not are fewer: at
/// most as many as [`ALL`] lets in while one comes back to rest, some 700.
const ADDRESSES_MAX: usize = 4_096;
/// Refusals that the audit log tells of in one minute, each of another address or tenant: bounds what strangers can write.
const TOLD_MAX: usize = 100;
const MINUTE_SECONDS: u64 = 60;

/// Who may try, and what was told of those who tried in vain.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    began: Instant,
    dues: Mutex<Dues>,
    refused: Mutex<Refused>,
}

/// When the next try is due, by [`next`], in nanoseconds since the gate's beginning.
#[derive(Debug, Default)]
struct Dues {
    all: u64,
    each: HashMap<IpAddr, u64>,
}

/// Whose refusals were told of in one minute.
#[derive(Debug, Default)]
struct Refused {
    minute: u64,
    told: HashSet<(Option<IpAddr>, TenantId)>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            began: Instant::now(),
            dues: Mutex::default(),
            refused: Mutex::default(),
        }
    }
}

/// What counts as one address: of IPv6 the network that one customer has at least (RFC 6177).
fn of_one(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

impl Dues {
    /// Lets one more in at `now`, or says how long to wait, in nanoseconds. Who comes too often takes nothing of what all
    /// have. Pure but for itself.
    fn pass(&mut self, from: Option<IpAddr>, now: u64) -> Result<(), u64> {
        let each = from.map(|from| {
            let from = of_one(from);
            next(self.each.get(&from).copied().unwrap_or_default(), now, EACH).map(|due| (from, due))
        });
        let each = each.transpose()?;
        self.all = next(self.all, now, ALL)?;
        if let Some((from, due)) = each {
            if self.each.len() >= ADDRESSES_MAX {
                self.each.retain(|_, due| *due > now);
            }
            self.each.insert(from, due);
        }
        Ok(())
    }
}

impl Gate {
    /// Lets one try, from an address or, without one, from this machine.
    pub(crate) fn enter(&self, from: Option<IpAddr>) -> Result<OwnedSemaphorePermit, Refusal> {
        let busy = |wait: Duration| {
            Refusal::new(Code::TooManyRequests, "too many sign in at once")
                .hint("try again in a moment; API keys and sessions that are there go on")
                .retry_after(wait.max(Duration::from_secs(1)))
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy(Duration::ZERO))?;
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut dues = self.dues.lock().unwrap_or_else(PoisonError::into_inner);
        dues.pass(from, now).map_err(|wait| busy(Duration::from_nanos(wait)))?;
        Ok(place)
    }

    /// Whether the audit log tells of a refusal: of the first from an address for a tenant in a minute. `seconds` is the time
    /// since the epoch.
    pub(crate) fn tells(&self, from: Option<IpAddr>, tenant: &TenantId, seconds: u64) -> bool {
        let minute = seconds / MINUTE_SECONDS;
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.minute != minute {
            *refused = Refused { minute, told: HashSet::new() };
        }
        refused.told.len() < TOLD_MAX && refused.told.insert((from.map(of_one), tenant.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(last: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0x0a00_0000 + last).to_be_bytes()))
    }

    fn passed(dues: &mut Dues, from: Option<IpAddr>, tries: u32, now: u64) -> u32 {
        (0..tries).map(|_| u32::from(dues.pass(from, now).is_ok())).sum()
    }

    #[test]
    fn one_address_takes_no_more_than_its_share_and_keeps_others_out_of_nothing() {
        let mut dues = Dues::default();
        assert_eq!(passed(&mut dues, address(1), 10_000, SECOND), EACH.burst);
        assert_eq!(passed(&mut dues, address(2), 20, SECOND), 20, "others come in");
        assert_eq!(passed(&mut dues, address(1), 100, 2 * SECOND), EACH.per_second);
    }

    #[test]
    fn all_together_take_no_more_than_the_whole() {
        let mut dues = Dues::default();
        let many: u32 = (0..1_000).map(|last| passed(&mut dues, address(last), 1, SECOND)).sum();
        assert_eq!(many, ALL.burst);
        let later: u32 = (2_000..3_000).map(|last| passed(&mut dues, address(last), 1, 2 * SECOND)).sum();
        assert_eq!(later, ALL.per_second);
    }

    #[test]
    fn what_is_held_of_addresses_is_bounded() {
        let mut dues = Dues::default();
        for last in 0..200_000_u32 {
            let _ = dues.pass(address(last), SECOND + u64::from(last) * (SECOND / 50));
        }
        assert!(dues.each.len() <= ADDRESSES_MAX, "{}", dues.each.len());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_what_it_maps() {
        let of = |text: &str| of_one(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn a_refusal_is_told_once_a_minute_and_a_flood_of_them_is_bounded() {
        let (gate, shop): (_, TenantId) = (Gate::default(), "shop".parse().expect("a name"));
        let told: Vec<bool> = (0..3).map(|second| gate.tells(address(1), &shop, second)).collect();
        assert_eq!(told, [true, false, false]);
        assert!(gate.tells(address(2), &shop, 3) && gate.tells(address(1), &shop, 60));
        let flood = (10..10_000).filter(|last| gate.tells(address(*last), &shop, 61)).count();
        assert_eq!(flood, TOLD_MAX - 1);
    }
}
