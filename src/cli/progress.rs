//! What takes a while, shown while it does. On a terminal: bars and spinners that vanish when done. Elsewhere:
//! nothing, so that logs of CI hold results alone.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::style::Style;

/// How often a spinner turns: often enough to look alive.
const TICK: Duration = Duration::from_millis(100);

/// Something under way; gone from the screen when dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

fn bar(length: Option<u64>, template: &str) -> ProgressBar {
    let target = if Style::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(length, target);
    // A template that is wrong shows the plain bar; a test draws each.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

const SPINNER: &str = "{spinner:.cyan} {msg} {elapsed:.dim}";
const BYTES: &str = "{spinner:.cyan} {msg} [{bar:30.cyan/dim}] {bytes}/{total_bytes} {bytes_per_sec:.dim}";

impl Progress {
    /// Something whose end cannot be foretold.
    pub(crate) fn spinner(message: impl Into<String>) -> Self {
        let bar = bar(None, SPINNER);
        bar.set_message(message.into());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// So many bytes on their way.
    pub(crate) fn bytes(message: impl Into<String>, total: u64) -> Self {
        let bar = bar(Some(total), BYTES);
        bar.set_message(message.into());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// What is under way now.
    pub(crate) fn message(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
    }

    /// What tells how far it is.
    pub(crate) fn position(&self) -> impl FnMut(u64) + Send + 'static {
        let bar = self.0.clone();
        move |position| bar.set_position(position)
    }

    /// Writes a line above.
    pub(crate) fn note(&self, text: &str) {
        self.0.suspend(|| super::out::note(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for template in [SPINNER, BYTES] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
