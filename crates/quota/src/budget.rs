//! A month's cap: whether what a call may cost at most still fits. Pure.
//!
//! ```text
//!  cap ┌───────────────────────────────┐
//!      │ spent          │ set aside │  │ ◀─ the worst case of one more
//!      └───────────────────────────────┘
//! ```

/// How a month stands, in billionths of the price sheet's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// The most that may be spent.
    pub cap: u64,
    /// What ended calls came to.
    pub spent: u64,
    /// What is set aside for calls under way.
    pub reserved: u64,
}

/// Why a call may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// It could go beyond the cap whatever becomes of others.
    Exhausted,
    /// It could, but calls under way will give back some of what is set aside for them.
    Reserved,
    /// Nobody has said yet how the month stands.
    Unknown,
}

/// Whether a call that costs at most `worst` may begin.
///
/// # Errors
/// Why not.
pub fn decide(balance: Balance, worst: u64) -> Result<(), Short> {
    let Balance { cap, spent, reserved } = balance;
    match spent.checked_add(worst) {
        Some(alone) if alone <= cap => match alone.checked_add(reserved) {
            Some(all) if all <= cap => Ok(()),
            _ => Err(Short::Reserved),
        },
        _ => Err(Short::Exhausted),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_fits_to_the_last_billionth() {
        let balance = Balance { cap: 100, spent: 60, reserved: 30 };
        assert_eq!(decide(balance, 10), Ok(()));
        assert_eq!(decide(balance, 11), Err(Short::Reserved));
        assert_eq!(decide(balance, 41), Err(Short::Exhausted));
        assert_eq!(decide(Balance::default(), 0), Ok(()), "what costs nothing fits a cap of nothing");
        assert_eq!(decide(Balance { spent: u64::MAX, ..balance }, u64::MAX), Err(Short::Exhausted));
    }

    proptest! {
        #[test]
        fn whatever_calls_come_to_within_their_worst_case_the_cap_holds(
            cap in 0u64..10_000, calls in prop::collection::vec((0u64..500, 0u64..=100, any::<bool>()), 0..200),
        ) {
            let mut balance = Balance { cap, ..Balance::default() };
            let mut open = Vec::new();
            for (worst, percent, ends) in calls {
                if decide(balance, worst).is_ok() {
                    balance.reserved += worst;
                    open.push((worst, worst * percent / 100));
                }
                if ends && let Some((worst, cost)) = open.pop() {
                    balance.spent += cost;
                    balance.reserved -= worst;
                }
                prop_assert!(balance.spent + balance.reserved <= cap);
            }
        }
    }
}
