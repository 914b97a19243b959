//! What a probe said, and what it means in each of the places where it runs.

use crate::Probe;

/// Errors by which a kernel says that it lacks what was asked for. A control that gets them proves nothing, nor need
/// it: there is nothing to get through to.
const LACKS: &[&str] =
    &["ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EOPNOTSUPP", "ENOTSUP", "ENODEV"];

/// What one way came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// To nothing.
    Blocked,
    /// It got what it was after.
    Through,
    /// There is nothing to try it on.
    Absent,
}

/// Everything that a probe said, and how it ended.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Each way: what it came to, its name, and the detail.
    pub ways: Vec<(Came, String, String)>,
    /// Whether it got to its end.
    pub done: bool,
    /// Whether it was ended for want of memory.
    pub out_of_memory: bool,
    /// Whether it ran in a fork of a zygote, as far as it was asked.
    pub forked: bool,
    /// Whether it was to run in one, found that it does not, and so tried nothing.
    pub plain: bool,
    /// What else went wrong, in the host's words.
    pub trouble: Option<String>,
    /// What else it wrote.
    rest: String,
}

impl Told {
    /// Reads what it wrote.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            let came = match line.split(' ').next() {
                Some("BLOCKED") => Came::Blocked,
                Some("THROUGH") => Came::Through,
                Some("ABSENT") => Came::Absent,
                _ if line == "FORKED" => {
                    told.forked = true;
                    continue;
                }
                _ if line == "PLAIN" => {
                    told.plain = true;
                    continue;
                }
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

    /// It said nothing, since something else went wrong.
    #[must_use]
    pub fn failed(trouble: String) -> Self {
        Self { trouble: Some(trouble), ..Self::default() }
    }

    /// How many ways came to this.
    #[must_use]
    pub fn count(&self, came: Came) -> usize {
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
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn confined(&self, probe: &Probe) -> Result<(), String> {
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
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn control(&self, probe: &Probe) -> Result<(), String> {
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
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn oracle(&self, probe: &Probe) -> Result<(), String> {
        self.unclear(probe).map_or(Ok(()), Err)
    }

    fn named(&self, which: impl Fn(Came, &str) -> bool) -> Vec<String> {
        let ways = self.ways.iter().filter(|(came, _, detail)| which(*came, detail));
        ways.map(|(_, way, detail)| format!("{way} ({detail})")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(more: &str) -> Probe {
        let json = format!(
            r#"{{"group": "g", "name": "n", "tries": "t", "control": "host", "runc": "", "neighbour": false,
                "frozen": false, "lacks": ["ENOENT"], "needs": "", "full": "", "limits": {{}}, {more}}}"#
        );
        serde_json::from_str(&json).expect("a probe")
    }

    #[test]
    fn in_a_sandbox_nothing_may_get_through_and_everything_must_be_told() {
        let probe = probe(r#""dies": false"#);
        let judge = |text: &str| Told::read(text).confined(&probe);
        assert_eq!(judge("BLOCKED a: EPERM\nABSENT b: no such call\nDONE\n"), Ok(()));
        assert!(
            judge("BLOCKED a: EPERM\nTHROUGH b: 'root:x'\nDONE\n")
                .expect_err("through")
                .contains("b ('root:x')")
        );
        assert!(judge("BLOCKED a: EPERM\nTraceback: oh\n").expect_err("not done").contains("Traceback: oh"));
        assert!(judge("DONE\n").is_err(), "it tried nothing");
        assert!(Told::failed("no sandbox".to_owned()).confined(&probe).is_err());
    }

    #[test]
    fn a_probe_says_whether_it_was_forked_before_it_says_anything_else() {
        let told = Told::read("FORKED\nBLOCKED a: EPERM\nDONE\n");
        assert!(told.forked && !told.plain && told.done);
        assert_eq!(told.count(Came::Blocked), 1);
        let told = Told::read("PLAIN\n");
        assert!(told.plain && !told.forked);
        assert!(told.confined(&probe(r#""dies": false"#)).is_err(), "it tried nothing");
    }

    #[test]
    fn a_control_must_get_through_but_to_what_the_host_lacks() {
        let probe = probe(r#""dies": true"#);
        let judge = |text: &str| Told::read(text).control(&probe);
        assert_eq!(judge("THROUGH a: 1\nBLOCKED b: ENOSYS\nBLOCKED c: ENOENT\nDONE\n"), Ok(()));
        assert!(judge("THROUGH a: 1\nBLOCKED b: EPERM\nDONE\n").expect_err("blocked").contains("b (EPERM)"));
        assert!(judge("THROUGH a: 1\n").is_err(), "it is not done");
    }

    #[test]
    fn an_end_for_want_of_memory_is_an_answer_where_one_was_asked_for() {
        let mut told = Told::read("");
        told.out_of_memory = true;
        assert_eq!(told.confined(&probe(r#""dies": true"#)), Ok(()));
        assert!(told.confined(&probe(r#""dies": false"#)).is_err());
        told.ways.push((Came::Through, "a".into(), "all of it".into()));
        assert!(told.confined(&probe(r#""dies": true"#)).is_err());
    }
}
