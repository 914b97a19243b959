//! `rouse doctor`: what this machine can run and confine, and the next step for each lack. It needs no platform that
//! runs, and changes nothing.

use std::{path::Path, process::ExitCode};

use rouse_sandbox::container::probe::{self, Finding, State};
use rouse_types::Runtime;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::{
    cli::{args::Global, out, state, style::Style, table::Table},
    roles::runtimes,
};

/// Below this much free disk a deployment may fail, and below the second nothing can be started.
const DISK_BYTES_ENOUGH: u64 = 1 << 30;
const DISK_BYTES_MIN: u64 = 64 << 20;
/// Descriptors of one process: what some hundreds of instances and callers take, and what the platform starts with.
const FILES_ENOUGH: u64 = 16_384;
const FILES_MIN: u64 = 256;

/// Findings that belong together.
#[derive(Debug, Serialize)]
struct Section {
    name: &'static str,
    findings: Vec<Finding>,
}

pub(crate) fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let state = state::folder(global);
    let containers = probe::containers();
    let offered = vec![Finding::ok("wasm", "components run in every case"), offers_containers(&containers)];
    let platform = vec![folder(&state), disk(&state), files()];
    // Without these no function runs at all, not even a component.
    let works = platform.iter().all(|one| one.state != State::Missing);
    let sections = [
        Section { name: "sandboxes", findings: offered },
        Section { name: "platform", findings: platform },
        Section { name: "containers", findings: containers },
        Section { name: "egress", findings: probe::full_network() },
        Section { name: "runtimes", findings: interpreters(&state) },
        Section { name: "beyond", findings: probe::beyond() },
    ];
    if global.json {
        out::json(&serde_json::json!({ "works": works, "sections": sections }))?;
    } else {
        out::text(&render(&sections, Style::stdout()))?;
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(sections: &[Section], style: Style) -> String {
    let mut table = Table::new(&["AREA", "WHAT", "STATE", "FOUND"]);
    let mut fixes = String::new();
    for section in sections {
        for finding in &section.findings {
            let state = match finding.state {
                State::Ok => "ok",
                State::Degraded => "degraded",
                State::Missing => "missing",
                State::Unseen => "not seen",
            };
            table.row([section.name.into(), finding.what.into(), state.into(), finding.detail.clone()]);
            if let Some(fix) = &finding.fix {
                fixes.push_str(&format!("  {}: {fix}\n", style.bold(finding.what)));
            }
        }
    }
    let table = table.render(style);
    if fixes.is_empty() { table } else { format!("{table}\nwhat to do:\n{fixes}") }
}

/// Whether containers run here, from what they need.
fn offers_containers(needs: &[Finding]) -> Finding {
    let with = |state| needs.iter().filter(|one| one.state == state).map(|one| one.what).collect::<Vec<_>>();
    let (missing, unseen, degraded) = (with(State::Missing), with(State::Unseen), with(State::Degraded));
    if !missing.is_empty() {
        let fix = "see the lines of these; components run without";
        return Finding::bad("container", State::Missing, format!("for want of {}", missing.join(", ")), fix);
    }
    if !unseen.is_empty() {
        let fix = "run `sudo rouse doctor`; a platform that is not started by root runs components alone";
        return Finding::bad(
            "container",
            State::Unseen,
            "only root can tell, and only root can start them",
            fix,
        );
    }
    if !degraded.is_empty() {
        let detail = format!("without {}", degraded.join(", "));
        return Finding::bad("container", State::Degraded, detail, "see the lines of these");
    }
    Finding::ok("container", "with every limit enforced")
}

/// The folder itself, or the nearest above it that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|one| one.exists()).unwrap_or(Path::new("/"))
}

fn folder(state: &Path) -> Finding {
    const WHAT: &str = "state folder";
    let shown = state.display();
    let nearest = nearest(state);
    let usable = rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    match usable {
        Ok(()) if nearest.is_dir() => Finding::ok(WHAT, shown.to_string()),
        Ok(()) => {
            let found = format!("{} is no folder", nearest.display());
            Finding::bad(WHAT, State::Missing, found, "name another with --state")
        }
        Err(error) => {
            let found = format!("{shown} cannot be written: {error}");
            Finding::bad(
                WHAT,
                State::Missing,
                found,
                "run it as the platform's user, or name another with --state",
            )
        }
    }
}

