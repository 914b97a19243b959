//! The recipes of `deploy/`: what they say is what the command line takes, and their parts agree with each other.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use rouse_e2e::{folder, program, skipped};
use serde_json::Value;

fn read(name: &str) -> String {
    fs::read_to_string(folder("deploy").join(name)).expect(name)
}

/// The flags that `rouse serve` takes, by its own help.
fn flags() -> BTreeSet<String> {
    let Output { stdout, .. } = program().args(["serve", "--help"]).output().expect("run rouse");
    let text = String::from_utf8(stdout).expect("text");
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// That each argument which looks like a flag is one.
fn check<'a>(what: &str, args: impl Iterator<Item = &'a str>) {
    let (known, mut any) = (flags(), false);
    for flag in args.filter(|arg| arg.starts_with("--")) {
        let name = flag.split('=').next().unwrap_or(flag);
        assert!(known.contains(name), "{what}: `rouse serve` takes no {name}; it takes {known:?}");
        any = true;
    }
    assert!(any, "{what} has no flags");
}

#[test]
fn systemd_takes_the_unit_and_the_platform_its_arguments() {
    const TEST: &str = "systemd_takes_the_unit_and_the_platform_its_arguments";
    let unit = read("systemd/rouse.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let mut words = line.split_whitespace();
    assert_eq!((words.next(), words.next()), (Some("/usr/local/bin/rouse"), Some("serve")));
    check("rouse.service", words);
    // What it says of its user is what the platform looks for.
    assert!(read("systemd/rouse.conf").lines().any(|line| line.starts_with("u rouse ")));

    let Ok(found) = Command::new("systemd-analyze").arg("--version").output() else {
        return skipped(TEST, "there is no systemd-analyze here");
    };
    assert!(found.status.success());
    // It looks for the program that is started.
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("rouse.service");
    let there = unit.replace("/usr/local/bin/rouse", "/bin/true");
    fs::write(&copy, there).expect("a file");
    let Output { status, stdout, stderr } =
        Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&copy).output().expect("it runs");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("rouse.service")).collect();
    assert!(status.success() && ours.is_empty(), "{said}");
    // 0 is confined, 10 is not. What makes containers cannot be near 0; a plain unit has 9.6.
    let Output { stdout, stderr, .. } = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&copy)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    let overall = said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
    let level = overall.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level < 7.0), "{said}");
}

#[test]
fn the_image_starts_the_platform_with_arguments_that_it_takes() {
    let recipe = read("container/Containerfile");
    let array = |of: &str| -> Vec<String> {
        let line = recipe.lines().find_map(|line| line.strip_prefix(of)).expect(of);
        serde_json::from_str(line.trim()).expect("a list")
    };
    let all = [array("ENTRYPOINT"), array("CMD")].concat();
    assert_eq!(all[1], "serve");
    check("Containerfile", all.iter().map(String::as_str));
    let line = recipe.lines().find_map(|line| line.strip_prefix("EXPOSE ")).expect("ports");
    for port in line.split_whitespace() {
        assert!(all.iter().any(|arg| arg.ends_with(&format!(":{port}"))), "{port} in {all:?}");
    }
}

