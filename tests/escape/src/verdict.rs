//! What a probe said, and what it means in each of the places where it runs.

use crate::corpus::Probe;

/// Errors by which a kernel says that it lacks what was asked for. A control that gets them proves nothing, nor need
/// it: there is nothing to get through to.
const LACKS: &[&str] =
    &["ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EOPNOTSUPP", "ENOTSUP", "ENODEV"];

/// What one way came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Blocked,
    Through,
    Absent,
}

/// Everything that a probe said, and how it ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Each way: what it came to, its name, and the detail.
    pub(crate) ways: Vec<(Came, String, String)>,
    /// Whether it got to its end.
    pub(crate) done: bool,
    /// Whether it was ended for want of memory.
    pub(crate) out_of_memory: bool,
    /// What else went wrong, in the host's words.
    pub(crate) trouble: Option<String>,
    /// What else it wrote.
    rest: String,
}

impl Told {
    pub(crate) fn read(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            let came = match line.split(' ').next() {
                Some("BLOCKED") => Came::Blocked,
                Some("THROUGH") => Came::Through,
                Some("ABSENT") => Came::Absent,
                _ if line == "DONE" => {
                    told.done = true;
                    continue;
                }
                _ => {
                    told.rest.push_str(line);
                    told.rest.push('\n');
                    continue;
                }
            };
            let rest = line.split_once(' ').map_or("", |(_, rest)| rest);
            let (way, detail) = rest.split_once(": ").unwrap_or((rest, ""));
            told.ways.push((came, way.to_owned(), detail.to_owned()));
        }
        told
    }

    pub(crate) fn failed(trouble: String) -> Self {
        Self { trouble: Some(trouble), ..Self::default() }
    }

    /// How many ways came to this.
    pub(crate) fn count(&self, came: Came) -> usize {
        self.ways.iter().filter(|(one, _, _)| *one == came).count()
    }

    /// Why nobody can tell from this what the probe came to.
    fn unclear(&self, probe: &Probe) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(trouble.clone());
        }
        let told = self.done || (probe.dies && self.out_of_memory);
        (!told).then(|| format!("it ended without a verdict:\n{}", self.rest))
    }

    /// In our sandbox: nothing may get through.
    pub(crate) fn confined(&self, probe: &Probe) -> Result<(), String> {
        if let Some(why) = self.unclear(probe) {
            return Err(why);
        }
        let through: Vec<String> = self.named(|came, _| came == Came::Through);
        if !through.is_empty() {
            return Err(format!("it got THROUGH: {}", through.join("; ")));
        }
        if self.count(Came::Blocked) == 0 && !self.out_of_memory && self.count(Came::Absent) == 0 {
            return Err("it tried nothing".to_owned());
        }
        Ok(())
    }

    /// In the control: everything must get through, but what this host has not.
    pub(crate) fn control(&self, probe: &Probe) -> Result<(), String> {
        if !self.done {
            return Err(self.unclear(probe).unwrap_or_else(|| "the control ran out of memory".to_owned()));
        }
        let lacks = |detail: &str| LACKS.contains(&detail) || probe.lacks.iter().any(|lack| lack == detail);
        let blocked = self.named(|came, detail| came == Came::Blocked && !lacks(detail));
        if blocked.is_empty() {
            return Ok(());
        }
        Err(format!("it proves nothing, being blocked outside of a sandbox too: {}", blocked.join("; ")))
    }

    /// In runc's container: whatever it is, it must be told.
    pub(crate) fn oracle(&self, probe: &Probe) -> Result<(), String> {
        self.unclear(probe).map_or(Ok(()), Err)
    }

    fn named(&self, which: impl Fn(Came, &str) -> bool) -> Vec<String> {
        let ways = self.ways.iter().filter(|(came, _, detail)| which(*came, detail));
        ways.map(|(_, way, detail)| format!("{way} ({detail})")).collect()
    }
}
