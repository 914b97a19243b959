//! The way into a sandbox: sockets that the spawner made inside its network, connected from outside.
//!
//! A socket belongs for life to the network namespace that it was made in, whoever holds it. So the node, which may
//! enter no namespace, connects one to the code's port without more. They are made a few at a time and kept here.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    client::{ContainerDriver, out_of_place},
    wire::{Reply, Request},
};
use crate::{Error, Stream};

/// On a loopback a connection stands or is refused at once, unless the code lets its backlog run full: then it
/// takes the kernel's second or third try.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Connects to the inside of one sandbox.
#[derive(Debug)]
pub(super) struct Dialler {
    driver: ContainerDriver,
    id: String,
    /// Not connected yet.
    sockets: Mutex<Vec<OwnedFd>>,
}

impl Dialler {
    pub(super) fn new(driver: ContainerDriver, id: String) -> Self {
        Self { driver, id, sockets: Mutex::default() }
    }

    pub(super) async fn dial(&self, address: SocketAddr) -> Result<Stream, Error> {
        let host = |source| Error::Host { step: format!("connect to {address} in a sandbox"), source };
        let kept = self.kept().pop();
        let socket = match kept {
            Some(socket) => socket,
            None => self.more().await?,
        };
        match connect(&socket, address).await {
            Ok(stream) => ready(stream).map_err(host),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.kept().push(socket);
                Err(Error::NotListening(address))
            }
            Err(error) => Err(host(error)),
        }
    }

    async fn more(&self) -> Result<OwnedFd, Error> {
        match self.driver.ask(&Request::Sockets(self.id.clone())).await? {
            (_, Reply::Sockets, mut sockets) => {
                let one = sockets.pop().ok_or_else(out_of_place)?;
                self.kept().append(&mut sockets);
                Ok(one)
            }
            (_, Reply::Refused(refused), _) => Err(refused.into()),
            _ => Err(out_of_place()),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<OwnedFd>> {
        // A push or a pop cannot be left half done by a panic.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects a socket, of which the caller keeps its own descriptor: it may try again with one that was refused.
async fn connect(socket: &OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    let connect = || async {
        let connecting = TcpSocket::from_std_stream(socket.try_clone()?.into()).connect(address);
        timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    match connect().await {
        // The kernel takes a refused socket back to its beginning by this one error.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => connect().await,
        connected => connected,
    }
}

fn ready(stream: TcpStream) -> io::Result<Stream> {
    // Small requests must not wait for the peer's delayed acknowledgement.
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}