/// All documents of a YAML file.
fn yaml(path: &Path) -> Option<Vec<Value>> {
    let script = "import sys, json, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let has = Command::new("/usr/bin/python3").args(["-c", "import yaml"]).output();
    if !has.is_ok_and(|has| has.status.success()) {
        return None;
    }
    let Output { status, stdout, stderr } =
        Command::new("/usr/bin/python3").args(["-c", script]).arg(path).output().expect("it runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    Some(serde_json::from_slice(&stdout).expect("JSON"))
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn the_manifest_of_kubernetes_agrees_with_itself_and_with_the_platform() {
    const TEST: &str = "the_manifest_of_kubernetes_agrees_with_itself_and_with_the_platform";
    let Some(all) = yaml(&folder("deploy").join("kubernetes/rouse.yaml")) else {
        return skipped(TEST, "there is no yaml for Python: run `cargo xtask setup`");
    };
    let of = |kind: &str, name: &str| {
        let found = all.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    for name in ["engine", "rouse"] {
        let set = of("StatefulSet", name);
        let template = &set["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        let container = &template["spec"]["containers"][0];
        let ports: Vec<(&str, u64)> = container["ports"]
            .as_array()
            .expect("ports")
            .iter()
            .map(|port| {
                (port["name"].as_str().expect("a name"), port["containerPort"].as_u64().expect("a port"))
            })
            .collect();
        // Who is chosen is there: by itself, its service, its budget, and what spreads it over zones.
        assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(&of("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(of("PodDisruptionBudget", name)["spec"]["maxUnavailable"], 1);
        let spread = template["spec"]["topologySpreadConstraints"].as_array().expect("constraints");
        assert!(spread.iter().any(|one| one["topologyKey"] == "topology.kubernetes.io/zone"));
        assert!(spread.iter().all(|one| &one["labelSelector"]["matchLabels"] == labels));
        // Ports have the same numbers everywhere, and services lead to ports that there are.
        for service in all.iter().filter(|one| one["kind"] == "Service" && &one["spec"]["selector"] == labels)
        {
            for port in service["spec"]["ports"].as_array().expect("ports") {
                let target = port["targetPort"].as_str().or(port["name"].as_str()).expect("a name");
                let number = ports.iter().find(|(name, _)| *name == target).expect(target).1;
                assert!(port["targetPort"].is_string() || port["port"] == number, "{port}");
            }
        }
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let port = container[probe]["httpGet"]["port"].as_str().expect(probe);
            assert!(ports.iter().any(|(name, _)| *name == port), "{probe} asks {port}");
        }
        for mount in container["volumeMounts"].as_array().expect("mounts") {
            let claims = set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
            let volumes = template["spec"]["volumes"].as_array().into_iter().flatten();
            let mut names = claims.map(|one| &one["metadata"]["name"]).chain(volumes.map(|one| &one["name"]));
            assert!(names.any(|name| *name == mount["name"]), "{mount}");
        }
        // A pod waits for its calls longer than the platform does.
        assert!(template["spec"]["terminationGracePeriodSeconds"].as_u64().is_some_and(|s| s >= 45));
    }

    let container = &of("StatefulSet", "rouse")["spec"]["template"]["spec"]["containers"][0];
    let args = texts(&container["args"]);
    check("rouse.yaml", args.iter().copied());
    let port = |flag: &str| {
        let value = args.iter().find_map(|arg| arg.strip_prefix(flag)).expect(flag);
        value.rsplit(':').next().and_then(|port| port.parse::<u64>().ok()).expect("a port")
    };
    let named = |name: &str| {
        let ports = container["ports"].as_array().expect("ports");
        ports.iter().find(|port| port["name"] == name).expect(name)["containerPort"].as_u64()
    };
    assert_eq!((Some(port("--listen=")), Some(port("--control="))), (named("functions"), named("control")));
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    // What is substituted is set.
    let set: Vec<&str> = container["env"]
        .as_array()
        .expect("variables")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    for arg in &args {
        for name in arg.split("$(").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(set.contains(&name), "{name} of {arg} is not set: {set:?}");
        }
    }
    assert!(set.contains(&"ROUSE_CLUSTER"));
    // Both sides say the same of the engine: servers, ports, password.
    let secret = &of("Secret", "engine")["stringData"];
    let (servers, password) =
        (secret["servers"].as_str().expect("text"), secret["password"].as_str().expect("text"));
    let config = of("ConfigMap", "engine")["data"]["nats.conf"].as_str().expect("text");
    for number in 0..3 {
        assert!(
            servers.contains(&format!("nats://rouse:{password}@engine-{number}.engine:4222")),
            "{servers}"
        );
        assert!(config.contains(&format!("nats://engine-{number}.engine:6222")), "{config}");
        assert!(args.iter().any(|arg| arg.contains(&format!("http://engine-{number}.engine:8222"))));
    }
    assert!(config.contains("sync_interval: always") && config.contains("user: rouse"), "{config}");
}

/// The commands of a guide's blocks of shell, each in one line.
fn typed(guide: &str) -> Vec<String> {
    let text = fs::read_to_string(folder("docs/guides").join(guide)).expect(guide);
    let mut commands = Vec::new();
    for block in text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.replace("\\\n", " ").lines() {
            let line = line.split(" #").next().unwrap_or(line);
            commands.extend(
                line.split(['|', ';']).flat_map(|part| part.split("&&")).map(|part| part.trim().to_owned()),
            );
        }
    }
    commands
}

#[test]
fn what_the_guides_of_operators_type_is_what_the_command_line_takes() {
    for guide in ["runbooks.md", "backup.md", "cluster.md"] {
        let commands = typed(guide);
        let ours: Vec<_> = commands.iter().filter(|command| command.starts_with("rouse ")).collect();
        assert!(ours.len() > 2, "{guide}: {commands:?}");
        for command in ours {
            let words = command.split('>').next().unwrap_or(command).split_whitespace().skip(1);
            // It is parsed up to here, and then explained.
            let Output { status, stderr, .. } =
                program().args(words).arg("--help").output().expect("run rouse");
            assert!(status.success(), "{guide}: {command}: {}", String::from_utf8_lossy(&stderr));
        }
    }
}

#[test]
fn what_the_runbooks_quote_is_what_the_platform_says() {
    let runbooks = fs::read_to_string(folder("docs/guides").join("runbooks.md")).expect("the runbooks");
    let mut sources = String::new();
    let mut open = vec![folder("crates"), folder("src")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            sources.push_str(&fs::read_to_string(&path).expect("a file"));
        }
    }
    for words in [
        "a node is gone",
        "following the cluster's log anew",
        "does not reach the cluster's engine",
        "the cluster does not hear of this node",
        "this node was taken for gone; it joins again",
        "cannot commit",
        "the cluster's log cannot be applied here; trying again",
        "Signature expired",
        "a certificate has expired: clients will not believe it",
        "secrets cannot be had",
    ] {
        assert!(runbooks.contains(&format!("`{words}`")), "the runbooks do not quote {words}");
        assert!(sources.contains(words), "nothing says {words}");
    }
    // Metrics: `rouse_<process>_<name>_total` of a counter.
    let quoted = runbooks.split('`').filter(|word| word.starts_with("rouse_") && word.ends_with("_total"));
    let mut any = false;
    for metric in quoted {
        let (process, name) =
            metric["rouse_".len()..metric.len() - "_total".len()].split_once('_').expect(metric);
        assert!(sources.contains(&format!("with_prefix(\"rouse_{process}\")")), "{metric}");
        assert!(sources.contains(&format!("register(\"{name}\"")), "{metric}");
        any = true;
    }
    assert!(any);
    // Each failure says the same four things.
    for section in runbooks.split("\n## ").skip(1).filter(|section| !section.starts_with("Everything")) {
        for part in ["**Shows.**", "**Goes on.**", "**Do.**", "**Over.**"] {
            assert!(section.contains(part), "{part} of {}", section.lines().next().unwrap_or_default());
        }
    }
}
