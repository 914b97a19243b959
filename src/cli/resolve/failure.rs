//! What pip and npm say when they fail, made short: what is wrong, where it stands, and the next step. Pure.

use super::{
    needs::{Needs, Tool},
    requirements,
};

/// Of the tool's own words so many lines are shown, each so long.
const LINES_MAX: usize = 8;
const LINE_CHARS_MAX: usize = 300;

/// What a tool left behind when it failed.
#[derive(Debug)]
pub(super) struct Failure<'a> {
    pub(super) needs: &'a Needs,
    /// The text of `requirements.txt`.
    pub(super) requirements: &'a str,
    /// The end of what it printed.
    pub(super) printed: &'a str,
    /// What the way out refused, and why.
    pub(super) refused: &'a [String],
    /// Where packages come from, as host and port.
    pub(super) index: &'a str,
    /// Only packages that need no building were allowed.
    pub(super) wheels_only: bool,
    /// How it ended was for want of memory.
    pub(super) out_of_memory: bool,
}

/// A message and the next step.
pub(super) fn told(failure: &Failure<'_>) -> (String, String) {
    let tool = failure.needs.tool;
    let has = |words: &[&str]| words.iter().any(|word| failure.printed.contains(word));
    let with = |what: &str| {
        let words = own_words(tool, failure.printed);
        let refused = failure.refused.iter().map(|line| format!("\n    {line}")).collect::<String>();
        format!("{what}{words}{refused}")
    };
    if failure.out_of_memory
        || has(&["No space left on device", "ENOSPC", "MemoryError", "heap out of memory"])
    {
        return (
            with("its dependencies need more memory or space than a build has"),
            "fewer or smaller dependencies; or build them with a command of your own: [functions.NAME.build]"
                .into(),
        );
    }
    if has(&["connection broken by", "Could not fetch URL", "Max retries exceeded", "Read timed out"])
        || has(&["ECONNREFUSED", "ENOTFOUND", "ETIMEDOUT", "ECONNRESET", "EAI_AGAIN", "ECONNABORTED"])
        || has(&["SSLError", "SELF_SIGNED", "UNABLE_TO_GET_ISSUER", "UNABLE_TO_VERIFY", "CERT_"])
    {
        let setting =
            if matches!(tool, Tool::Pip { .. }) { "PIP_INDEX_URL or pip.conf" } else { "npm's registry" };
        return (
            with(&format!("{} cannot be reached, or not trusted", failure.index)),
            format!(
                "is it up, and is {setting} right? Where a package's files lie on another host, allow that one: \
                 ROUSE_BUILD_EGRESS=host:443"
            ),
        );
    }
    match tool {
        Tool::Pip { minor } => pip(failure, minor, &has, &with),
        Tool::Npm { .. } => npm(&has, &with),
    }
}

type With<'a> = &'a dyn Fn(&str) -> String;

fn pip(failure: &Failure<'_>, minor: u8, has: &dyn Fn(&[&str]) -> bool, with: With<'_>) -> (String, String) {
    if let Some(wanted) = after(failure.printed, "No matching distribution found for ") {
        let end = wanted.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
        let name = &wanted[..end.unwrap_or(wanted.len())];
        let line = requirements::line_of(failure.requirements, name);
        let place = line.map(|line| format!(" ({}, line {line})", requirements::FILE)).unwrap_or_default();
        let found_none = has(&["from versions: none"]);
        return match (found_none, failure.wheels_only) {
            (true, true) => (
                with(&format!(
                    "there is no wheel of {wanted} for python3.{minor} on this machine's kind{place}"
                )),
                format!(
                    "take a version that has one, or build where python3.{minor} is installed, below /usr, as root"
                ),
            ),
            (true, false) => (
                with(&format!("{} has no package {wanted} for python3.{minor}{place}", failure.index)),
                "mend the name; or it has no version for this Python".into(),
            ),
            (false, _) => (
                with(&format!("no version of {name} fits {wanted} and python3.{minor}{place}")),
                "take one of the versions that there are, or another `runtime`".into(),
            ),
        };
    }
    if has(&["DO NOT MATCH THE HASHES", "Hashes are required"]) {
        return (
            with("what the index has is not what the hashes in the requirements say"),
            "pin them again (`pip-compile --generate-hashes`); if they were right, ask who changed the package".into(),
        );
    }
    if has(&["is not a supported wheel on this platform"]) {
        return (
            with(&format!("a wheel is made for another Python or machine than python3.{minor} here")),
            "name the package instead of the file, or take the wheel that fits `runtime`".into(),
        );
    }
    if has(&["ResolutionImpossible"]) {
        return (
            with("the requirements contradict each other"),
            "loosen one of the versions that are named".into(),
        );
    }
    if has(&["subprocess-exited-with-error", "Failed building wheel", "Failed to build"]) {
        return (
            with("a package that has no wheel cannot be built here"),
            "take a version that has a wheel, or install what it needs below /usr (a compiler, headers)"
                .into(),
        );
    }
    (with("pip failed"), format!("the same by hand: pip install -r {} --target folder", requirements::FILE))
}

