//! Runs a probe in a sandbox that is started as the node starts one for a function.

use std::{sync::Arc, time::Duration};

use rouse_escape::{Probe, Told};
use rouse_sandbox::{
    Driver, Exit, Limits, Listener, Mount, Sandbox, Spec, Stream,
    container::{Container, ContainerDriver, Enforced, Report},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::Mutex,
    time::timeout,
};

use crate::{
    corpus::{CPU_MILLIS, Corpus, PYTHON, TASK},
    host::{self, Host, text},
};

/// A probe that takes longer hangs. They share a small machine with other work.
pub(crate) const PROBE_MAX: Duration = Duration::from_secs(120);

/// Sandboxes for probes, and a neighbour that lives beside all of them.
pub(crate) struct Confined {
    driver: ContainerDriver,
    corpus: Arc<Corpus>,
    neighbour: Mutex<Neighbour>,
    report: Report,
}

impl Confined {
    pub(crate) async fn new(host: &Host, corpus: Arc<Corpus>) -> Self {
        let driver = host.driver();
        let neighbour = Mutex::new(Neighbour::start(&driver, &corpus).await);
        let report = driver.report().await.expect("a report");
        Self { driver, corpus, neighbour, report }
    }

    /// Which control group this host lacks that would have to hold a probe.
    pub(crate) fn lacks(&self, probe: &Probe) -> Option<String> {
        let enforced = match probe.needs.as_str() {
            "memory" => self.report.memory,
            "cpu" => self.report.cpu,
            needs => {
                assert_eq!(needs, "", "{}", probe.path());
                return None;
            }
        };
        (enforced == Enforced::No).then(|| format!("this host limits no {}", probe.needs))
    }

    /// Runs it, and asks its neighbours afterwards how they are.
    pub(crate) async fn run(&self, probe: &Probe) -> Told {
        let frozen = if probe.frozen {
            let neighbour = Neighbour::start(&self.driver, &self.corpus).await;
            neighbour.sandbox.freeze().await.expect("frozen");
            Some(neighbour)
        } else {
            None
        };
        let mut told = match timeout(PROBE_MAX, self.alone(probe)).await {
            Ok(told) => told,
            Err(_) => Told::failed(format!("it took longer than {} seconds", PROBE_MAX.as_secs())),
        };
        if let Err(how) = self.neighbour.lock().await.ask().await {
            told.trouble = Some(format!("its neighbour {how}"));
        }
        if let Some(mut frozen) = frozen {
            frozen.sandbox.thaw().await.expect("thawed");
            if let Err(how) = frozen.ask().await {
                told.trouble = Some(format!("its frozen neighbour {how}"));
            }
            frozen.stop().await;
        }
        told
    }

    async fn alone(&self, probe: &Probe) -> Told {
        let spec = spec(&self.corpus, &probe.argv(PYTHON, TASK), &probe.limits);
        // All else that it was started with, its listener too, is held to the end, as the node does.
        let started = match self.driver.start(spec).await {
            Ok(started) => started,
            Err(error) => return Told::failed(format!("no sandbox: {error}")),
        };
        let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
        let exit = started.sandbox.exited().await;
        let mut told = Told::read(&(out + &err));
        told.out_of_memory = exit == Exit::OutOfMemory;
        told
    }

    pub(crate) async fn stop(self) {
        self.neighbour.into_inner().stop().await;
    }
}

/// What the node asks for a function's instance: see `Launch::spec` of `rouse-contract`.
fn spec(corpus: &Corpus, argv: &[String], limits: &rouse_escape::Limits) -> Spec {
    Spec {
        argv: argv.to_vec(),
        env: corpus.env(limits),
        cwd: TASK.into(),
        mounts: vec![Mount { source: corpus.folder.clone(), target: TASK.into() }],
        limits: Limits {
            memory_bytes: limits.memory_mib << 20,
            cpu_millis: CPU_MILLIS,
            processes: limits.processes,
            tmp_bytes: limits.tmp_mib << 20,
            open_files: limits.open_files,
        },
        listeners: vec!["127.0.0.1:9001".parse().expect("an address")],
        ..host::spec(&[])
    }
}

/// Another tenant's sandbox: `victim.py`.
struct Neighbour {
    sandbox: Container,
    talk: BufReader<Stream>,
}

impl Neighbour {
    async fn start(driver: &ContainerDriver, corpus: &Corpus) -> Self {
        let argv = [PYTHON.to_owned(), format!("{TASK}/victim.py")];
        let spec = spec(corpus, &argv, &rouse_escape::Limits::default());
        let mut started = driver.start(spec).await.expect("a neighbour");
        let listener: &mut Listener = started.listeners.first_mut().expect("its listener");
        let dialled = timeout(PROBE_MAX, listener.accept()).await;
        let Ok(Ok(stream)) = dialled else {
            started.sandbox.kill();
            let mut said = String::new();
            started.stderr.read_to_string(&mut said).await.expect("what it said");
            panic!("the neighbour is not ready: {said}");
        };
        Self { sandbox: started.sandbox, talk: BufReader::new(stream) }
    }

    /// Asks whether it lives and still has what it keeps.
    async fn ask(&mut self) -> Result<(), String> {
        let answer = timeout(PROBE_MAX, async {
            self.talk.write_all(b"how are you?\n").await?;
            let mut line = String::new();
            self.talk.read_line(&mut line).await.map(|_| line)
        });
        match answer.await {
            Ok(Ok(line)) if line == "intact\n" => Ok(()),
            Ok(Ok(line)) => Err(format!("says {line:?}")),
            Ok(Err(error)) => Err(format!("is gone: {error}")),
            Err(_) => Err("does not answer".to_owned()),
        }
    }

    async fn stop(self) {
        self.sandbox.kill();
        self.sandbox.exited().await;
    }
}
