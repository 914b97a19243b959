//! How a server is launched: its own command, the Functions Framework of its runtime, or its `bootstrap`.

use std::path::{Path, PathBuf};

use rouse_sandbox::{Mount, Network, Root, Spec};
use rouse_types::{Code, FunctionVersion, HttpSettings, Refusal, Runtime};

use super::{
    environment::{self, CODE_ROOT, FRAMEWORK_DIR},
    framework,
};
use crate::{image, interpreter, lambda::runtime::limits};

/// How the server of one version is launched on this host. Fields are open: an image fills them from its own words.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program and its arguments, as seen from inside.
    pub argv: Vec<String>,
    /// What the runtime adds to the environment; the function's own wins over it.
    pub env: Vec<(String, String)>,
    /// The working folder, as seen from inside.
    pub cwd: PathBuf,
    /// Folders of the host, the code's among them.
    pub mounts: Vec<Mount>,
    /// What its files are.
    pub root: Root,
}

impl Launch {
    /// How to launch this version, whose archive was unpacked to `code`. Looks at files and, once for each `node`, runs
    /// `node --version`: it may block for some 50 ms.
    ///
    /// # Errors
    /// [`Code::RuntimeMissing`] when a program is not there, with the next step.
    pub fn of(version: &FunctionVersion, code: &Path, state: &Path) -> Result<Self, Refusal> {
        if version.runtime == Runtime::Image {
            let image::Parts { argv, env, cwd, root } = image::read(version, code, state)?;
            return Ok(Self { argv, env, cwd, mounts: Vec::new(), root });
        }
        Self::find(&version.runtime, &version.http, version.handler.as_deref(), code, state)
    }

    /// [`Launch::of`] before there is a version.
    ///
    /// # Errors
    /// As [`Launch::of`].
    pub fn find(
        runtime: &Runtime,
        http: &HttpSettings,
        handler: Option<&str>,
        code: &Path,
        state: &Path,
    ) -> Result<Self, Refusal> {
        let mut launch = Self {
            argv: Vec::new(),
            env: Vec::new(),
            cwd: CODE_ROOT.into(),
            mounts: vec![Mount { source: code.to_owned(), target: CODE_ROOT.into() }],
            root: Root::Host,
        };
        if let Some((program, arguments)) = http.command.split_first() {
            launch.argv = vec![resolve(program)?];
            launch.argv.extend(arguments.iter().cloned());
            if let Runtime::Python { .. } = runtime {
                launch.env.push(("PYTHONUNBUFFERED".into(), "1".into()));
                launch.env.push(("PYTHONDONTWRITEBYTECODE".into(), "1".into()));
            }
            return Ok(launch);
        }
        if *runtime == Runtime::Provided {
            launch.argv = vec![format!("{CODE_ROOT}/bootstrap")];
            return Ok(launch);
        }
        let framework = framework::find(runtime, handler.unwrap_or_default(), code, state)?;
        launch.argv = framework.argv;
        launch.env = framework.env;
        launch.mounts.extend(framework.support.map(|source| Mount { source, target: FRAMEWORK_DIR.into() }));
        Ok(launch)
    }

    /// The spec of an instance.
    #[must_use]
    pub fn spec(&self, version: &FunctionVersion, id: &str) -> Spec {
        Spec {
            id: id.to_owned(),
            argv: self.argv.clone(),
            env: environment::of(version, &self.env),
            cwd: self.cwd.clone(),
            mounts: self.mounts.clone(),
            limits: limits(&version.limits),
            listeners: Vec::new(),
            resolver: None,
            hosts: Vec::new(),
            network: Network::Sockets,
            root: self.root.clone(),
            interpreter: None,
        }
    }
}

/// A program as people write it: a path, one below the code, or a name that is looked for as a shell would.
fn resolve(program: &str) -> Result<String, Refusal> {
    if program.starts_with('/') {
        return Ok(program.to_owned());
    }
    if program.contains('/') {
        return Ok(format!("{CODE_ROOT}/{}", program.trim_start_matches("./")));
    }
    interpreter::find(program).ok_or_else(|| {
        Refusal::new(Code::RuntimeMissing, format!("the program {program} is not on this host")).hint(
            format!("install it below /usr, or write ./{program} for one that is in the function's folder"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::runtime::tests::version;

    #[test]
    fn a_command_is_found_as_a_shell_would_find_it() {
        let mut version = version("provided");
        let argv = |version: &FunctionVersion| {
            Launch::of(version, Path::new("/code"), Path::new("/state")).map(|launch| launch.argv)
        };
        assert_eq!(argv(&version).expect("always there"), ["/workspace/bootstrap"]);
        version.http.command = vec!["./bin/server".into(), "-v".into()];
        assert_eq!(argv(&version).expect("a path"), ["/workspace/bin/server", "-v"]);
        version.http.command = vec!["env".into()];
        assert_eq!(argv(&version).expect("on every host"), ["/usr/bin/env"]);
        version.http.command = vec!["no-such-program".into()];
        let refusal = argv(&version).expect_err("not there");
        assert!(refusal.hint.is_some_and(|hint| hint.contains("./no-such-program")));
    }

    #[test]
    fn the_framework_comes_from_the_code_or_from_the_host_or_is_asked_for() {
        let Some(minor) = (0..30).find(|minor| interpreter::find(&format!("python3.{minor}")).is_some())
        else {
            return skipped("the_framework_comes_from_the_code_or_from_the_host_or_is_asked_for");
        };
        let name = format!("python3.{minor}");
        let mut version = version(&name);
        version.handler = Some("shop.hello".into());
        let (code, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let find = || Launch::of(&version, code.path(), state.path());
        let refusal = find().expect_err("nowhere");
        assert!(refusal.hint.is_some_and(|hint| hint.contains(&format!("functions-framework-{name}"))));
        let install = |folder: &Path| {
            std::fs::create_dir_all(folder.join("functions_framework")).expect("a folder");
            std::fs::write(folder.join("functions_framework/__main__.py"), "").expect("a file");
        };
        install(&state.path().join(format!("runtimes/functions-framework-{name}")));
        let launch = find().expect("on the host");
        assert_eq!(launch.mounts.len(), 2);
        assert!(launch.env.contains(&("FUNCTION_SOURCE".into(), "/workspace/shop.py".into())), "{launch:?}");
        install(code.path());
        let launch = find().expect("in the code");
        assert_eq!(
            (launch.mounts.len(), &launch.argv[1..]),
            (1, &["-m".to_owned(), "functions_framework".into()][..])
        );
    }

    #[expect(clippy::print_stderr, reason = "a skipped test is reported")]
    fn skipped(test: &str) {
        eprintln!("SKIPPED {test}: no python3 in /usr");
    }
}