fn npm(has: &dyn Fn(&[&str]) -> bool, with: With<'_>) -> (String, String) {
    if has(&["code EUSAGE"]) {
        return (
            with("package-lock.json does not match package.json"),
            "write it anew with `npm install --package-lock-only`, and keep both".into(),
        );
    }
    if has(&["code EINTEGRITY"]) {
        return (
            with("what the registry has is not what package-lock.json says"),
            "if the package was meant to change, write the lock file anew; if not, ask who changed it".into(),
        );
    }
    if has(&["code E404", "code ETARGET"]) {
        return (
            with("a dependency is not in the registry"),
            "mend its name or version in package.json".into(),
        );
    }
    if has(&["code E401", "code E403", "code ENEEDAUTH"]) {
        return (
            with("the registry wants a login"),
            "`npm login`, or set the token that .npmrc names".into(),
        );
    }
    if has(&["command failed"]) {
        return (
            with("the install script of a dependency failed"),
            "it ran without network but the registry's, and without this machine's files; what it fetches from \
             elsewhere can be allowed with ROUSE_BUILD_EGRESS=host:443"
                .into(),
        );
    }
    (with("npm failed"), "the same by hand: npm ci --omit=dev".into())
}

/// What stands after these words, until the line's end.
fn after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (_, rest) = text.rsplit_once(words)?;
    rest.lines().next().map(str::trim).filter(|rest| !rest.is_empty())
}

/// The lines in which a tool says what is wrong.
fn own_words(tool: Tool, printed: &str) -> String {
    let strip = |line: &str| -> Option<String> {
        let line = line.trim_end();
        let said = match tool {
            Tool::Pip { .. } => {
                ["ERROR: ", "error: "].iter().find_map(|begin| line.trim_start().strip_prefix(begin))
            }
            Tool::Npm { .. } => ["npm error ", "npm ERR! "].iter().find_map(|begin| line.strip_prefix(begin)),
        }?;
        let noise =
            said.trim().is_empty() || said.contains("A complete log of this run") || said.trim() == "404";
        (!noise).then(|| said.chars().take(LINE_CHARS_MAX).collect())
    };
    let mut lines: Vec<String> = Vec::new();
    for line in printed.lines().filter_map(strip) {
        // From here on npm explains how it is used.
        if line == "Clean install a project" || line.contains("Note that you can also install from a") {
            break;
        }
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        // It said it in a way of its own: then the end of all.
        let all: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = all.len().saturating_sub(LINES_MAX);
        lines = all[from..].iter().map(|line| line.chars().take(LINE_CHARS_MAX).collect()).collect();
    }
    lines.truncate(LINES_MAX);
    lines.into_iter().map(|line| format!("\n    {}: {line}", tool.name())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn needs(tool: Tool) -> Needs {
        Needs { tool, files: None, urls: BTreeSet::new(), variables: BTreeSet::new(), loose: Vec::new() }
    }

    fn message(tool: Tool, printed: &str) -> String {
        let needs = needs(tool);
        let failure = Failure {
            needs: &needs,
            requirements: "six\nno-such-thing == 1\n",
            printed,
            refused: &[],
            index: "pypi.org:443",
            wheels_only: false,
            out_of_memory: false,
        };
        told(&failure).0
    }

    const PIP: Tool = Tool::Pip { minor: 11 };
    const NPM: Tool = Tool::Npm { major: 20, locked: true };

    #[test]
    fn a_package_that_is_not_there_is_told_with_its_line() {
        let text = message(
            PIP,
            "Collecting six\nERROR: Could not find a version that satisfies the requirement no-such-thing==1 (from \
             versions: none)\nERROR: No matching distribution found for no-such-thing==1\n",
        );
        assert!(text.starts_with("pypi.org:443 has no package no-such-thing==1"), "{text}");
        assert!(
            text.contains("(requirements.txt, line 2)") && text.contains("\n    pip: Could not find"),
            "{text}"
        );
    }

    #[test]
    fn an_index_that_does_not_answer_is_not_a_package_that_is_not_there() {
        let text = message(
            PIP,
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\nERROR: No matching \
             distribution found for six\n",
        );
        assert!(text.starts_with("pypi.org:443 cannot be reached"), "{text}");
    }

    #[test]
    fn npms_codes_become_sentences() {
        for (printed, said) in [
            (
                "npm error code EUSAGE\nnpm error\nnpm error Missing: a@1 from lock file\n",
                "does not match package.json",
            ),
            ("npm error code E404\nnpm error 404 Not Found\n", "not in the registry"),
            (
                "npm error code 1\nnpm error command failed\nnpm error command sh -c node x.js\n",
                "install script",
            ),
            ("npm error code EINTEGRITY\n", "is not what package-lock.json says"),
        ] {
            let text = message(NPM, printed);
            assert!(text.contains(said), "{text}");
            assert!(text.contains("\n    npm: code "), "{text}");
        }
    }

    #[test]
    fn what_is_said_in_no_known_way_is_shown_by_its_end() {
        let text = message(PIP, "one\ntwo\n/usr/bin/python3: No module named pip\n");
        assert!(text.ends_with("\n    pip: /usr/bin/python3: No module named pip"), "{text}");
    }
}
