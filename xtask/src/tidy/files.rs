//! What no source file may hold, and what each must.

/// Past this many lines a file has a second subject, which wants a file of its own.
const LINES_MAX: usize = 500;

/// Tables that `cargo xtask generate` writes: nobody reads them from top to bottom.
const GENERATED: &str = "/generated.rs";

/// Text that may stand in no file, and what to do instead. Written in two parts, so that this file holds none.
const BANNED: [((&str, &str), &str); 6] = [
    (("todo", "!("), "do it, or make it an error that says so"),
    (("unimplemented", "!("), "do it, or make it an error that says so"),
    (("FIX", "ME"), "fix it, or write an issue"),
    (("dbg", "!("), "use tracing"),
    (("/work", "/main"), "a path of one machine: use a relative one"),
    (("/var/tmp/rouse", "-t/"), "a path of one machine: use CARGO_TARGET_DIR"),
];

/// Crates that talk to hardware or to compiled code, and so may do what the compiler cannot check.
const UNSAFE: [&str; 2] = ["crates/sandbox/", "crates/wasm/"];

/// The keyword.
const UNSAFE_WORD: &str = "unsafe";

/// Every breach in one file.
pub(super) fn breaches(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    for ((first, second), instead) in BANNED {
        let banned = format!("{first}{second}");
        for (number, line) in text.lines().enumerate() {
            if line.contains(&banned) {
                breaches.push(format!("{path}:{}: `{banned}`: {instead}", number + 1));
            }
        }
    }
    if !path.ends_with(".rs") {
        return breaches;
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        breaches.push(format!("{path}:1: no `//!` header: say what the file is for"));
    }
    // What tests share may be called so: cargo takes every other file of that folder for a test.
    if path.ends_with("/mod.rs") && !path.contains("tests/") {
        breaches.push(format!("{path}: name it `{}.rs`", path.trim_end_matches("/mod.rs")));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX && !path.ends_with(GENERATED) {
        breaches
            .push(format!("{path}: {lines} lines, of {LINES_MAX} at most: give the second subject a file"));
    }
    if !UNSAFE.iter().any(|folder| path.starts_with(folder)) {
        for (number, line) in text.lines().enumerate() {
            if is_unsafe(line) {
                breaches.push(format!("{path}:{}: unsafe code outside {}", number + 1, UNSAFE.join(", ")));
            }
        }
    }
    breaches
}

/// Whether a line holds the keyword, outside of comments and of attributes.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["{", "fn ", "impl ", "extern "].iter().any(|next| code.contains(&format!("{UNSAFE_WORD} {next}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> usize {
        breaches(path, text).len()
    }

    #[test]
    fn a_tidy_file_has_no_breach() {
        assert_eq!(check("crates/types/src/id.rs", "//! Ids.\n"), 0);
        assert_eq!(check("README.md", "Rouse\n"), 0);
    }

    #[test]
    fn headers_mod_files_and_length_are_checked() {
        assert_eq!(check("src/a.rs", "fn a() {}\n"), 1);
        assert_eq!(check("src/a/mod.rs", "//! A.\n"), 1);
        assert_eq!(check("src/a.rs", &"//! A.\n".repeat(501)), 1);
        assert_eq!(check("crates/aws/src/model/generated.rs", &"//! A.\n".repeat(501)), 0);
    }

    #[test]
    fn unsafe_code_has_its_places() {
        let code = format!("{} {{ f() }}", "unsafe");
        let text = format!("//! A.\n{code}\n");
        assert_eq!((check("src/a.rs", &text), check("crates/wasm/src/a.rs", &text)), (1, 0));
        assert_eq!(check("src/a.rs", &format!("//! A.\n// {code} is not needed here\n")), 0);
    }

    #[test]
    fn banned_text_is_found_in_every_kind_of_file() {
        assert_eq!(check("docs/a.md", &format!("{}{}", "FIX", "ME")), 1);
        assert_eq!(check("src/a.rs", &format!("//! A.\nfn a() {{ {}{}) }}", "todo", "!(")), 1);
    }
}
