//! Signals to processes of the platform.

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to a process, which may have ended by itself.
///
/// # Panics
/// When that is no process' id.
pub fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal);
}
