//! What became of the probes: a line for each as it ends, and a table of all.

use std::time::Duration;

use rouse_escape::{Came as Way, Probe, Told};

/// What a probe came to in each place; nothing where it was not tried.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) ours: Option<Told>,
    pub(crate) fork: Option<Told>,
    pub(crate) ahead: Option<Told>,
    pub(crate) full: Option<Told>,
    pub(crate) control: Option<Told>,
    pub(crate) runc: Option<Told>,
}

/// One probe with what it came to.
pub(crate) struct Row {
    pub(crate) place: usize,
    probe: Probe,
    came: Came,
    failures: Vec<String>,
}

impl Row {
    pub(crate) fn new(probe: Probe, came: Came) -> Self {
        let confined = |told: &Option<Told>| told.as_ref().map_or(Ok(()), |told| told.confined(&probe));
        let judged = [
            ("in the sandbox", confined(&came.ours)),
            ("in the fork", confined(&came.fork)),
            ("in what had started", confined(&came.ahead)),
            ("in the full network", confined(&came.full)),
            ("in the control", came.control.as_ref().map_or(Ok(()), |told| told.control(&probe))),
            ("in runc", came.runc.as_ref().map_or(Ok(()), |told| told.oracle(&probe))),
        ];
        let failures =
            judged.into_iter().filter_map(|(place, judged)| Some(format!("{place} {}", judged.err()?)));
        let failures = failures.collect();
        Self { place: probe.place, probe, came, failures }
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
            let places = [
                ("ours", self.came.ours.as_ref()),
                ("fork", self.came.fork.as_ref()),
                ("ahead", self.came.ahead.as_ref()),
                ("full", self.came.full.as_ref()),
                ("control", self.came.control.as_ref()),
                ("runc", self.came.runc.as_ref()),
            ];
            for (place, told) in places {
                for (came, way, detail) in told.map(|told| told.ways.as_slice()).unwrap_or_default() {
                    println!("    {place:8} {came:?} {way}: {detail}");
                }
            }
        }
    }

    /// What it came to where every way must be blocked.
    fn confined(&self, told: Option<&Told>) -> String {
        let Some(told) = told else { return "-".to_owned() };
        match (told.count(Way::Through), told.count(Way::Blocked)) {
            (0, _) if told.confined(&self.probe).is_err() => "?".to_owned(),
            (0, 0) if told.out_of_memory => "ended".to_owned(),
            (0, 0) => "absent".to_owned(),
            (0, _) => "blocked".to_owned(),
            (through, _) => format!("{through} THROUGH"),
        }
    }

    fn ways(&self) -> usize {
        self.came
            .ours
            .as_ref()
            .or(self.came.fork.as_ref())
            .or(self.came.full.as_ref())
            .map_or(0, |told| told.ways.len())
    }

    fn control(&self) -> String {
        let Some(told) = &self.came.control else { return "left out".to_owned() };
        match told.count(Way::Through) {
            0 => "absent".to_owned(),
            through if through == told.ways.len() => "through".to_owned(),
            through => format!("{through} through"),
        }
    }

    fn runc(&self) -> String {
        match &self.came.runc {
            None => "-".to_owned(),
            Some(told) => match told.count(Way::Through) {
                0 if told.out_of_memory => "ended".to_owned(),
                0 => "blocked".to_owned(),
                through => format!("{through} through"),
            },
        }
    }
}

/// Prints all, and what they sum up to.
pub(crate) fn print(rows: &[Row], took: Duration) {
    println!(
        "\n{:36} {:>4}  {:10} {:10} {:10} {:10} {:12} {:12} it tries to",
        "probe", "ways", "sandbox", "fork", "ahead", "full", "control", "runc"
    );
    for row in rows {
        let ways = row.ways();
        let path = row.probe.path();
        let Came { ours, fork, ahead, full, .. } = &row.came;
        let [ours, fork, ahead, full] = [ours, fork, ahead, full].map(|told| row.confined(told.as_ref()));
        let [control, runc] = [row.control(), row.runc()];
        println!(
            "{path:36} {ways:>4}  {ours:10} {fork:10} {ahead:10} {full:10} {control:12} {runc:12} {}",
            row.probe.tries
        );
    }
    let ways: usize = rows.iter().map(Row::ways).sum();
    let through = |told: fn(&Row) -> Option<&Told>| -> usize {
        rows.iter().filter_map(told).map(|told| told.count(Way::Through)).sum()
    };
    let ours = through(|row| row.came.ours.as_ref());
    let forks = through(|row| row.came.fork.as_ref());
    let ahead = through(|row| row.came.ahead.as_ref());
    let full = through(|row| row.came.full.as_ref());
    let shown = through(|row| row.came.control.as_ref());
    let runc = through(|row| row.came.runc.as_ref());
    println!(
        "\n{} probes, {ways} ways: {ours} through in the sandbox, {forks} in the fork, {ahead} in what had started, {full} in a full network, {shown} in the control, {runc} in runc; \
         {:.0} s",
        rows.len(),
        took.as_secs_f64()
    );
}
