//! The rules of full networks: one table of `nftables` for each spawner, written by Debian's `nft(8)`, whole or not at
//! all.
//!
//! The rules know a spawner's interfaces by their group, so they are the same for one sandbox and for thousands.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rouse_types::egress::address::NEVER_V4;

use super::RANGE;

/// Where systems keep it. The spawner's own `PATH` is somebody else's.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
/// It takes some ten milliseconds.
const NFT_MAX: Duration = Duration::from_secs(10);
const NFT_PAUSE: Duration = Duration::from_millis(1);
/// Connections, and what passes for one of another protocol, that a sandbox may have at once: the kernel's table of
/// them is the host's, and would be full for everybody.
const FLOWS_MAX: u32 = 1_024;

/// Where `nft` is.
pub(in super::super) fn find() -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join("nft")).find(|path| path.exists())
}

/// Writes the table anew. `uplinks` are those whose forwarding was turned on for it.
pub(super) fn write(instance: &str, group: u32, uplinks: &BTreeSet<String>) -> io::Result<()> {
    nft(&(without(instance) + &text(instance, group, uplinks)))
}

/// Removes the table, if it is there.
pub(super) fn remove(instance: &str) -> io::Result<()> {
    nft(&without(instance))
}

/// Writes a table and removes it in one transaction, of which nothing is ever to be seen.
pub(super) fn probe(instance: &str, group: u32) -> Result<(), String> {
    if find().is_none() {
        return Err("nft is not installed: apt-get install nftables".to_owned());
    }
    let name = format!("{instance}-probe");
    let uplinks = BTreeSet::from(["lo".to_owned()]);
    nft(&(text(&name, group, &uplinks) + &without(&name)))
        .map_err(|error| format!("the kernel does not take the rules: {error}"))
}

/// Tables of others that let no packets pass which they do not know: ours cannot overrule them.
pub(in super::super) fn closed_by_others() -> Vec<String> {
    let Some(nft) = find() else { return Vec::new() };
    let Ok(output) = Command::new(nft).args(["list", "chains"]).output() else { return Vec::new() };
    closed(&String::from_utf8_lossy(&output.stdout))
}

fn closed(chains: &str) -> Vec<String> {
    let mut table = "";
    let mut closed = Vec::new();
    for line in chains.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(['{', ' ']);
        }
        if line.contains("hook forward") && line.contains("policy drop") {
            closed.push(table.to_owned());
        }
    }
    closed
}

/// What removes a table, also one that is not there.
fn without(instance: &str) -> String {
    format!("table inet rouse-{instance} {{ }}\ndelete table inet rouse-{instance}\n")
}

fn text(instance: &str, group: u32, uplinks: &BTreeSet<String>) -> String {
    let never = NEVER_V4.iter().map(|(network, prefix, _)| (*network, *prefix));
    let never: Vec<_> = never.chain([RANGE]).map(|(network, prefix)| format!("{network}/{prefix}")).collect();
    let never = never.join(", ");
    let names: Vec<_> = uplinks.iter().map(|name| format!("\"{name}\"")).collect();
    let names = names.join(", ");
    // What did not pass before it was turned on for us does not pass now. Packets of a translation that others have made
    // since, as engines of containers do, were asked for.
    let guard = if names.is_empty() {
        String::new()
    } else {
        format!("iifname {{ {names} }} oifgroup != {group} ct state new ct status & dnat == 0 drop\n")
    };
    format!(
        "table inet rouse-{instance} {{
  set never {{ type ipv4_addr; flags interval; elements = {{ {never} }}; }}
  set flows {{ type ipv4_addr; size 16384; flags dynamic; }}
  # Before any translation of others: what is sent to an address of the host's is meant for the host.
  chain sent {{
    type filter hook prerouting priority raw; policy accept;
    iifgroup {group} jump refuse
  }}
  chain refuse {{
    meta nfproto ipv6 drop
    ip daddr @never drop
    fib daddr type {{ local, broadcast, multicast, anycast }} drop
    fib saddr . iif oif missing drop
  }}
  chain host {{
    type filter hook input priority filter - 10; policy accept;
    iifgroup {group} drop
  }}
  chain answer {{
    type filter hook output priority filter - 10; policy accept;
    oifgroup {group} ct state != {{ established, related }} drop
  }}
  chain pass {{
    type filter hook forward priority filter - 10; policy accept;
    iifgroup {group} oifgroup {group} drop
    iifgroup {group} ip daddr @never drop
    oifgroup {group} ct state != {{ established, related }} drop
    iifgroup {group} ct state new add @flows {{ ip saddr ct count over {FLOWS_MAX} }} drop
    {guard}  }}
  chain leave {{
    type nat hook postrouting priority srcnat; policy accept;
    iifgroup {group} masquerade
  }}
}}
"
    )
}

/// Gives a text to `nft`, which does all of it or nothing.
fn nft(text: &str) -> io::Result<()> {
    let path = find().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nft is not installed"))?;
    let mut child = Command::new(path)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It reads all before it acts; if it does not, its end says why.
        let _ = stdin.write_all(text.as_bytes());
    }
    let deadline = Instant::now() + NFT_MAX;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(NFT_PAUSE),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.read_to_string(&mut said);
    }
    Err(io::Error::other(format!("nft: {}", said.lines().next().unwrap_or("it failed without a word"))))
}

#[cfg(test)]
mod tests {
    use rouse_types::egress::address::forbidden;

    use super::*;

    #[test]
    fn what_no_name_may_lead_to_no_packet_may_go_to() {
        let text = text("a", 7, &BTreeSet::new());
        let set = text.lines().find_map(|line| line.split_once("elements = {")).expect("the set").1;
        for (network, prefix, _) in NEVER_V4 {
            assert!(forbidden(network.into()).is_some());
            let whole = format!("{network}/{prefix}");
            assert!(set.contains(&whole), "{whole} in {set}");
        }
        assert!(!text.contains("iifname"), "nothing is guarded that was on before: {text}");
    }

    #[test]
    fn another_firewall_that_lets_nothing_pass_is_told() {
        let chains = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n\
                      table inet rouse-a {\n\tchain pass {\n\t\ttype filter hook forward priority filter - 10; policy accept;\n\t}\n}\n";
        assert_eq!(closed(chains), ["ip filter"]);
        assert_eq!(closed(""), [] as [String; 0]);
    }
}
