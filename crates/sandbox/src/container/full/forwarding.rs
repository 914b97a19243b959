//! Lets the kernel pass packets on: for a sandbox' interface and for those that lead outside, and for nothing else.
//!
//! Who turned it on for an interface notes that under `/run`, as does everybody of ours who relies on it; the last one
//! to go turns it off again, also the next start of one that was killed. Where it was on already it is left as it is.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// A file for each spawner, named by its network's number and its own name; a line for each interface.
const NOTES: &str = "/run/rouse-network";
/// What most links have.
const MTU_DEFAULT: u32 = 1_500;
/// The least that programs may rely on: RFC 8200 §5, and more than RFC 791 asks for.
const MTU_MIN: u32 = 1_280;

/// The interfaces that lead anywhere, but for our own: those of the kernel's table of routes, `proc_pid_net(5)`.
pub(in super::super) fn uplinks() -> BTreeSet<String> {
    routes(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

fn routes(table: &str) -> BTreeSet<String> {
    let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    // A name may have a quotation mark; ours is no place for it.
    let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@:".contains(&b));
    names.filter(|name| !name.starts_with("rouse-")).filter(plain).map(str::to_owned).collect()
}

/// The largest packet that passes all of these.
pub(super) fn mtu(uplinks: &BTreeSet<String>) -> u32 {
    let all = uplinks.iter().filter_map(|name| {
        fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?.trim().parse::<u32>().ok()
    });
    all.min().unwrap_or(MTU_DEFAULT).clamp(MTU_MIN, MTU_DEFAULT)
}

/// Whether packets that come in at an interface are passed on.
pub(in super::super) fn is_on(uplink: &str) -> bool {
    fs::read_to_string(switch(uplink)).is_ok_and(|text| text.trim() == "1")
}

fn switch(uplink: &str) -> PathBuf {
    format!("/proc/sys/net/ipv4/conf/{uplink}/forwarding").into()
}

/// Turns it on for all of these, and gives those for which it would be off without us.
pub(super) fn ask(instance: &str, uplinks: &BTreeSet<String>) -> io::Result<BTreeSet<String>> {
    let notes = Notes::lock()?;
    let noted: BTreeSet<String> = notes.others(instance).chain(notes.own(instance)).collect();
    let ours: BTreeSet<String> =
        uplinks.iter().filter(|name| noted.contains(*name) || !is_on(name)).cloned().collect();
    // Noted before it is done: a crash in between leaves a note too many, which harms nobody.
    let lines: String = ours.iter().map(|name| format!("{name}\n")).collect();
    fs::write(notes.path(instance), lines)?;
    for name in &ours {
        turn(name, "1")?;
    }
    Ok(ours)
}

/// Whether a spawner of this name has asked, and has not let go.
pub(super) fn was_asked(instance: &str) -> bool {
    Notes::of_this_network().is_ok_and(|notes| notes.path(instance).exists())
}

/// Turns it off for those that nobody else needs.
pub(super) fn release(instance: &str) -> io::Result<()> {
    let notes = Notes::lock()?;
    let needed: BTreeSet<String> = notes.others(instance).collect();
    for name in notes.own(instance).filter(|name| !needed.contains(name)) {
        turn(&name, "0")?;
    }
    fs::remove_file(notes.path(instance))
}

fn turn(uplink: &str, to: &str) -> io::Result<()> {
    match fs::write(switch(uplink), to) {
        // One that has gone meanwhile needs nothing.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The notes of one network, under a lock where they are changed.
struct Notes {
    network: u64,
    _lock: Option<fs::File>,
}

impl Notes {
    fn of_this_network() -> io::Result<Self> {
        Ok(Self { network: fs::metadata("/proc/self/ns/net")?.ino(), _lock: None })
    }

    fn lock() -> io::Result<Self> {
        fs::create_dir_all(NOTES)?;
        let lock = fs::File::open(NOTES)?;
        // Whoever has it writes some files, and goes on.
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self { _lock: Some(lock), ..Self::of_this_network()? })
    }

    fn path(&self, instance: &str) -> PathBuf {
        Path::new(NOTES).join(format!("{}-{instance}", self.network))
    }

    fn own(&self, instance: &str) -> impl Iterator<Item = String> + use<> {
        lines(&self.path(instance)).into_iter()
    }

    fn others(&self, instance: &str) -> impl Iterator<Item = String> + use<> {
        let (own, network) = (self.path(instance), format!("{}-", self.network));
        let entries = fs::read_dir(NOTES).into_iter().flatten().flatten();
        let others = entries.filter(move |entry| {
            entry.path() != own && entry.file_name().to_string_lossy().starts_with(&network)
        });
        others.flat_map(|entry| lines(&entry.path()))
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplinks_are_what_routes_lead_to_and_not_our_own() {
        let table = "Iface\tDestination\tGateway\neth0\t00000000\t010200C0\neth0\t000200C0\t0\n\
                     rouse-3\t0C006064\t0\nwg\"0\t0\t0\nbr-1.20\t0\t0\n";
        assert_eq!(routes(table), ["br-1.20", "eth0"].map(str::to_owned).into());
        assert!(routes("").is_empty());
    }
}
