//! What the runner of the escape corpus is told by its probes, and what it makes of it: plain data, with tests of its
//! own. The runner itself is `main.rs`.

mod probe;
mod verdict;

pub use probe::{Limits, Probe};
pub use verdict::{Came, Told};
