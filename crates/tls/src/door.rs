//! A port that takes HTTPS, and plain HTTP from this machine alone. A connection's first byte tells the two apart, and stays
//! where it is for whoever reads on.
//!
//! ```text
//!   accepted ─┬─ no certificates: Plain
//!             ├─ 0x16, a handshake of TLS ─▶ Secure
//!             ├─ any other, from this machine ─▶ Plain
//!             └─ any other, from elsewhere ─▶ Exposed: is told to come by HTTPS, and not served
//! ```

use std::{io, net::IpAddr, path::Path, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Resolver, server_config};

/// How long a connection may take to show what it speaks, and to end its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The type of the record that every connection of TLS begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// Who came in, and how.
#[derive(Debug)]
pub enum Guest {
    /// By TLS.
    Secure(Box<TlsStream<TcpStream>>),
    /// In the clear, where that is served.
    Plain(TcpStream),
    /// In the clear over a network, though there is TLS: to be told so, and not to be served.
    Exposed(TcpStream),
}

/// What stands behind a listening socket.
#[derive(Clone)]
pub struct Door {
    acceptor: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("secure", &self.acceptor.is_some()).finish()
    }
}

/// What a connection is let in as, by its first byte and whether it comes from this machine. Pure.
#[derive(Debug, PartialEq, Eq)]
enum As {
    Secure,
    Plain,
    Exposed,
}

fn decide(first: Option<u8>, local: bool) -> As {
    match first {
        Some(HANDSHAKE) => As::Secure,
        _ if local => As::Plain,
        _ => As::Exposed,
    }
}

impl Door {
    /// One without TLS: all is served as it comes.
    #[must_use]
    pub fn plain() -> Self {
        Self { acceptor: None }
    }

    /// One with the certificates of the platform with this state folder, which offers these protocols (ALPN).
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn secure(state: &Path, protocols: &[&str]) -> io::Result<Self> {
        let mut config = server_config(Arc::new(Resolver::new(state))).map_err(io::Error::other)?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { acceptor: Some(TlsAcceptor::from(Arc::new(config))) })
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// It broke, was silent for long, or its handshake failed: clients that do not trust the certificate, and scanners.
    pub async fn open(&self, stream: TcpStream, peer: IpAddr) -> io::Result<Guest> {
        let Some(acceptor) = &self.acceptor else { return Ok(Guest::Plain(stream)) };
        let opened = async {
            let mut first = [0];
            let first = (stream.peek(&mut first).await? > 0).then_some(first[0]);
            Ok(match decide(first, peer.to_canonical().is_loopback()) {
                As::Secure => Guest::Secure(Box::new(acceptor.accept(stream).await?)),
                As::Plain => Guest::Plain(stream),
                As::Exposed => Guest::Exposed(stream),
            })
        };
        timeout(HANDSHAKE_TIMEOUT, opened).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{FILES, hand_over, pair::tests::pair};

    #[test]
    fn plain_http_is_served_to_this_machine_alone() {
        assert_eq!(decide(Some(22), true), As::Secure);
        assert_eq!(decide(Some(22), false), As::Secure);
        for first in [None, Some(b'G'), Some(b'P'), Some(0), Some(21)] {
            assert_eq!((decide(first, true), decide(first, false)), (As::Plain, As::Exposed));
        }
    }

    #[tokio::test]
    async fn what_is_spoken_is_told_by_the_first_byte_and_none_is_lost() {
        let state = tempfile::tempdir().expect("a folder");
        hand_over(state.path(), FILES, &[pair(&["a.example"])], None).expect("written");
        let door = Door::secure(state.path(), &["http/1.1"]).expect("a door");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let far: IpAddr = "192.0.2.7".parse().expect("an address");
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().expect("an address");
        for (peer, served) in [(address.ip(), true), (mapped, true), (far, false)] {
            let mut client = TcpStream::connect(address).await.expect("connected");
            client.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
            let (stream, _) = listener.accept().await.expect("a connection");
            let (mut stream, plain) = match door.open(stream, peer).await.expect("it came in") {
                Guest::Plain(stream) => (stream, true),
                Guest::Exposed(stream) => (stream, false),
                Guest::Secure(_) => panic!("that was no handshake"),
            };
            assert_eq!(plain, served, "{peer}");
            let mut first = [0; 16];
            stream.read_exact(&mut first).await.expect("all of it");
            assert_eq!(&first, b"GET / HTTP/1.1\r\n");
        }
        // What only begins like a handshake is none.
        let mut client = TcpStream::connect(address).await.expect("connected");
        client.write_all(&[HANDSHAKE, 0, 0, 0, 0, 0, 0, 0]).await.expect("sent");
        let (stream, _) = listener.accept().await.expect("a connection");
        door.open(stream, address.ip()).await.expect_err("no handshake");
    }
}
