//! Runs a probe where nothing confines it: it must get through there, or its failure in a sandbox proves nothing.
//!
//! What a probe changes, it changes in namespaces that end with it. A probe that would harm the host even so has no
//! control, and says why.

use std::process::Stdio;

use rouse_escape::{Probe, Told};
use tokio::{process::Command, time::timeout};

use crate::{
    confined::PROBE_MAX,
    corpus::{Corpus, PYTHON},
};

/// In its new namespaces: the probes at `/mnt`, a `/tmp` of its own, a neighbour if it needs one, and then the probe,
/// as a child of this shell. Arguments: folder, neighbour, who, descriptors, group, name.
const SCRIPT: &str = r#"
mount --bind "$1" /mnt && mount -t tmpfs -o mode=1777 tmp /tmp && cd /mnt || exit 90
if [ -n "$2" ]; then
    /usr/bin/python3 /mnt/victim.py >/dev/null &
    while [ ! -e /tmp/ready ]; do sleep 0.05; done
fi
if [ -n "$4" ]; then
    exec 7</ 8</etc/passwd
fi
as=
if [ -n "$3" ]; then
    as="setpriv --reuid 65534 --regid 65534 --clear-groups"
fi
$as /usr/bin/python3 -S /mnt/run.py "$5" "$6"
exit $?
"#;

/// Runs it, unless it has no control.
pub(crate) async fn run(corpus: &Corpus, probe: &Probe) -> Option<Told> {
    let flag = |wanted: bool| if wanted { "yes" } else { "" };
    let mut command = match probe.control.as_str() {
        "host" => {
            let mut command = Command::new(PYTHON);
            command.args(["-S", "run.py"]).args([&probe.group, &probe.name]).current_dir(&corpus.folder);
            command
        }
        kind @ ("namespaces" | "network" | "nobody" | "leaks") => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--mount-proc", "--kill-child"]);
            if kind == "network" || probe.neighbour {
                command.arg("--net");
            }
            command.args(["--", "/bin/sh", "-c", SCRIPT, "control"]).arg(&corpus.folder);
            command.args([flag(probe.neighbour), flag(kind == "nobody"), flag(kind == "leaks")]);
            command.args([&probe.group, &probe.name]);
            command
        }
        none => {
            let why = none.strip_prefix("none: ").unwrap_or_default();
            assert!(!why.is_empty(), "{} has a control of no kind: {none}", probe.path());
            return None;
        }
    };
    command.env_clear().envs(corpus.env(&probe.limits)).env("CONTROL", "1");
    Some(finish(command).await)
}

/// Runs a command to its end and reads what the probe in it said.
pub(crate) async fn finish(mut command: Command) -> Told {
    command.stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PROBE_MAX, command.output()).await {
        Ok(Ok(output)) => {
            let text =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            Told::read(&text.concat())
        }
        Ok(Err(error)) => Told::failed(format!("{error}")),
        Err(_) => Told::failed(format!("it took longer than {} seconds", PROBE_MAX.as_secs())),
    }
}
