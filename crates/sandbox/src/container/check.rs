//! What a spec may ask for. The spawner checks it again although the node made it: the node reads what
//! strangers send, and has no privileges so that its faults are not the host's.

use crate::{Root, Spec};

use super::{image, rootfs, wire};

/// Bounds what one child sets up.
pub(super) const MOUNTS_MAX: usize = 32;
/// The most names of hosts: one for each destination that a function may have.
const HOSTS_MAX: usize = 256;
/// Below this no interpreter gets to its first line, and the kernel kills the set-up itself.
const MEMORY_BYTES_MIN: u64 = 4 << 20;

/// Says what is wrong with a spec.
pub(super) fn spec(spec: &Spec) -> Result<(), String> {
    name(&spec.id, 40).map_err(|what| format!("the sandbox' id {what}"))?;
    let program = spec.argv.first().ok_or("argv is empty")?;
    if spec.root == Root::Host && !program.starts_with('/') {
        return Err(format!("the program {program:?} is not an absolute path"));
    }
    let strings = spec.argv.iter().chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if strings.into_iter().any(|text| text.contains('\0')) {
        return Err("a zero byte in argv or env".into());
    }
    if let Some((name, _)) = spec.env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        return Err(format!("{name:?} is no name of an environment variable"));
    }
    if !spec.cwd.is_absolute() {
        return Err(format!("the working folder {} is not absolute", spec.cwd.display()));
    }
    if spec.mounts.len() > MOUNTS_MAX {
        return Err(format!("{} mounts; at most {MOUNTS_MAX}", spec.mounts.len()));
    }
    for mount in &spec.mounts {
        rootfs::check_target(&mount.target)?;
    }
    if spec.listeners.len() > wire::LISTENERS_MAX {
        return Err(format!("{} listeners; at most {}", spec.listeners.len(), wire::LISTENERS_MAX));
    }
    if let Some(other) =
        spec.listeners.iter().find(|address| address.ip().is_multicast() || address.port() == 0)
    {
        return Err(format!("nobody can listen at {other}"));
    }
    if spec.resolver.is_some_and(|address| !address.is_loopback()) {
        return Err("the resolver is at no address of the loopback".into());
    }
    hosts(spec)?;
    if let Root::Layers(layers) = &spec.root
        && !(1..=image::LAYERS_MAX).contains(&layers.len())
    {
        return Err(format!("an image of {} layers; 1 to {} are taken", layers.len(), image::LAYERS_MAX));
    }
    let limits = &spec.limits;
    if limits.memory_bytes < MEMORY_BYTES_MIN {
        return Err(format!("{} bytes of memory; at least {MEMORY_BYTES_MIN}", limits.memory_bytes));
    }
    // Zero would mean "without a limit" to some of the kernel's interfaces.
    for (what, value) in [
        ("CPU time", u64::from(limits.cpu_millis)),
        ("processes", u64::from(limits.processes)),
        ("bytes of /tmp", limits.tmp_bytes),
        ("open files", u64::from(limits.open_files)),
    ] {
        if value == 0 {
            return Err(format!("a limit of no {what}"));
        }
    }
    Ok(())
}

/// Names become lines of a file: one must not become two.
fn hosts(spec: &Spec) -> Result<(), String> {
    if spec.hosts.len() > HOSTS_MAX {
        return Err(format!("{} names of hosts; at most {HOSTS_MAX}", spec.hosts.len()));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match spec.hosts.iter().find(|(_, name)| name.is_empty() || name.len() > 253 || !name.bytes().all(plain))
    {
        Some((_, name)) => Err(format!("{name:?} is no name of a host")),
        None => Ok(()),
    }
}

/// Says what is wrong with a name that becomes a folder of a control group.
pub(super) fn name(name: &str, bytes_max: usize) -> Result<(), String> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(format!("has {} bytes; it must have 1 to {bytes_max}", name.len()));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.bytes().all(plain) { Ok(()) } else { Err(format!("{name:?} has more than a-z, 0-9 and `-`")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Mount};

    fn good() -> Spec {
        let limits =
            Limits { memory_bytes: 64 << 20, cpu_millis: 500, processes: 8, tmp_bytes: 4096, open_files: 64 };
        Spec {
            id: "a-1".into(),
            argv: vec!["/bin/true".into()],
            env: vec![("A".into(), "1=2".into())],
            cwd: "/".into(),
            mounts: vec![],
            limits,
            listeners: vec!["127.0.0.1:9001".parse().expect("an address")],
            resolver: None,
            hosts: vec![],
            network: crate::Network::Sockets,
            root: crate::Root::Host,
            interpreter: None,
        }
    }

    #[test]
    fn a_spec_is_refused_for_each_thing_that_is_wrong_with_it() {
        assert_eq!(spec(&good()), Ok(()));
        let wrong: &[fn(&mut Spec)] = &[
            |s| s.id = "../x".into(),
            |s| s.id = "x".repeat(41),
            |s| s.argv.clear(),
            |s| s.argv[0] = "python3".into(),
            |s| s.argv.push("a\0b".into()),
            |s| s.env[0].0 = "A=B".into(),
            |s| s.env[0].1 = "\0".into(),
            |s| s.cwd = "tmp".into(),
            |s| s.mounts = vec![Mount { source: "/a".into(), target: "/usr".into() }],
            |s| s.mounts = vec![Mount { source: "/a".into(), target: "/a".into() }; MOUNTS_MAX + 1],
            |s| s.listeners[0] = "224.0.0.1:80".parse().expect("an address"),
            |s| s.resolver = "192.0.2.1".parse().ok(),
            |s| s.listeners[0] = "127.0.0.1:0".parse().expect("an address"),
            |s| s.listeners = vec![s.listeners[0]; wire::LISTENERS_MAX + 1],
            |s| s.hosts = vec![("127.0.0.2".parse().expect("an address"), "a\n1.2.3.4 b".into())],
            |s| s.hosts = vec![("127.0.0.2".parse().expect("an address"), "a".into()); HOSTS_MAX + 1],
            |s| s.limits.memory_bytes = 1,
            |s| s.limits.cpu_millis = 0,
            |s| s.limits.processes = 0,
            |s| s.limits.tmp_bytes = 0,
        ];
        for (index, spoil) in wrong.iter().enumerate() {
            let mut spoiled = good();
            spoil(&mut spoiled);
            assert!(spec(&spoiled).is_err(), "wrong spec {index} passed: {spoiled:?}");
        }
    }
}
