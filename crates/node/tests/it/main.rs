//! The node, whole, with the simulator in place of sandboxes: real sockets, real Runtime API, paused time.

mod calls;
mod code;
mod harness;
mod http;
mod scaling;
mod server;
mod slots;
mod starts;
mod warm;
