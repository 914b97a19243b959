//! Google's Functions Framework, unmodified: the one that the code brings, else the one of this host.

use std::path::{Path, PathBuf};

use rouse_types::{Code, Refusal, Runtime};

use super::environment::{CODE_ROOT, FRAMEWORK_DIR, target};
use crate::interpreter;

/// Where `pip install --target` and its kin put packages, below the code.
const PYTHON_FOLDERS: [&str; 3] = ["", "site-packages", ".python_packages/lib/site-packages"];
/// Where npm puts the framework, and its program.
const NODE_FRAMEWORK: &str = "node_modules/@google-cloud/functions-framework/build/src/main.js";
/// Endings of a file that Node.js takes for code.
const NODE_ENDINGS: [&str; 3] = ["js", "mjs", "cjs"];

/// How a framework is started.
pub(crate) struct Framework {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// A folder of the host to mount at [`FRAMEWORK_DIR`].
    pub(crate) support: Option<PathBuf>,
}

/// Where the framework of a runtime lies on this host, for code that does not bring it.
#[must_use]
pub(crate) fn folder(state: &Path, runtime: &Runtime) -> PathBuf {
    state.join("runtimes").join(format!("functions-framework-{runtime}"))
}

/// The framework for a handler. Looks at files.
///
/// # Errors
/// [`Code::RuntimeMissing`] when the interpreter or the framework is not there, with the next step.
pub(crate) fn find(
    runtime: &Runtime,
    handler: &str,
    code: &Path,
    state: &Path,
) -> Result<Framework, Refusal> {
    let support = folder(state, runtime);
    let mut framework = match runtime {
        Runtime::Python { minor } => {
            let interpreter = interpreter::python(*minor)?;
            let is_in = |folder: &Path| folder.join("functions_framework/__main__.py").is_file();
            let own = PYTHON_FOLDERS.iter().any(|folder| is_in(&code.join(folder)));
            let support = support_unless(own, is_in(&support), support, runtime)?;
            let folders = PYTHON_FOLDERS.map(|folder| match folder {
                "" => CODE_ROOT.to_owned(),
                folder => format!("{CODE_ROOT}/{folder}"),
            });
            let path = folders.into_iter().chain([FRAMEWORK_DIR.to_owned()]).collect::<Vec<_>>().join(":");
            Framework {
                argv: vec![interpreter, "-m".into(), "functions_framework".into()],
                env: vec![
                    ("PYTHONPATH".into(), path),
                    // The code's folder is read-only: writing bytecode would fail, file by file.
                    ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
                    // What is printed belongs to the call that runs now.
                    ("PYTHONUNBUFFERED".into(), "1".into()),
                ],
                support,
            }
        }
        Runtime::Node { major } => {
            let interpreter = interpreter::node(*major)?;
            let own = code.join(NODE_FRAMEWORK).is_file();
            let support = support_unless(own, support.join(NODE_FRAMEWORK).is_file(), support, runtime)?;
            let root = if own { CODE_ROOT } else { FRAMEWORK_DIR };
            Framework {
                argv: vec![interpreter, format!("{root}/{NODE_FRAMEWORK}")],
                // The function's own modules, and the framework for code that requires it.
                env: vec![(
                    "NODE_PATH".into(),
                    format!("{CODE_ROOT}/node_modules:{FRAMEWORK_DIR}/node_modules"),
                )],
                support,
            }
        }
        Runtime::Component | Runtime::Provided | Runtime::Image => {
            return Err(Refusal::new(
                Code::RuntimeMissing,
                format!("there is no Functions Framework for {runtime}"),
            )
            .hint("set `command` to the server's program"));
        }
    };
    if let Some(source) = source(runtime, handler, code) {
        framework.env.push(("FUNCTION_SOURCE".into(), source));
    }
    Ok(framework)
}

/// The file of a handler that names one; the framework's own habit, where it names none.
fn source(runtime: &Runtime, handler: &str, code: &Path) -> Option<String> {
    let file = target(handler).0?;
    match runtime {
        Runtime::Python { .. } => Some(format!("{CODE_ROOT}/{}.py", file.replace('.', "/"))),
        _ => {
            let ending =
                NODE_ENDINGS.iter().find(|ending| code.join(format!("{file}.{ending}")).is_file())?;
            Some(format!("{CODE_ROOT}/{file}.{ending}"))
        }
    }
}

fn support_unless(
    own: bool,
    there: bool,
    support: PathBuf,
    runtime: &Runtime,
) -> Result<Option<PathBuf>, Refusal> {
    match (own, there) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(support)),
        (false, false) => {
            let install = match runtime {
                Runtime::Node { .. } => "npm install @google-cloud/functions-framework",
                _ => "pip install --target . functions-framework",
            };
            Err(Refusal::new(
                Code::RuntimeMissing,
                format!("the Functions Framework for {runtime} is neither in the code nor on this host"),
            )
            .hint(format!(
                "run `rouse runtime install functions-framework-{runtime}` on this host, or `{install}` in the \
                 function's folder, or set `command` to start another server"
            )))
        }
    }
}
