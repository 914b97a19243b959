//! What became of tests: counted from what cargo's runner writes.

use anyhow::{Result, bail};

/// What `xtask setup` installs, as reasons of skipped tests name it. In CI a test may not be skipped for these.
const INSTALLABLE: [&str; 4] = ["xtask setup", "runtime install", "componentize", "wasm32"];

/// Counts, and the names of what did not pass.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    /// Each a test with its reason.
    skipped: Vec<String>,
    /// Each a test that failed among others, and passed alone.
    unsteady: Vec<String>,
    /// Each a test, or a command.
    pub(super) failures: Vec<String>,
}

impl Tally {
    pub(super) fn one_passed() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    pub(super) fn one_failed(what: String) -> Self {
        Self { failed: 1, failures: vec![what], ..Self::default() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.unsteady.extend(other.unsteady);
        self.failures.extend(other.failures);
    }

    /// One line of the runner's output.
    pub(super) fn read(&mut self, suite: &str, line: &str) {
        // Not at the line's beginning: with one thread the runner has written the test's name before it.
        if let Some(at) = line.find("SKIPPED ") {
            self.skipped.push(line[at + "SKIPPED ".len()..].to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| -> usize {
                let part = counts.split([';', '.']).find(|part| part.trim().ends_with(what));
                part.and_then(|part| part.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some(name) = test.strip_suffix(" ... FAILED") {
                self.failures.push(format!("{suite}: {name}"));
            } else if let Some((name, reason)) = test.split_once(" ... ignored") {
                let reason = reason.trim_start_matches([',', ' ']);
                self.skipped.push(format!("{name}: ignored {reason}").trim_end().to_owned());
                // Unlike one that says so itself, an ignored test is not among those that passed.
                self.passed += 1;
            }
        }
    }

    /// The names of the tests that failed, if each failure is that of one test and there are at most `max`.
    pub(super) fn failed_tests(&self, max: usize) -> Option<Vec<String>> {
        let named = self.failures.len() == self.failed && (1..=max).contains(&self.failed);
        let names = self.failures.iter().map(|failure| Some(failure.split_once(": ")?.1.to_owned()));
        names.collect::<Option<Vec<_>>>().filter(|_| named)
    }

    /// Takes the result of a second run of the tests that failed: all must have run and passed.
    pub(super) fn settle(&mut self, second: &Self, names: &[String]) {
        if second.failures.is_empty() && second.failed == 0 && second.passed >= names.len() {
            self.unsteady.append(&mut self.failures);
            self.passed += self.failed;
            self.failed = 0;
        }
    }

    /// The counts. A skipped test counts as passed for the runner, but not here.
    pub(super) fn short(&self) -> String {
        let failed = self.failed.max(self.failures.len());
        let passed = self.passed.saturating_sub(self.skipped.len());
        format!("{passed} passed, {failed} failed, {} skipped", self.skipped.len())
    }

    /// Says all, and fails when anything did.
    pub(super) fn report(mut self, ci: bool) -> Result<()> {
        if ci {
            self.fail_lacking();
        }
        println!("\n== summary");
        for skipped in &self.skipped {
            println!("   SKIPPED {skipped}");
        }
        for unsteady in &self.unsteady {
            println!("   UNSTEADY {unsteady}: failed, and passed alone; mend it");
        }
        for failure in &self.failures {
            println!("   FAILED {failure}");
        }
        println!("{}", self.short());
        let failed = self.failed.max(self.failures.len());
        if failed > 0 {
            bail!("{failed} failed");
        }
        Ok(())
    }

    /// In CI it is a failure to skip what could have been installed.
    fn fail_lacking(&mut self) {
        let lacking = self.skipped.iter().filter(|text| INSTALLABLE.iter().any(|what| text.contains(what)));
        let lacking: Vec<String> =
            lacking.map(|text| format!("skipped in CI for lack of what setup installs: {text}")).collect();
        self.failures.extend(lacking);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read("unit", line));
        tally
    }

    #[test]
    fn results_of_several_files_add_up() {
        let tally = read(
            "test a ... ok\ntest b ... FAILED\n\
             test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n",
        );
        assert_eq!(tally.short(), "5 passed, 1 failed, 0 skipped");
        assert_eq!(tally.failures, ["unit: b"]);
    }

    #[test]
    fn a_skipped_test_is_not_counted_as_passed() {
        let tally = read(
            "test a ... SKIPPED a: no mount\nok\ntest b ... ignored, takes an hour\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n",
        );
        assert_eq!(tally.short(), "1 passed, 0 failed, 2 skipped");
        assert_eq!(tally.skipped, ["a: no mount", "b: ignored takes an hour"]);
    }

    #[test]
    fn only_few_named_tests_run_again_and_all_of_them_must_pass() {
        let failed = "test b ... FAILED\ntest result: FAILED. 3 passed; 1 failed; 0 ignored;";
        let mut tally = read(failed);
        let names = tally.failed_tests(3).expect("one test");
        assert_eq!(names, ["b"]);
        tally.settle(&read("test result: ok. 0 passed; 0 failed; 0 ignored;"), &names);
        tally.settle(&read(failed), &names);
        assert_eq!((tally.short().as_str(), tally.unsteady.len()), ("3 passed, 1 failed, 0 skipped", 0));
        tally.settle(&read("test b ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored;"), &names);
        assert_eq!((tally.short().as_str(), tally.unsteady.len()), ("4 passed, 0 failed, 0 skipped", 1));

        let four: String = (0..4).map(|n| format!("test {n} ... FAILED\n")).collect();
        assert!(read(&format!("{four}test result: FAILED. 0 passed; 4 failed;")).failed_tests(3).is_none());
        assert!(read("test result: FAILED. 3 passed; 1 failed;").failed_tests(3).is_none(), "which?");
        assert!(read("test result: ok. 3 passed; 0 failed;").failed_tests(3).is_none());
    }

    #[test]
    fn ci_may_skip_only_what_cannot_be_installed() {
        let failures = |reason: &str| {
            let mut tally = read(&format!("SKIPPED a: {reason}\ntest result: ok. 1 passed; 0 failed;"));
            tally.fail_lacking();
            tally.failures.len()
        };
        assert_eq!(failures("no mount"), 0);
        assert_eq!(failures("no tools: run `cargo xtask setup`"), 1);
    }
}
