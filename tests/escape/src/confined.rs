//! Runs a probe in a sandbox that is started as the node starts one for a function: a plain one, a fork of a zygote, and
//! an interpreter that had started before.

use std::{sync::Arc, time::Duration};

use rouse_escape::{Probe, Told};
use rouse_sandbox::{
    Becomes, Driver, Exit, Limits, Listener, Mount, Network, Sandbox, Spec, Stream,
    container::{Container, ContainerDriver, Enforced, Report},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    corpus::{CPU_MILLIS, Corpus, PYTHON, TASK},
    host::{self, Host, text},
};

/// A probe that takes longer hangs. They share a small machine with other work.
pub(crate) const PROBE_MAX: Duration = Duration::from_secs(120);

/// The family of which probes are forked, and that of another tenant.
pub(crate) const FAMILY: &str = "acme";
pub(crate) const OTHER_FAMILY: &str = "globex";
/// Between two tries to get a fork of a zygote that is being made.
pub(crate) const ZYGOTE_PAUSE: Duration = Duration::from_millis(50);

/// How something is started.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Plain,
    /// In a fork of this family's zygote.
    Fork(&'static str),
    /// In one with a network of its own.
    Full,
    /// In an interpreter of this family that had started before.
    Ahead(&'static str),
}

/// Sandboxes for probes, and neighbours that live beside all of them.
pub(crate) struct Confined {
    driver: ContainerDriver,
    corpus: Arc<Corpus>,
    neighbours: Mutex<Vec<Neighbour>>,
    report: Report,
}

impl Confined {
    pub(crate) async fn new(host: &Host, corpus: Arc<Corpus>) -> Self {
        let driver = host.driver();
        let report = driver.report().await.expect("a report");
        let mut ways = vec![Way::Plain, Way::Ahead(FAMILY)];
        if forks(&report) {
            ways.extend([FAMILY, OTHER_FAMILY].map(Way::Fork));
        }
        if report.no_full_network.is_none() {
            ways.push(Way::Full);
        }
        let mut neighbours = Vec::new();
        for way in ways {
            neighbours.push(Neighbour::start(&driver, &corpus, way).await);
        }
        Self { driver, corpus, neighbours: Mutex::new(neighbours), report }
    }

    /// Whether this host has zygotes at all.
    pub(crate) fn forks(&self) -> bool {
        forks(&self.report)
    }

    /// Whether this host gives sandboxes networks of their own, or why not.
    pub(crate) fn full_network(&self) -> Result<(), String> {
        self.report.no_full_network.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn has_full_network(&self) -> bool {
        self.report.no_full_network.is_none()
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
    pub(crate) async fn run(&self, probe: &Probe, way: Way) -> Told {
        let frozen = if probe.frozen {
            // In a fork this is a sibling.
            let neighbour = Neighbour::start(&self.driver, &self.corpus, way).await;
            neighbour.sandbox.freeze().await.expect("frozen");
            Some(neighbour)
        } else {
            None
        };
        let mut told = match timeout(PROBE_MAX, self.alone(probe, way)).await {
            Ok(told) => told,
            Err(_) => Told::failed(format!("it took longer than {} seconds", PROBE_MAX.as_secs())),
        };
        for neighbour in self.neighbours.lock().await.iter_mut() {
            if let Err(how) = neighbour.ask().await {
                told.trouble = Some(format!("its neighbour ({:?}) {how}", neighbour.way));
            }
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

    async fn alone(&self, probe: &Probe, way: Way) -> Told {
        loop {
            let argv = match way {
                Way::Plain | Way::Full | Way::Ahead(_) => probe.argv(PYTHON, TASK),
                Way::Fork(_) => probe.argv_of_fork(PYTHON),
            };
            let spec = spec(&self.corpus, &argv, &probe.limits, way);
            // All else that it was started with, its listener too, is held to the end, as the node does.
            let started = match self.driver.start(spec).await {
                Ok(started) => started,
                Err(error) => return Told::failed(format!("no sandbox: {error}")),
            };
            let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
            let exit = started.sandbox.exited().await;
            let mut told = Told::read(&(out + &err));
            told.out_of_memory = exit == Exit::OutOfMemory;
            if !matches!(way, Way::Plain) && told.plain {
                sleep(ZYGOTE_PAUSE).await;
                continue;
            }
            return told;
        }
    }

    pub(crate) async fn stop(self) {
        for neighbour in self.neighbours.into_inner() {
            neighbour.stop().await;
        }
    }
}

/// Where neither processes nor memory are counted by group there are no zygotes.
fn forks(report: &Report) -> bool {
    report.memory != Enforced::No && report.processes != Enforced::No
}

/// What the node asks for a function's instance: see `Launch::spec` of `rouse-contract`.
pub(crate) fn spec(corpus: &Corpus, argv: &[String], limits: &rouse_escape::Limits, way: Way) -> Spec {
    let mut env = corpus.env(limits);
    if let Way::Full = way {
        env.push(("FULL".to_owned(), "1".to_owned()));
    }
    let bounds = Limits {
        memory_bytes: limits.memory_mib << 20,
        cpu_millis: CPU_MILLIS,
        processes: limits.processes,
        tmp_bytes: limits.tmp_mib << 20,
        open_files: limits.open_files,
    };
    let mut mounts = vec![Mount { source: corpus.folder.clone(), target: TASK.into() }];
    let wanted = match way {
        Way::Plain | Way::Full => None,
        Way::Fork(family) => Some((family, Becomes::Forked, "zygote.py")),
        Way::Ahead(family) => {
            mounts.push(corpus.ahead_mount());
            Some((family, Becomes::Itself, "ahead.py"))
        }
    };
    let interpreter = wanted.map(|(family, becomes, script)| {
        env.push(("WANTED".to_owned(), script.to_owned()));
        corpus.interpreter(family, becomes, bounds)
    });
    Spec {
        argv: argv.to_vec(),
        env,
        interpreter,
        cwd: TASK.into(),
        mounts,
        limits: bounds,
        listeners: vec!["127.0.0.1:9001".parse().expect("an address")],
        network: if let Way::Full = way { Network::Full } else { Network::Sockets },
        ..host::spec(&[])
    }
}

/// Another tenant's sandbox, or another of the same: `victim.py`.
struct Neighbour {
    way: Way,
    sandbox: Container,
    talk: BufReader<Stream>,
}

impl Neighbour {
    async fn start(driver: &ContainerDriver, corpus: &Corpus, way: Way) -> Self {
        let argv: &[&str] = match way {
            Way::Plain | Way::Full | Way::Ahead(_) => &[PYTHON, &format!("{TASK}/victim.py")],
            Way::Fork(_) => &[PYTHON, "-m", "victim"],
        };
        let argv: Vec<String> = argv.iter().map(|&argument| argument.to_owned()).collect();
        let started = timeout(PROBE_MAX, async {
            loop {
                let spec = spec(corpus, &argv, &rouse_escape::Limits::default(), way);
                let mut started = driver.start(spec).await.expect("a neighbour");
                let listener: &mut Listener = started.listeners.first_mut().expect("its listener");
                tokio::select! {
                    dialled = listener.accept() => {
                        let talk = BufReader::new(dialled.expect("the neighbour's word"));
                        return Self { way, sandbox: started.sandbox, talk };
                    }
                    exit = started.sandbox.exited() => {
                        let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
                        assert!(Told::read(&out).plain, "the neighbour ended, {exit:?}: {out}{err}");
                        sleep(ZYGOTE_PAUSE).await;
                    }
                }
            }
        });
        started.await.expect("a neighbour that is ready in time")
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
