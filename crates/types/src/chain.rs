//! The chain of events that led to one: which functions it passed, and how often. Breaks loops.
//!
//! It travels in the header [`CHAIN_HEADER`]: what Rouse itself sends on carries it, and code that passes it on when
//! it calls others lets them be counted, too.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{FunctionName, trigger::CHAIN_MAX};

/// Carries a [`Chain`]: `resize=2, notify=1`.
pub const CHAIN_HEADER: &str = "x-rouse-chain";
/// Functions that one chain remembers. Of more, those that it passed least often are forgotten: a loop comes back.
const FUNCTIONS_MAX: usize = 32;

/// How often a chain of events has passed each function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain(BTreeMap<FunctionName, u32>);

impl Chain {
    /// The chain after it has passed a function once more.
    #[must_use]
    pub fn then(mut self, function: &FunctionName) -> Self {
        *self.0.entry(function.clone()).or_default() += 1;
        if self.0.len() > FUNCTIONS_MAX {
            let others = self.0.iter().filter(|(name, _)| *name != function);
            let least = others.min_by_key(|(_, passes)| **passes).map(|(name, _)| name.clone());
            least.map(|name| self.0.remove(&name));
        }
        self
    }

    /// How often it has passed a function.
    #[must_use]
    pub fn passes(&self, function: &FunctionName) -> u32 {
        self.0.get(function).copied().unwrap_or_default()
    }

    /// Whether it must not pass a function again: it would be a loop.
    #[must_use]
    pub fn loops(&self, function: &FunctionName) -> bool {
        self.passes(function) >= CHAIN_MAX
    }

    /// Whether it has passed none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The chain that a caller tells of. What cannot be read of it is left out: it is for the caller's own good.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let pairs = text.split(',').take(FUNCTIONS_MAX).filter_map(|pair| {
            let (name, passes) = pair.trim().split_once('=')?;
            Some((FunctionName::from_str(name.trim()).ok()?, passes.trim().parse().ok()?))
        });
        Self(pairs.collect())
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, passes)) in self.0.iter().enumerate() {
            write!(f, "{}{name}={passes}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::read(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        FunctionName::new(text).expect("a name")
    }

    #[test]
    fn a_chain_counts_passes_and_knows_a_loop() {
        let mut chain = Chain::default();
        for pass in 0..CHAIN_MAX {
            assert!(!chain.loops(&name("a")), "after {pass} passes");
            chain = chain.then(&name("a")).then(&name("b"));
        }
        assert!(chain.loops(&name("a")) && !chain.loops(&name("c")));
        assert_eq!(Chain::read(&chain.to_string()), chain);
        assert_eq!(chain.to_string(), "a=16, b=16");
    }

    #[test]
    fn a_chain_is_bounded_and_remembers_what_comes_back() {
        let mut chain = Chain::default().then(&name("loop")).then(&name("loop"));
        for n in 0..100 {
            chain = chain.then(&name(&format!("f{n}")));
        }
        assert_eq!(chain.passes(&name("loop")), 2);
        assert!(chain.to_string().len() < 4_096);
        assert_eq!(Chain::read("=1, A=1, b=x, c = 3,,").to_string(), "c=3");
    }
}
