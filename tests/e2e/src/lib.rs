//! What the end-to-end tests share: a platform that runs, the doors to it, and apps to deploy.
//!
//! Each file of tests starts one platform, `rouse serve` as users start it, and talks to it by HTTP and by `rouse`
//! alone. Bounds on time are generous: the tests share a small machine with other work.

#![expect(clippy::print_stderr, reason = "a test says why it was skipped, and what the platform logged")]

mod app;
mod aws;
mod call;
mod disk;
mod engine;
pub mod history;
mod https;
mod load;
mod network;
mod oidc;
mod pebble;
mod platform;
mod postgres;
mod seen;
mod signal;
pub mod tell;
mod tools;
mod traffic;

pub use app::{App, example, fixture, folder};
pub use aws::{Boto3, credentials_file, environment, environment_of, run, tool};
pub use call::{Answer, call_on, get, wait_for};
pub use disk::Disk;
pub use engine::Engine;
pub use https::{Authority, Https, Secure, SelfSigned};
pub use load::Load;
pub use network::{Host, Network, Slow};
pub use oidc::{Browser, OidcProvider};
pub use pebble::Pebble;
pub use platform::{Cli, Platform, free_address, program, python, state_folder};
pub use postgres::Postgres;
pub use rouse_processes::{Kind, Process, alive, descendants};
pub use rustix::process::Signal;
pub use seen::Seen;
pub use signal::kill;
pub use traffic::{During, Tally, Traffic};

/// Says that a test was skipped, and why: in the form that the summary of `cargo xtask test` collects.
pub fn skipped(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

/// Returns from the test, saying so, unless the platform can run functions of this kind here.
#[macro_export]
macro_rules! need {
    ($platform:expr, $test:expr, $kind:literal) => {
        if let Some(reason) = $platform.lacks($kind) {
            $crate::skipped($test, &reason);
            return;
        }
    };
}
