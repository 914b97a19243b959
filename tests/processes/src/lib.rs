//! The processes below one, as the kernel has them: what is left when nobody calls is not asked of the platform.

use std::fs;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, words divided by spaces.
    pub command: String,
}

/// What a process below the platform's supervisor is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of the platform's roles, the spawner's prepared sandboxes among them.
    Platform,
    /// An interpreter that waits to be forked or to become a function. It is nobody's yet, and goes some minutes
    /// after the last call.
    Waiting,
    /// A function, or what it has started.
    Function,
}

impl Process {
    /// The platform's role that it has: `gateway`, `node`, `control`, `spawner`; nothing for all else.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let mut words = self.command.split(' ').skip(1);
        (words.next() == Some("role")).then(|| words.next()).flatten()
    }

    /// What it is there for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.role().is_some() {
            Kind::Platform
        } else if self.command.contains("/zygote.py ") || self.is_unclaimed_client() {
            Kind::Waiting
        } else {
            Kind::Function
        }
    }

    /// Whether it runs still: its id may have gone to another since.
    #[must_use]
    pub fn runs(&self) -> bool {
        alive(self.pid) && process(self.pid).command == self.command
    }

    /// Whether this is a client of the Runtime API that has no function yet: until it becomes one, the first process
    /// of its sandbox is root's.
    fn is_unclaimed_client(&self) -> bool {
        self.command.contains("/node_client.mjs")
            && stat(self.pid)
                .and_then(|(_, parent)| fs::read_to_string(format!("/proc/{parent}/status")).ok())
                .is_some_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")))
    }
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
    found.into_iter().skip(1).map(process).collect()
}

/// A process and all that descend from it.
#[must_use]
pub fn tree(root: u32) -> Vec<Process> {
    let mut found = vec![process(root)];
    found.extend(descendants(root));
    found
}

fn process(pid: u32) -> Process {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Process { pid, command: String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned() }
}

/// State and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything, brackets too.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;

    #[test]
    fn a_child_is_listed_while_it_runs_and_is_a_function_unless_its_words_say_otherwise() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("start sleep");
        let found = descendants(id()).into_iter().find(|process| process.pid == child.id());
        child.kill().expect("end it");
        child.wait().expect("it ended");
        let found = found.expect("it is listed");
        assert_eq!(found.kind(), Kind::Function);
        assert!(!alive(found.pid) && !found.runs());
        let of = |command: &str| Process { pid: found.pid, command: command.to_owned() }.kind();
        assert_eq!(of("rouse role spawner {}"), Kind::Platform);
        assert_eq!(of("python3 /opt/rouse/zygote/zygote.py 3"), Kind::Waiting);
        assert_eq!(of("node server.mjs role"), Kind::Function);
    }
}
