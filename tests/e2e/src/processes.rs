//! The real list of processes: what is left when nobody calls is read from the kernel, not asked of the platform.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, words divided by spaces.
    pub command: String,
}

impl Process {
    /// The platform's role that it has: `gateway`, `node`, `control`, `spawner`; nothing for all else.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let mut words = self.command.split(' ').skip(1);
        (words.next() == Some("role")).then(|| words.next()).flatten()
    }
}

/// Whether this is an interpreter that waits to become a function: until it does, the first process of its sandbox is
/// root's.
#[must_use]
pub(crate) fn waits(process: &Process) -> bool {
    let parent = stat(process.pid).map(|(_, parent)| parent);
    let status = parent.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    let of_root = status.is_some_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")));
    of_root && process.command.contains("/node_client.mjs")
}

/// Whether a process is there and has not ended.
#[must_use]
pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// All that descend from a process, without those that have ended.
#[must_use]
pub fn descendants(root: u32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).filter(|(state, _)| *state != 'Z').map(|(_, parent)| (pid, parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().skip(1).map(|pid| Process { pid, command: command(pid) }).collect()
}

/// Sends a signal to a process, which may have ended by itself.
///
/// # Panics
/// When that is no process' id.
pub fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal);
}

fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// State and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything, brackets too.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
