//! What is left out of a package: patterns as in `.gitignore`, from `.rouseignore` and from a short list of
//! what never belongs to a function.

/// Left out of every package, unless `.rouseignore` takes it back in with `!`.
const ALWAYS: &str = ".git/\n.hg/\n.svn/\n__pycache__/\n*.pyc\n.venv/\n.DS_Store\n.rouse/\n.rouseignore\n";
/// Patterns of one file: bounds the work per packed path.
const PATTERNS_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// The pattern's parts between slashes.
    parts: Vec<String>,
    /// Begins at the top; else it may match at any depth.
    anchored: bool,
    /// Matches folders alone.
    folder: bool,
    /// Takes back in what an earlier pattern left out.
    keep: bool,
}

/// Decides for each path whether it is left out.
#[derive(Debug, Clone)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

impl Ignore {
    /// The rules of this `.rouseignore`, after those that always hold.
    pub(crate) fn new(text: &str) -> Self {
        let lines = ALWAYS.lines().chain(text.lines());
        Self { patterns: lines.filter_map(Pattern::read).take(PATTERNS_MAX).collect() }
    }

    /// Whether this path, relative and with `/`, is left out. Paths below a folder that is left out are not
    /// asked for.
    pub(crate) fn leaves_out(&self, path: &str, is_folder: bool) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let last = self.patterns.iter().rev().find(|pattern| pattern.matches(&parts, is_folder));
        last.is_some_and(|pattern| !pattern.keep)
    }
}

impl Pattern {
    fn read(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (keep, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let (folder, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
        let rooted = line.strip_prefix('/');
        let parts: Vec<String> = rooted.unwrap_or(line).split('/').map(str::to_owned).collect();
        Some(Self { anchored: rooted.is_some() || parts.len() > 1, parts, folder, keep })
    }

    fn matches(&self, path: &[&str], is_folder: bool) -> bool {
        if self.folder && !is_folder {
            return false;
        }
        if self.anchored {
            return parts_match(&self.parts, path);
        }
        path.last().is_some_and(|name| name_matches(self.parts[0].as_bytes(), name.as_bytes()))
    }
}

/// `**` stands for any number of folders.
fn parts_match(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            parts_match(rest, path)
                || path.split_first().is_some_and(|(_, below)| parts_match(pattern, below))
        }
        (Some((first, rest)), Some((name, below))) => {
            name_matches(first.as_bytes(), name.as_bytes()) && parts_match(rest, below)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// `*` stands for any text, `?` for one character. Goes back to the last star only, so that no pattern
/// takes more than pattern × name steps.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while here < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, here));
                at += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == name[here] => {
                at += 1;
                here += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (at, here) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(rules: &str, path: &str) -> bool {
        let (path, folder) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        Ignore::new(rules).leaves_out(path, folder)
    }

    #[test]
    fn what_never_belongs_to_a_function_is_left_out_at_any_depth() {
        for path in [".git/", "a/b/__pycache__/", "a/x.pyc", ".rouseignore"] {
            assert!(out("", path), "{path}");
        }
        for path in ["node_modules/", "git", "x.py", "a/.gitignore"] {
            assert!(!out("", path), "{path}");
        }
    }

    #[test]
    fn patterns_read_as_in_gitignore() {
        assert!(out("*.log", "a/b.log") && !out("*.log", "a/b.logs"));
        assert!(out("/build", "build") && !out("/build", "a/build"));
        assert!(out("tests/", "a/tests/") && !out("tests/", "tests"));
        assert!(out("docs/*.md", "docs/a.md") && !out("docs/*.md", "docs/b/a.md"));
        assert!(out("docs/**/*.md", "docs/b/c/a.md") && out("docs/**/*.md", "docs/a.md"));
        assert!(out("a?c", "abc") && !out("# a?c", "abc"));
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        assert!(!out("*.log\n!keep.log", "keep.log"));
        assert!(out("!keep.log\n*.log", "keep.log"));
        assert!(!out("!__pycache__/", "__pycache__/"));
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = "*a".repeat(2_000);
        assert!(!name_matches(pattern.as_bytes(), "a".repeat(1_900).as_bytes()));
    }
}
