//! Costs against an independent computation: schoolbook long arithmetic on decimal digits.

use proptest::prelude::*;
use rouse_metering::PriceSheet;
use rouse_types::Outcome;

/// A number as decimal digits, the least first. Slow, and too simple to be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Big(Vec<u8>);

impl Big {
    fn parse(digits: &str) -> Self {
        Self(digits.bytes().rev().map(|b| b - b'0').collect()).trim()
    }
    fn of(number: u64) -> Self {
        Self::parse(&number.to_string())
    }
    fn trim(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }
    fn plus(&self, other: &Self) -> Self {
        let mut digits = Vec::new();
        let mut carry = 0;
        for n in 0..self.0.len().max(other.0.len()) + 1 {
            let sum = self.0.get(n).unwrap_or(&0) + other.0.get(n).unwrap_or(&0) + carry;
            digits.push(sum % 10);
            carry = sum / 10;
        }
        Self(digits).trim()
    }
    fn times(&self, other: &Self) -> Self {
        let mut total = Self(Vec::new());
        for (shift, &digit) in other.0.iter().enumerate() {
            let mut row = vec![0; shift];
            let mut carry = 0_u8;
            for &own in &self.0 {
                let product = own * digit + carry;
                row.push(product % 10);
                carry = product / 10;
            }
            row.push(carry);
            total = total.plus(&Self(row));
        }
        total
    }
    fn at_most(&self, other: &Self) -> bool {
        let key = |big: &Self| (big.0.len(), big.0.iter().rev().copied().collect::<Vec<_>>());
        key(self) <= key(other)
    }
}

/// The digits of a decimal, with as many behind the point as asked.
fn shifted(text: &str, behind: usize) -> Big {
    let (before, rest) = text.split_once('.').unwrap_or((text, ""));
    Big::parse(&format!("{before}{rest:0<behind$}"))
}

fn decimal() -> impl Strategy<Value = String> {
    (0..1_000_u64, prop::collection::vec(0..10_u8, 1..18)).prop_map(|(before, behind)| {
        let behind: String = behind.iter().map(u8::to_string).collect();
        format!("{before}.{behind}")
    })
}

proptest! {
    /// With N the exact cost in billionths: cost - 1/2 <= N < cost + 1/2.
    #[test]
    fn a_cost_is_the_exact_one_rounded_half_up(
        requests in decimal(), duration in decimal(), billed_ms in 1..3_600_000_u64, memory in 1..10_241_u32,
    ) {
        let prices = PriceSheet::parse(&format!(
            "currency = \"USD\"\nrequests_per_million = \"{requests}\"\nduration_per_gb_second = \"{duration}\""
        )).unwrap();
        let cost = prices.cost_of(Outcome::Ok, billed_ms, memory).unwrap().0;
        // Times 2 * 10^6 * 1,024,000 * 10^18 / 10^9, both sides are whole.
        let request = shifted(&requests, 18).times(&Big::of(2 * 1_024_000));
        let mib_ms = Big::of(billed_ms).times(&Big::of(u64::from(memory)));
        let exact = request.plus(&shifted(&duration, 18).times(&mib_ms).times(&Big::of(2 * 1_000_000)));
        let unit = Big::of(1_000_000 * 1_024_000).times(&Big::of(1_000_000_000));
        // 2 * exact / unit is between 2 * cost - 1 and 2 * cost + 1.
        let twice = Big::of(2).times(&Big::of(cost)).times(&unit);
        prop_assert!(twice.at_most(&exact.plus(&unit)));
        let above = exact.plus(&unit).plus(&Big::of(1));
        prop_assert!(above.at_most(&twice.plus(&unit.times(&Big::of(2)))));
    }
}
