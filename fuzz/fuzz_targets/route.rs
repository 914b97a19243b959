//! Any host and path: a target whose parts are parts of the input, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;

// By itself: the crate that it belongs to has a Wasm engine to be built.
#[path = "../../crates/gateway/src/route.rs"]
mod route;

fuzz_target!(|input: (Option<&str>, &str)| {
    let (host, path) = input;
    if let Some(target) = route::target(host, path, "localhost") {
        assert!(!target.tenant.is_empty() && !target.function.is_empty());
        assert!(target.path.is_empty() || target.path.starts_with('/') || !path.starts_with('/'));
        assert!(path.ends_with(target.path));
    }
});
