//! What functions tell a test by themselves: a line of JSON each, over a connection that their egress allows.

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
};

/// Listens for lines, and answers each with a byte once it is noted. Stops when dropped.
#[derive(Debug)]
pub struct Seen {
    port: u16,
    lines: Arc<Mutex<Vec<serde_json::Value>>>,
    _tasks: JoinSet<()>,
}

impl Seen {
    /// Begins to listen, on a free port of this machine.
    ///
    /// # Panics
    /// When there is none.
    pub async fn listen() -> Self {
        Self::listen_at(Ipv4Addr::LOCALHOST).await
    }

    /// The same at another address of this machine.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn listen_at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let lines = Arc::<Mutex<Vec<_>>>::default();
        let mut tasks = JoinSet::new();
        let noted = Arc::clone(&lines);
        tasks.spawn(async move {
            let mut callers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                callers.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
                        if let Ok(value) = serde_json::from_str(&line) {
                            noted.lock().unwrap_or_else(PoisonError::into_inner).push(value);
                        }
                        line.clear();
                        let _ = stream.get_mut().write_all(b".").await;
                    }
                });
                while callers.try_join_next().is_some() {}
            }
        });
        Self { port, lines, _tasks: tasks }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was told so far.
    #[must_use]
    pub fn lines(&self) -> Vec<serde_json::Value> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much was told so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The field `id` of each line.
    #[must_use]
    pub fn ids(&self) -> HashSet<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter_map(|line| line["id"].as_str().map(str::to_owned)).collect()
    }
}
