//! Where a spawner is found: its lock, held as long as it lives, and its socket.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Gid, Mode, Uid, chmod, chown, flock},
    net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use super::Config;

/// How long a spawner waits for its predecessor's lock: such a child lives for milliseconds.
const LOCK_MAX: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Takes the lock, for which a child that a killed predecessor was just forking may have to end first.
pub(super) fn take(lock: &std::fs::File) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_MAX;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            taken => return Ok(taken?),
        }
    }
}

/// Makes the socket under another name and moves it into place once it listens and belongs to its owner: so
/// whoever sees it can use it.
pub(super) fn bind(config: &Config) -> io::Result<OwnedFd> {
    let making = config.socket.with_extension("new");
    match std::fs::remove_file(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    net::bind(&listener, &SocketAddrUnix::new(&making)?)?;
    chmod(&making, Mode::RUSR | Mode::WUSR)?;
    let (uid, gid) = config.owner;
    chown(&making, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    net::listen(&listener, BACKLOG)?;
    std::fs::rename(&making, &config.socket)?;
    Ok(listener)
}
