//! The child process that compiles one component: whatever the compiler does with a stranger's bytes, it does
//! it here, within bounds, and nothing else notices.

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::Context;
use rouse_types::{Code, Refusal};

/// Compiles `input` to `output`. A refusal is printed as JSON, for control, which asked.
pub(crate) fn run(input: &Path, output: &Path) -> anyhow::Result<ExitCode> {
    let compiled = std::fs::read(input)
        .map_err(|error| Refusal::new(Code::Internal, format!("the component cannot be read: {error}")))
        .and_then(|wasm| rouse_wasm::compile(&wasm));
    match compiled {
        Ok(bytes) => {
            std::fs::write(output, bytes).with_context(|| format!("write {}", output.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            let json = serde_json::to_string(&refusal).context("encode the refusal")?;
            std::io::stdout().write_all(json.as_bytes()).context("print the refusal")?;
            Ok(ExitCode::FAILURE)
        }
    }
}
