//! Steady calls in the background, while a test does something to the platform.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{Answer, Platform};

/// Callers that call again as soon as they are answered, until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<Vec<String>>,
}

impl Load {
    /// Starts `callers` callers. An answer that is not `right` is noted as a failure.
    #[must_use]
    pub fn start(
        platform: &Arc<Platform>,
        callers: usize,
        path: &str,
        right: impl Fn(&Answer) -> bool + Send + Sync + Clone + 'static,
    ) -> Self {
        let mut load = Self { stop: Arc::default(), answered: Arc::default(), callers: JoinSet::new() };
        for _ in 0..callers {
            let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
            let (platform, path, right) = (Arc::clone(platform), path.to_owned(), right.clone());
            load.callers.spawn(async move {
                let mut failures = Vec::new();
                let client = crate::call::client();
                while !stop.load(Ordering::Relaxed) && failures.len() < 10 {
                    match crate::call_on(&client, platform.request(&path, None)).await {
                        Ok(answer) if right(&answer) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
                        Err(error) => failures.push(error),
                    }
                    // Steady, not as much as there is: the machine must go on with what the test does.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                failures
            });
        }
        load
    }

    /// How many were answered so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` calls more were answered.
    pub async fn answer_more(&self, more: usize) {
        let goal = self.answered() + more;
        crate::wait_for("calls are answered", Duration::from_secs(60), async || self.answered() >= goal)
            .await;
    }

    /// Stops, and gives how many were answered and what failed.
    pub async fn stop(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(caller) = self.callers.join_next().await {
            failures.extend(caller.expect("a caller"));
        }
        (self.answered.load(Ordering::Relaxed), failures)
    }
}
