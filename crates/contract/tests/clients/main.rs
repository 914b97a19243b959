//! The Runtime API against the clients that people's functions use, as plain processes and in real containers.

mod ahead;
mod extensions;
mod forks;
mod harness;
mod host;
mod node;
mod packages;
mod preload;
mod process;
mod python;
mod rust;
mod tools;
