//! Finds out a function's runtime and handler from what its source holds.

use rouse_types::Runtime;

/// What a source looks like from outside: its entries, not their contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// A file, by its name.
    File(String),
    /// A folder, by the names of what is directly in it.
    Folder(Vec<String>),
}

/// The interpreters that the developer's machine has: what is not said is taken from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Host {
    /// The `N` of its `python3`'s 3.N.
    pub python_minor: Option<u8>,
    /// The major version of its `node`.
    pub node_major: Option<u8>,
}

/// Why it cannot be found out, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unclear {
    /// What is unclear.
    pub message: String,
    /// The line to add to the manifest.
    pub hint: String,
}

fn unclear(message: impl Into<String>, hint: impl Into<String>) -> Unclear {
    Unclear { message: message.into(), hint: hint.into() }
}

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, extension)| !stem.is_empty() && extensions.contains(&extension))
}

/// The runtime of this source.
///
/// # Errors
/// Nothing tells it, or the host lacks the interpreter whose version would be taken.
pub fn runtime(contents: &Contents, host: Host) -> Result<Runtime, Unclear> {
    let say = "say it: runtime = \"python3.11\" (or nodejs20, provided, component)";
    let names = match contents {
        Contents::File(name) if has_extension(name, &["wasm", "wat"]) => return Ok(Runtime::Component),
        Contents::File(name) if has_extension(name, &["zip"]) => {
            return Err(unclear("a .zip does not tell its runtime", say));
        }
        Contents::File(name) => std::slice::from_ref(name),
        Contents::Folder(names) => names,
    };
    let has = |name: &str| names.iter().any(|entry| entry == name);
    let any = |extensions: &[&str]| names.iter().any(|entry| has_extension(entry, extensions));
    if has("bootstrap") {
        return Ok(Runtime::Provided);
    }
    let python = any(&["py"]);
    let node = has("package.json") || any(&["js", "mjs", "cjs"]);
    match (python, node) {
        (true, true) => Err(unclear("the source holds both Python and JavaScript", say)),
        (true, false) => host.python_minor.map(|minor| Runtime::Python { minor }).ok_or_else(|| {
            unclear(
                "the source is Python, and this machine has no python3 whose version could be taken",
                "say which: runtime = \"python3.11\"",
            )
        }),
        (false, true) => host.node_major.map(|major| Runtime::Node { major }).ok_or_else(|| {
            unclear(
                "the source is JavaScript, and this machine has no node whose version could be taken",
                "say which: runtime = \"nodejs20\"",
            )
        }),
        (false, false) => Err(unclear("nothing in the source tells its runtime", say)),
    }
}

/// The handler of this source: from a file whose name is usual for it, else from the only one.
///
/// # Errors
/// Several files could hold it, or none.
pub fn handler(contents: &Contents, runtime: &Runtime) -> Result<Option<String>, Unclear> {
    let (extensions, usual): (&[&str], &[(&str, &str)]) = match runtime {
        Runtime::Component | Runtime::Provided | Runtime::Image => return Ok(None),
        Runtime::Python { .. } => (
            &["py"],
            &[
                ("app", "app.handler"),
                ("lambda_function", "lambda_function.lambda_handler"),
                ("main", "main.handler"),
                ("handler", "handler.handler"),
                ("index", "index.handler"),
            ],
        ),
        Runtime::Node { .. } => (
            &["mjs", "js", "cjs"],
            &[
                ("index", "index.handler"),
                ("app", "app.handler"),
                ("main", "main.handler"),
                ("handler", "handler.handler"),
            ],
        ),
    };
    let names = match contents {
        Contents::File(name) => std::slice::from_ref(name),
        Contents::Folder(names) => names,
    };
    let stems: Vec<&str> = names
        .iter()
        .filter(|name| has_extension(name, extensions))
        .filter_map(|name| name.rsplit_once('.'))
        .map(|(stem, _)| stem)
        .collect();
    if let Some((_, handler)) = usual.iter().find(|(stem, _)| stems.contains(stem)) {
        return Ok(Some((*handler).to_owned()));
    }
    match stems.as_slice() {
        [only] if !only.contains('.') => Ok(Some(format!("{only}.handler"))),
        _ => Err(unclear(
            format!("which function of the source is the {runtime} handler is unclear"),
            "say it: handler = \"file.function\"",
        )),
    }
}
