//! A compiled component, loaded and linked, ready to be instantiated in microseconds.

use std::{path::Path, sync::Mutex};

use wasmtime_wasi_http::{handler::ProxyPre, p2, p3};

use crate::{call::Warm, engine::Engine, state::State};

/// A component that can be called. Cheap to keep: its code is a shared mapping of a file.
pub struct Component {
    pub(crate) pre: ProxyPre<State>,
    pub(crate) engine: Engine,
    pub(crate) warm: Mutex<Vec<Warm>>,
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component").finish_non_exhaustive()
    }
}

impl Component {
    /// Maps a file that [`crate::compile()`] wrote, and links it.
    ///
    /// # Errors
    /// The file is missing, was compiled for another engine, or imports what no one offers.
    #[expect(unsafe_code, reason = "compiled code can be loaded in no other way")]
    pub fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        // SAFETY: `deserialize_file` needs bytes that this engine's compiler wrote and that do not change
        // while they are mapped. `path` lies in the folder of compiled code, which control alone writes,
        // by renaming a finished file to a name that holds the digest and the engine's tag; no file there is
        // ever changed.
        let component = unsafe { wasmtime::component::Component::deserialize_file(&engine.engine, path)? };
        let pre = engine.linker.instantiate_pre(&component)?;
        // A component that exports both is called by the newer.
        let pre = match p3::bindings::ServicePre::new(pre.clone()) {
            Ok(service) => ProxyPre::P3(service),
            Err(_) => ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?),
        };
        Ok(Self { pre, engine: engine.clone(), warm: Mutex::default() })
    }
}
