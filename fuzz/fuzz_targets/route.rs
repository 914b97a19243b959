//! Any host and path: a target whose parts are parts of the input, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Option<&str>, &str)| {
    let (host, path) = input;
    if let Some(target) = rouse_gateway::route::target(host, path, "localhost") {
        assert!(!target.tenant.is_empty() && !target.function.is_empty());
        assert!(target.path.is_empty() || target.path.starts_with('/') || !path.starts_with('/'));
        assert!(path.ends_with(target.path));
    }
});
