//! What became of the probes: a line for each as it ends, and a table of all.

use std::time::Duration;

use rouse_escape::{Came, Probe, Told};

/// One probe with what it came to in each place.
pub(crate) struct Row {
    pub(crate) place: usize,
    probe: Probe,
    ours: Told,
    control: Option<Told>,
    runc: Option<Told>,
    failures: Vec<String>,
}

impl Row {
    pub(crate) fn new(probe: Probe, ours: Told, control: Option<Told>, runc: Option<Told>) -> Self {
        let judged = [
            ("in the sandbox", ours.confined(&probe)),
            ("in the control", control.as_ref().map_or(Ok(()), |told| told.control(&probe))),
            ("in runc", runc.as_ref().map_or(Ok(()), |told| told.oracle(&probe))),
        ];
        let failures =
            judged.into_iter().filter_map(|(place, judged)| Some(format!("{place} {}", judged.err()?)));
        let failures = failures.collect();
        Self { place: probe.place, probe, ours, control, runc, failures }
    }

    pub(crate) fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// As the ordinary runner of tests does, with what it tried to do.
    pub(crate) fn print(&self) {
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        println!("test {} ... {verdict}", self.probe.path());
        if !self.passed() {
            println!("    it tries to {}", self.probe.tries);
        }
        for failure in &self.failures {
            println!("    {failure}");
        }
        if std::env::var_os("ESCAPE_VERBOSE").is_some() {
            for (place, told) in
                [("ours", Some(&self.ours)), ("control", self.control.as_ref()), ("runc", self.runc.as_ref())]
            {
                for (came, way, detail) in told.map(|told| told.ways.as_slice()).unwrap_or_default() {
                    println!("    {place:8} {came:?} {way}: {detail}");
                }
            }
        }
    }

    fn ours(&self) -> String {
        match (self.ours.count(Came::Through), self.ours.count(Came::Blocked)) {
            (0, _) if !self.passed() => "?".to_owned(),
            (0, 0) if self.ours.out_of_memory => "ended".to_owned(),
            (0, 0) => "absent".to_owned(),
            (0, _) => "blocked".to_owned(),
            (through, _) => format!("{through} THROUGH"),
        }
    }

    fn control(&self) -> String {
        let Some(told) = &self.control else { return "left out".to_owned() };
        match told.count(Came::Through) {
            0 => "absent".to_owned(),
            through if through == told.ways.len() => "through".to_owned(),
            through => format!("{through} through"),
        }
    }

    fn runc(&self) -> String {
        match &self.runc {
            None => "-".to_owned(),
            Some(told) => match told.count(Came::Through) {
                0 if told.out_of_memory => "ended".to_owned(),
                0 => "blocked".to_owned(),
                through => format!("{through} through"),
            },
        }
    }
}

/// Prints all, and what they sum up to.
pub(crate) fn print(rows: &[Row], took: Duration) {
    println!("\n{:36} {:>4}  {:10} {:12} {:12} it tries to", "probe", "ways", "sandbox", "control", "runc");
    for row in rows {
        let ways = row.ours.ways.len();
        let path = row.probe.path();
        let cells = (row.ours(), row.control(), row.runc());
        println!("{path:36} {ways:>4}  {:10} {:12} {:12} {}", cells.0, cells.1, cells.2, row.probe.tries);
    }
    let ways: usize = rows.iter().map(|row| row.ours.ways.len()).sum();
    let through: usize = rows.iter().map(|row| row.ours.count(Came::Through)).sum();
    let shown = rows.iter().filter_map(|row| row.control.as_ref());
    let shown: usize = shown.map(|told| told.count(Came::Through)).sum();
    let runc: usize =
        rows.iter().filter_map(|row| row.runc.as_ref()).map(|told| told.count(Came::Through)).sum();
    println!(
        "\n{} probes, {ways} ways: {through} through in the sandbox, {shown} in the control, {runc} in runc; {:.0} s",
        rows.len(),
        took.as_secs_f64()
    );
}
