//! What became of the probes: a line for each as it ends, and a table of all.

use std::time::Duration;

use rouse_escape::{Came, Probe, Told};

/// One probe with what it came to in each place.
pub(crate) struct Row {
    pub(crate) place: usize,
    probe: Probe,
    /// Nothing, if it takes forks to try it.
    ours: Option<Told>,
    fork: Option<Told>,
    control: Option<Told>,
    runc: Option<Told>,
    failures: Vec<String>,
}

impl Row {
    pub(crate) fn new(
        probe: Probe,
        ours: Option<Told>,
        fork: Option<Told>,
        control: Option<Told>,
        runc: Option<Told>,
    ) -> Self {
        let judged = [
            ("in the sandbox", ours.as_ref().map_or(Ok(()), |told| told.confined(&probe))),
            ("in the fork", fork.as_ref().map_or(Ok(()), |told| told.confined(&probe))),
            ("in the control", control.as_ref().map_or(Ok(()), |told| told.control(&probe))),
            ("in runc", runc.as_ref().map_or(Ok(()), |told| told.oracle(&probe))),
        ];
        let failures =
            judged.into_iter().filter_map(|(place, judged)| Some(format!("{place} {}", judged.err()?)));
        let failures = failures.collect();
        Self { place: probe.place, probe, ours, fork, control, runc, failures }
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
                ("ours", self.ours.as_ref()),
                ("fork", self.fork.as_ref()),
                ("control", self.control.as_ref()),
                ("runc", self.runc.as_ref()),
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
        match (told.count(Came::Through), told.count(Came::Blocked)) {
            (0, _) if told.confined(&self.probe).is_err() => "?".to_owned(),
            (0, 0) if told.out_of_memory => "ended".to_owned(),
            (0, 0) => "absent".to_owned(),
            (0, _) => "blocked".to_owned(),
            (through, _) => format!("{through} THROUGH"),
        }
    }

    fn ways(&self) -> usize {
        self.ours.as_ref().or(self.fork.as_ref()).map_or(0, |told| told.ways.len())
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
    println!(
        "\n{:36} {:>4}  {:10} {:10} {:12} {:12} it tries to",
        "probe", "ways", "sandbox", "fork", "control", "runc"
    );
    for row in rows {
        let ways = row.ways();
        let path = row.probe.path();
        let [ours, fork] = [row.confined(row.ours.as_ref()), row.confined(row.fork.as_ref())];
        let [control, runc] = [row.control(), row.runc()];
        println!("{path:36} {ways:>4}  {ours:10} {fork:10} {control:12} {runc:12} {}", row.probe.tries);
    }
    let ways: usize = rows.iter().map(Row::ways).sum();
    let through = |told: fn(&Row) -> Option<&Told>| -> usize {
        rows.iter().filter_map(told).map(|told| told.count(Came::Through)).sum()
    };
    let (ours, forks) = (through(|row| row.ours.as_ref()), through(|row| row.fork.as_ref()));
    let (shown, runc) = (through(|row| row.control.as_ref()), through(|row| row.runc.as_ref()));
    println!(
        "\n{} probes, {ways} ways: {ours} through in the sandbox, {forks} in the fork, {shown} in the control, {runc} in runc; \
         {:.0} s",
        rows.len(),
        took.as_secs_f64()
    );
}
