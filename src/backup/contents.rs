//! What of a state folder is in a backup: everything that cannot be had again.

use std::{io, path::Path};

/// The databases, in the order in which they are copied: what is told to another comes before it, so that whatever happens
/// between two copies is told again and known as told, and nothing is taken for told that is not there. So the outbox of
/// objects and the cursors of schedules come before the queues, and what was run is billed by a ledger that is copied later.
pub(super) const DATABASES: [&str; 6] = [
    "objects/records.db",
    "aws/aws.db",
    "events/records.db",
    "events/queues.db",
    "control/rouse.db",
    "control/ledger.db",
];
/// The journals, cut after the ledger was copied: it names places in them.
pub(super) const JOURNALS: [&str; 3] = ["journal/usage", "journal/log", "journal/log-of-others"];
/// Files that are replaced whole.
pub(super) const FILES: [&str; 7] = [
    "control/ledger.key",
    "aws/functions.key",
    "events/receipts.key",
    "tls/acme.json",
    "objects/place.json",
    "hosts",
    "prices.toml",
];
/// Folders of files that never change.
pub(super) const FOLDERS: [&str; 5] = ["blobs", "aws/code", "objects/data", "layers", "runtimes"];
/// What opens secrets: in a backup only where that is asked for.
pub(crate) const SECRET_KEYS: &str = "secrets/keys";

/// What is left out, for the platform makes it again from the rest, or is told it at its start: also what lies below.
const LEFT_OUT: [&str; 22] = [
    "lock",
    "run",
    "apps",
    "keys",
    "code",
    "compiled",
    "secrets",
    "control/token",
    rouse_store::settled::FILE,
    "control/quotas.json",
    "aws/keys.json",
    "objects/credentials",
    "objects/uploads",
    "objects/incoming",
    "tls/files.json",
    "tls/challenges",
    // A node's certificate, which is issued again.
    rouse_tls::node::FILE,
    // Of a node of a cluster: the tables are in a backup under the names that they have on one machine.
    "control/cluster.json",
    "control/records",
    "control/ledger",
    "events/records",
    "events/queues",
];

/// Whether an account's key at an ACME authority.
pub(super) fn is_acme_account(name: &str) -> bool {
    name.starts_with("control/acme-") && name.ends_with(".json")
}

/// What of the state folder this release does not know, and so leaves out.
pub(super) fn unknown(state: &Path) -> io::Result<Vec<String>> {
    let mut unknown = Vec::new();
    for name in list(state, "")? {
        if is_known(&name) {
            continue;
        }
        let inside = DATABASES.iter().chain(&JOURNALS).chain(&FILES).chain(&FOLDERS).chain(&LEFT_OUT);
        if !inside.clone().any(|known| known.starts_with(&format!("{name}/"))) {
            unknown.push(name);
            continue;
        }
        unknown.extend(list(state, &name)?.into_iter().filter(|name| !is_known(name)));
    }
    unknown.sort_unstable();
    Ok(unknown)
}

fn is_known(name: &str) -> bool {
    // Of a database: its log and the index of that.
    let name = name.strip_suffix("-wal").or_else(|| name.strip_suffix("-shm")).unwrap_or(name);
    let mut known = DATABASES.iter().chain(&JOURNALS).chain(&FILES).chain(&FOLDERS).chain(&LEFT_OUT);
    known.any(|known| *known == name) || is_acme_account(name) || name == SECRET_KEYS
}

fn list(state: &Path, folder: &str) -> io::Result<Vec<String>> {
    let path = state.join(folder);
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // What is being written.
        if !name.starts_with('.') {
            names.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_told() {
        let state = tempfile::tempdir().expect("a folder");
        for name in
            DATABASES.iter().chain(&FILES).chain(&["control/rouse.db-wal", "control/acme-1.json", "lock"])
        {
            let path = state.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        for name in FOLDERS.iter().chain(&JOURNALS).chain(&["run/x", "secrets/keys"]) {
            std::fs::create_dir_all(state.path().join(name)).expect("made");
        }
        assert_eq!(unknown(state.path()).expect("listed"), [] as [&str; 0]);
        std::fs::write(state.path().join("control/new.db"), "").expect("written");
        std::fs::create_dir(state.path().join("novel")).expect("made");
        assert_eq!(unknown(state.path()).expect("listed"), ["control/new.db", "novel"]);
    }
}
