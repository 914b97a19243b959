//! How the end of a sandbox is told to people.

use rouse_sandbox::Exit;

/// How a sandbox ended, as a person would say it.
#[must_use]
pub fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("it exited with status {code}"),
        Exit::Signal(signal) => format!("it was ended by signal {signal}{}", name(signal)),
        Exit::OutOfMemory => "it used up its memory".into(),
    }
}

/// The signals that code dies of, by POSIX name; the numbers are Linux'.
fn name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS: a system call that is not allowed)",
        _ => "",
    }
}

/// The last lines of the standard error, as the end of a message.
pub(crate) fn last_words(tail: &[String]) -> String {
    if tail.is_empty() {
        return String::new();
    }
    format!("; the last it wrote to standard error: {}", tail.join(" | "))
}
