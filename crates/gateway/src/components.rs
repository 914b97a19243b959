//! The components that this gateway holds ready: loaded at their first call, dropped when they idle.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rouse_types::{Code, Digest, FunctionVersion, Refusal};
use rouse_wasm::{Component, Engine};

/// Components held at once: the least used goes first. Each holds a mapping and some tens of KiB.
const HELD_MAX: usize = 1_000;
/// How long a component stays without a call. Loading it again takes well under a millisecond.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How long a warm instance stays without a call.
pub(crate) const INSTANCE_IDLE: Duration = Duration::from_secs(10);

struct Held {
    component: Arc<Component>,
    used: Instant,
}

/// The components of one gateway, by the digest of their code.
pub(crate) struct Components {
    engine: Engine,
    dir: PathBuf,
    tag: String,
    held: Mutex<HashMap<Digest, Held>>,
}

impl Components {
    pub(crate) fn new(engine: Engine, state: &std::path::Path) -> Self {
        let (dir, tag) = (state.join("compiled"), rouse_wasm::engine_tag());
        Self { engine, dir, tag, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The component of a version, and whether it had to be loaded.
    pub(crate) fn get(&self, version: &FunctionVersion) -> Result<(Arc<Component>, bool), Refusal> {
        let now = Instant::now();
        if let Some(held) = self.held().get_mut(&version.code) {
            held.used = now;
            return Ok((Arc::clone(&held.component), false));
        }
        let path = self.dir.join(format!("{}-{}.cwasm", version.code.hex(), self.tag));
        let component = Component::load(&self.engine, &path).map_err(|error| {
            tracing::error!(version = %version.key(), path = %path.display(), ?error, "a component cannot be loaded");
            Refusal::new(Code::StartFailed, format!("the code of '{}' cannot be loaded", version.function))
                .hint("deploy it again; the log of the gateway has the reason")
        })?;
        let component = Arc::new(component);
        let mut held = self.held();
        if held.len() >= HELD_MAX
            && let Some(oldest) = held.iter().min_by_key(|(_, held)| held.used).map(|(digest, _)| *digest)
        {
            held.remove(&oldest);
        }
        held.insert(version.code, Held { component: Arc::clone(&component), used: now });
        Ok((component, true))
    }

    /// Drops what has idled; says how many components and warm instances are left.
    pub(crate) fn sweep(&self, now: Instant) -> (usize, usize) {
        let mut held = self.held();
        held.retain(|_, held| now.duration_since(held.used) < IDLE);
        let before = now.checked_sub(INSTANCE_IDLE).unwrap_or(now);
        let warm = held.values().map(|held| held.component.drop_idle(before)).sum();
        (held.len(), warm)
    }
}
