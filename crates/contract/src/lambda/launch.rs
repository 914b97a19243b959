//! External extensions: the executables in the folder `extensions` of the function's layers, or else of its code,
//! launched before the runtime. Inside they lie in `/opt/extensions`, as on AWS.
//!
//! A sandbox runs one program, so a shell starts them first and then becomes the runtime.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rouse_sandbox::{Mount, Root, Spec};

use super::extensions::COUNT_MAX;

/// Where extensions lie inside.
const FOLDER: &str = "/opt/extensions";

/// Gets the number of extensions, their paths, and then the runtime's own words: all as arguments, so nothing of
/// them is read as shell. What it starts belongs to init, not to the runtime, whose children they would surprise.
/// An extension that fails, or the last one's end, ends the instance, as on AWS.
const START: &str = r#"n=$1; shift
( (
  left=$n
  while [ "$left" -gt 0 ]; do
    { "$1" </dev/null || { echo "the extension ${1##*/} ended with status $?" >&2; kill -9 $$; }; } &
    shift; left=$((left - 1))
  done
  wait
  kill -9 $$
) & )
shift "$n"
exec "$@""#;

/// Makes a spec start the extensions of these layers or else of this code, if there are any.
pub(crate) fn with_extensions(spec: &mut Spec, code: &Path, layers: Option<&Path>) {
    let folder = layers.unwrap_or(code).join("extensions");
    let names = executables(&folder);
    // An image has a root, and perhaps a shell, of its own.
    if names.is_empty() || spec.root != Root::Host {
        return;
    }
    let mut argv: Vec<String> = ["/bin/sh", "-c", START, "start"].map(str::to_owned).into();
    argv.push(names.len().to_string());
    argv.extend(names.iter().map(|name| format!("{FOLDER}/{name}")));
    argv.append(&mut spec.argv);
    spec.argv = argv;
    // Layers are seen whole.
    if layers.is_none() {
        spec.mounts.push(Mount { source: folder, target: FOLDER.into() });
    }
}

/// The names of the extensions that a spec starts.
pub(crate) fn extensions(spec: &Spec) -> Vec<String> {
    let starts = spec.argv.get(2).is_some_and(|script| script == START);
    let count = spec.argv.get(4).filter(|_| starts).and_then(|count| count.parse().ok()).unwrap_or(0);
    let name = |path: &String| PathBuf::from(path).file_name()?.to_str().map(str::to_owned);
    spec.argv.iter().skip(5).take(count).filter_map(name).collect()
}

/// The first few, by name. This is read at each start: a folder that is not there costs a microsecond.
fn executables(folder: &Path) -> Vec<String> {
    const ANYONE_EXECUTES: u32 = 0o001;
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let executable = |entry: &fs::DirEntry| {
        let Ok(metadata) = entry.metadata() else { return false };
        metadata.is_file() && metadata.permissions().mode() & ANYONE_EXECUTES != 0
    };
    let mut names: Vec<_> = entries
        .flatten()
        .filter(executable)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.truncate(COUNT_MAX);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::runtime::{available, tests::version};

    #[test]
    fn only_executables_are_extensions_and_the_runtime_comes_last() {
        let code = tempfile::tempdir().expect("a folder");
        let launch = available(&rouse_types::Runtime::Provided, code.path()).expect("always there");
        let plain = launch.spec(&version("provided"), code.path(), "i1");
        assert_eq!(plain.argv, ["/var/task/bootstrap"]);
        assert_eq!(extensions(&plain), Vec::<String>::new());

        let folder = code.path().join("extensions");
        fs::create_dir(&folder).expect("a folder");
        for (name, mode) in [("b; rm -rf $HOME", 0o755), ("a", 0o755), ("readme", 0o644)] {
            fs::write(folder.join(name), "").expect("a file");
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let spec = launch.spec(&version("provided"), code.path(), "i1");
        assert_eq!(
            spec.argv[4..],
            ["2", "/opt/extensions/a", "/opt/extensions/b; rm -rf $HOME", "/var/task/bootstrap"]
        );
        assert_eq!(extensions(&spec), ["a", "b; rm -rf $HOME"]);
    }
}
