//! Metrics: those of control itself, and those of all processes as one text that Prometheus reads
//! (OpenMetrics 1.0), each sample with the label `process`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::peers::Told;

/// What the text is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What control counts of itself.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    deployed: AtomicU64,
    failed: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    traced: AtomicU64,
    untraced: AtomicU64,
}

impl Metrics {
    pub(crate) fn deployed(&self, well: bool) {
        let counter = if well { &self.deployed } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, well: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !well {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Invocations whose spans were taken by the collector, or dropped.
    pub(crate) fn exported(&self, well: bool, invocations: usize) {
        let counter = if well { &self.traced } else { &self.untraced };
        counter.fetch_add(invocations as u64, Ordering::Relaxed);
    }

    fn text(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "# HELP rouse_control_deployments Deployments that ended.\n\
             # TYPE rouse_control_deployments counter\n\
             rouse_control_deployments_total{{result=\"live\"}} {}\n\
             rouse_control_deployments_total{{result=\"failed\"}} {}\n\
             # HELP rouse_control_requests Requests to the API.\n\
             # TYPE rouse_control_requests counter\n\
             rouse_control_requests_total {}\n\
             # HELP rouse_control_refused Requests to the API that were refused.\n\
             # TYPE rouse_control_refused counter\n\
             rouse_control_refused_total {}\n\
             # HELP rouse_control_traces Invocations whose spans were exported.\n\
             # TYPE rouse_control_traces counter\n\
             rouse_control_traces_total{{result=\"sent\"}} {}\n\
             rouse_control_traces_total{{result=\"dropped\"}} {}\n",
            of(&self.deployed),
            of(&self.failed),
            of(&self.requests),
            of(&self.refused),
            of(&self.traced),
            of(&self.untraced),
        )
    }

    /// All metrics.
    pub(crate) fn all(&self, others: Vec<Told>) -> String {
        let own = Told { process: "control".to_owned(), body: self.text().into() };
        merge(others.into_iter().chain([own]))
    }
}

/// One family of metrics: its comments once, and the samples of all processes together, as the format wants.
#[derive(Debug, Default)]
struct Family {
    comments: Vec<String>,
    samples: String,
}

fn merge(told: impl Iterator<Item = Told>) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for Told { process, body } in told {
        let text = String::from_utf8_lossy(&body);
        let mut current = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                let mut words = comment.split_whitespace();
                let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                if !matches!(kind, "HELP" | "TYPE" | "UNIT") {
                    continue;
                }
                name.clone_into(&mut current);
                let comments = &mut families.entry(current.clone()).or_default().comments;
                let prefix = format!("# {kind} ");
                if !comments.iter().any(|known| known.starts_with(&prefix)) {
                    comments.push(line.to_owned());
                }
                continue;
            }
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let (name, rest) = line.split_at(end);
            // A histogram's samples have longer names than their family, and OpenMetrics' counters, too.
            let family = if !current.is_empty() && name.starts_with(&current) { &current } else { name };
            let samples = &mut families.entry(family.to_owned()).or_default().samples;
            let labelled = match rest.strip_prefix('{') {
                Some(labels) if labels.starts_with('}') => format!("{{process=\"{process}\"{labels}"),
                Some(labels) => format!("{{process=\"{process}\",{labels}"),
                None => format!("{{process=\"{process}\"}}{rest}"),
            };
            let _ = writeln!(samples, "{name}{labelled}");
        }
    }
    let texts = families.into_values().map(|family| {
        let comments: String = family.comments.iter().map(|line| format!("{line}\n")).collect();
        comments + &family.samples
    });
    texts.chain(["# EOF\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_of_all_processes_stand_together_with_their_names() {
        let told = |process: &str, text: &'static str| Told {
            process: process.to_owned(),
            body: bytes::Bytes::from_static(text.as_bytes()),
        };
        let one = "# HELP calls Calls.\n# TYPE calls counter\ncalls_total{f=\"a b\"} 1\nup 1\n# EOF\n";
        let two = "# HELP calls Calls.\n# TYPE calls counter\ncalls_total{} 2\n";
        assert_eq!(
            merge([told("gateway-0", one), told("node", two)].into_iter()),
            "# HELP calls Calls.\n# TYPE calls counter\n\
             calls_total{process=\"gateway-0\",f=\"a b\"} 1\ncalls_total{process=\"node\"} 2\n\
             up{process=\"gateway-0\"} 1\n# EOF\n"
        );
    }
}
