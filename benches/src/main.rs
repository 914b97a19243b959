//! `bare-hyper ADDR THREADS`: answers every request with the same few bytes, and does nothing else. What is left
//! between its figures and a platform's is what the platform costs.
//!
//! One single-threaded runtime per thread, each with a listener of its own: the quickest shape for hyper.

use std::{convert::Infallible, net::SocketAddr, thread};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpSocket, task::JoinSet};

fn main() -> std::io::Result<()> {
    let wrong = || std::io::Error::other("usage: bare-hyper ADDR THREADS");
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().and_then(|arg| arg.parse().ok()).ok_or_else(wrong)?;
    let threads: usize = args.next().and_then(|arg| arg.parse().ok()).ok_or_else(wrong)?;
    let threads: Vec<_> = (0..threads).map(|_| thread::spawn(move || serve(address))).collect();
    threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(wrong())))
}

fn serve(address: SocketAddr) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1024)?;
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = service_fn(async |_| {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"Hello, world!\n"))))
            });
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            while connections.try_join_next().is_some() {}
        }
    })
}