fn disk(state: &Path) -> Finding {
    const WHAT: &str = "disk space";
    let Ok(found) = rustix::fs::statvfs(nearest(state)) else {
        return Finding::bad(
            WHAT,
            State::Unseen,
            "the file system does not tell",
            "name another with --state",
        );
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let detail = format!("{} MiB free at {}", free >> 20, state.display());
    let fix = "make room, or name a folder on another disk with --state";
    match free {
        DISK_BYTES_ENOUGH.. => Finding::ok(WHAT, detail),
        DISK_BYTES_MIN.. => Finding::bad(WHAT, State::Degraded, detail, fix),
        _ => Finding::bad(WHAT, State::Missing, detail, fix),
    }
}

fn files() -> Finding {
    const WHAT: &str = "open files";
    // The platform raises its own limit to the hard one.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let detail = format!("{most} for each process");
    let fix = "raise the hard limit: LimitNOFILE= of a systemd unit, or ulimit -Hn 65536";
    match most {
        FILES_ENOUGH.. => Finding::ok(WHAT, detail),
        FILES_MIN.. => Finding::bad(WHAT, State::Degraded, detail, fix),
        _ => Finding::bad(WHAT, State::Missing, detail, fix),
    }
}

/// The interpreters that are here, and for those that are not one line for each kind.
fn interpreters(state: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (what, of_kind) in [
        ("python", (|runtime| matches!(runtime, Runtime::Python { .. })) as fn(&Runtime) -> bool),
        ("nodejs", |runtime| matches!(runtime, Runtime::Node { .. })),
    ] {
        let tried: Vec<_> = runtimes()
            .into_iter()
            .filter(of_kind)
            .map(|runtime| (rouse_contract::lambda::available(&runtime, state), runtime))
            .collect();
        let ready: Vec<_> =
            tried.iter().filter(|(found, _)| found.is_ok()).map(|(_, one)| one.to_string()).collect();
        if !ready.is_empty() {
            findings.push(Finding::ok(what, ready.join(", ")));
            continue;
        }
        // What is here and lacks its support is nearer than what is not here.
        let (here, absent): (Vec<_>, Vec<_>) = tried.into_iter().partition(|(_, runtime)| is_here(runtime));
        let refusal = here.into_iter().chain(absent).find_map(|(found, _)| found.err());
        let (message, hint) = refusal.map(|refusal| (refusal.message, refusal.hint)).unwrap_or_default();
        let fix = hint.unwrap_or_else(|| format!("install {what} in /usr/bin"));
        findings.push(Finding::bad(what, State::Missing, message, fix));
    }
    findings
}

/// Whether a Python of this version is where sandboxes see it.
fn is_here(runtime: &Runtime) -> bool {
    ["/usr/bin", "/usr/local/bin"].iter().any(|folder| Path::new(folder).join(runtime.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_offered_as_far_as_their_needs_are_there() {
        let ok = Finding::ok("kernel", "");
        let lacks = |state| Finding::bad("seccomp", state, "", "");
        assert_eq!(offers_containers(std::slice::from_ref(&ok)).state, State::Ok);
        for state in [State::Missing, State::Unseen, State::Degraded] {
            let found = offers_containers(&[ok.clone(), lacks(state)]);
            assert_eq!(found.state, state);
        }
        let both = offers_containers(&[lacks(State::Degraded), lacks(State::Missing)]);
        assert_eq!(both.state, State::Missing);
    }

    #[test]
    fn each_lack_has_its_line_and_its_next_step() {
        let findings =
            vec![Finding::ok("kernel", "Linux 6"), Finding::bad("KVM", State::Missing, "none", "buy one")];
        let text = render(&[Section { name: "host", findings }], Style::plain());
        assert_eq!(
            text,
            "AREA  WHAT    STATE    FOUND\nhost  kernel  ok       Linux 6\nhost  KVM     missing  none\n\nwhat to do:\n  KVM: buy one\n"
        );
    }

    #[test]
    fn a_state_folder_that_cannot_be_is_missing() {
        assert_eq!(folder(Path::new("/dev/null/rouse")).state, State::Missing);
        let here = tempfile::tempdir().expect("a folder");
        assert_eq!(folder(&here.path().join("new")).state, State::Ok);
    }
}
