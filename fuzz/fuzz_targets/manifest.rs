//! Any text as `rouse.toml`: read, or refused with errors that have a place in it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match rouse_manifest::parse(text) {
        Ok(manifest) => {
            for function in manifest.functions.values() {
                let _ = (function.limits(), function.scaling());
            }
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});
