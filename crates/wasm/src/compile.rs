//! Compiles a component ahead of time, and says in the user's words what is wrong with it.
//!
//! Runs in a child process at deploy: a compiler that eats strangers' input may crash or take gigabytes
//! there, and nothing else notices.

use rouse_types::{Code, Refusal};
use wasmtime::component::Component;

use crate::engine::{Pool, config};

/// Begins every WebAssembly file (core specification, §5.5.16).
const MAGIC: &[u8] = b"\0asm";
/// The layer field of a component, as against that of a core module.
const COMPONENT_LAYER: &[u8] = &[0x0d, 0x00, 0x01, 0x00];

/// Checks that the bytes are a component that answers HTTP, and compiles it for this machine.
///
/// # Errors
/// [`Code::CodeInvalid`] with the reason and the next step.
pub fn compile(wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
    check_layer(wasm)?;
    let internal =
        |error: wasmtime::Error| Refusal::new(Code::Internal, format!("the engine did not start: {error:#}"));
    let engine = wasmtime::Engine::new(&config(Pool { instances: 1, warm_slots: 0 })).map_err(internal)?;
    let compiled = engine.precompile_component(wasm).map_err(|error| {
        Refusal::new(Code::CodeInvalid, format!("the component does not compile: {}", root_cause(&error)))
            .hint("check it with `wasm-tools validate --features all <file>`, and build it again")
    })?;
    check_exports(&engine, &compiled)?;
    Ok(compiled)
}

fn check_layer(wasm: &[u8]) -> Result<(), Refusal> {
    let invalid = |message: &str| Refusal::new(Code::CodeInvalid, message);
    if wasm.len() < 8 || &wasm[..4] != MAGIC {
        return Err(invalid("the file is not WebAssembly: it does not begin with \\0asm").hint(
            "name the component that your build wrote, such as target/wasm32-wasip2/release/app.wasm",
        ));
    }
    if &wasm[4..8] != COMPONENT_LAYER {
        return Err(invalid("the file is a core module, not a component").hint(
            "build for wasm32-wasip2, or turn it into a component: `wasm-tools component new module.wasm -o component.wasm`",
        ));
    }
    Ok(())
}

#[expect(unsafe_code, reason = "compiled code can be loaded in no other way")]
fn check_exports(engine: &wasmtime::Engine, compiled: &[u8]) -> Result<(), Refusal> {
    // SAFETY: `deserialize` needs bytes that this engine's compiler wrote: they come from the line before.
    let component = unsafe { Component::deserialize(engine, compiled) }.map_err(|error| {
        Refusal::new(Code::CodeInvalid, format!("the component does not load: {error:#}"))
    })?;
    let exports: Vec<String> =
        component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
    let answers_http = exports.iter().any(|name| {
        name.starts_with("wasi:http/incoming-handler@0.2") || name.starts_with("wasi:http/handler@0.3")
    });
    if answers_http {
        return Ok(());
    }
    let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
    Err(Refusal::new(Code::CodeInvalid, format!("the component does not answer HTTP: it exports {found}"))
        .hint("export wasi:http/incoming-handler@0.2 (world wasi:http/proxy) or wasi:http/handler@0.3"))
}

fn root_cause(error: &wasmtime::Error) -> String {
    error.chain().last().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wasm_is_refused() {
        let refusal = compile(b"#!/bin/sh\necho hello").expect_err("a script");
        assert_eq!(refusal.code, Code::CodeInvalid);
        assert!(refusal.message.contains("not WebAssembly"), "{refusal}");
    }

    #[test]
    fn a_core_module_is_refused_with_how_to_make_a_component_of_it() {
        let refusal = compile(b"\0asm\x01\0\0\0").expect_err("a core module");
        assert!(refusal.hint.expect("a hint").contains("wasm-tools component new"));
    }

    #[test]
    fn a_component_that_exports_nothing_is_refused() {
        let refusal = compile(b"\0asm\x0d\0\x01\0").expect_err("an empty component");
        assert!(refusal.message.contains("exports nothing"), "{refusal}");
    }

    #[test]
    fn a_broken_component_is_refused_and_does_not_panic() {
        let refusal = compile(b"\0asm\x0d\0\x01\0\x07\xff\xff\xff").expect_err("a torn component");
        assert_eq!(refusal.code, Code::CodeInvalid);
    }
}
