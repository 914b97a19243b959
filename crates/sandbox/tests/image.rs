//! Sandboxes whose files are an image's: what the code sees of them, what it may write, and that none of it stays.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rouse_sandbox::{Driver, Error, Mount, Root, Spec};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

#[path = "support/host.rs"]
mod host;
use host::{Host, as_the_node, spec, text};

/// Who unpacked the layers: neither root nor the code's user.
const UNPACKER: u32 = 54_322;

/// A layer below the host's folder of code: files with their contents, each owned by the unpacker.
fn layer(host: &Host, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = host.code().join(name);
    fs::create_dir(&root).unwrap();
    for (file, content) in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match (*content, content.strip_prefix("-> ")) {
            ("", _) => {
                let mode = Mode::RUSR | Mode::WUSR;
                mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(0, 0)).unwrap();
            }
            (_, Some(target)) => symlink(target, &path).unwrap(),
            (content, None) => fs::write(&path, content).unwrap(),
        }
    }
    root
}

fn give(folder: &Path) {
    chown(folder, Some(UNPACKER), Some(UNPACKER)).unwrap();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        std::os::unix::fs::lchown(entry.path(), Some(UNPACKER), Some(UNPACKER)).unwrap();
        if entry.file_type().unwrap().is_dir() {
            give(&entry.path());
        }
    }
}

/// Two layers: a program and files, and above them changes.
fn image(host: &Host) -> Option<Root> {
    let lower = layer(
        host,
        "lower",
        &[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh"),
            ("etc/hosts", "6.6.6.6 evil"),
            ("data/changed", "old"),
            ("data/gone", "still here"),
            ("data/kept", "kept"),
            ("proc", "-> /data"),
            ("tmp", "-> /data"),
            ("var/task/own", "the image's"),
        ],
    );
    let upper = layer(host, "upper", &[("data/changed", "new"), ("data/gone", "")]);
    fs::create_dir(lower.join("bin")).unwrap();
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/probe.c");
    let built =
        Command::new("cc").args(["-static", "-O1", "-o"]).arg(lower.join("bin/probe")).arg(probe).output();
    if !built.as_ref().is_ok_and(|built| built.status.success()) {
        host::skipped("an image's program", &format!("cc -static does not work: {built:?}"));
        return None;
    }
    fs::set_permissions(lower.join("data"), fs::Permissions::from_mode(0o700)).unwrap();
    give(&lower);
    give(&upper);
    Some(Root::Layers(vec![lower, upper]))
}

fn probe(root: &Root, operations: &[&str]) -> Spec {
    let argv: Vec<&str> = std::iter::once("probe").chain(operations.iter().copied()).collect();
    Spec { root: root.clone(), cwd: "/made/on/the/way".into(), ..spec(&argv) }
}

async fn answers(host: &Host, spec: Spec) -> Vec<String> {
    let started = host.driver().start(spec).await.expect("started");
    let (out, err) = tokio::join!(text(started.stdout), text(started.stderr));
    assert_eq!(err, "");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn the_layers_are_one_and_all_of_it_belongs_to_the_code() {
    let Some(host) = Host::new("the_layers_are_one_and_all_of_it_belongs_to_the_code") else { return };
    let Some(root) = image(&host) else { return };
    as_the_node(|| async {
        let found = answers(
            &host,
            probe(
                &root,
                &[
                    "cat /data/changed",
                    "cat /data/gone",
                    "cat /data/kept",
                    "owned /data/kept",
                    "owned /",
                    "write /data/kept",
                    "cat /data/kept",
                    "rm /data/changed",
                    "cat /data/changed",
                    "write /new",
                    "rm /bin/probe",
                    "write /etc/motd",
                    "cwd",
                    "write here",
                    "mkdir /data/folder",
                    "rmdir /data/folder",
                    "mkdir /data/gone",
                    "cat /usr/bin/env",
                    "listen 80",
                    "write /dev/stdout",
                ],
            ),
        )
        .await;
        let expected = [
            "new",
            "No such file or directory",
            "kept",
            "mine",
            "mine",
            "ok",
            "written",
            "ok",
            "No such file or directory",
            "ok",
            "ok",
            "ok",
            "/made/on/the/way",
            "ok",
            "ok",
            "ok",
            "ok",
            "No such file or directory",
            "ok",
            "writtenok",
        ];
        assert_eq!(found, expected);
        // Nothing of it is left for the next.
        let again = answers(&host, probe(&root, &["cat /data/kept", "cat /data/changed", "cat /new"])).await;
        assert_eq!(again, ["kept", "new", "No such file or directory"]);
    });
}

#[test]
fn what_is_ours_in_an_image_stays_ours_whatever_its_links_are() {
    let Some(host) = Host::new("what_is_ours_in_an_image_stays_ours_whatever_its_links_are") else { return };
    let Some(root) = image(&host) else { return };
    fs::create_dir(host.code().join("mounted")).unwrap();
    fs::write(host.code().join("mounted/file"), "the spec's").unwrap();
    let mount = Mount { source: host.code().join("mounted"), target: "/var/task".into() };
    as_the_node(|| async {
        let mut spec = Spec {
            mounts: vec![mount],
            hosts: vec![("127.0.0.7".parse().unwrap(), "db.internal".into())],
            ..probe(
                &root,
                &["cat /etc/hosts", "cat /var/task/file", "cat /var/task/own", "write /var/task/file"],
            )
        };
        spec.argv.extend(
            ["cat /proc/self/comm", "write /proc/self/oom_score_adj", "write /tmp/x", "cat /etc/passwd"]
                .map(String::from),
        );
        let found = answers(&host, spec).await.join("\n");
        assert!(
            found.starts_with("127.0.0.1 localhost\n") && found.contains("127.0.0.7 db.internal\n"),
            "{found}"
        );
        assert!(!found.contains("evil"), "{found}");
        assert!(
            found.contains("the spec's\nNo such file or directory\nRead-only file system\nprobe\n"),
            "{found}"
        );
        assert!(
            found.contains("Read-only file system\n\nok\n") || found.contains("Read-only file system\nok\n"),
            "{found}"
        );
        assert!(found.contains("root:x:0:0::/root:/bin/sh\nsandbox:x:"), "{found}");
    });
}

#[test]
fn what_the_code_writes_has_one_limit_for_all_of_it() {
    let Some(host) = Host::new("what_the_code_writes_has_one_limit_for_all_of_it") else { return };
    let Some(root) = image(&host) else { return };
    as_the_node(|| async {
        let found = answers(&host, probe(&root, &["fill /big", "fill /tmp/big", "fill /data/big"])).await;
        assert_eq!(found, ["No space left on device"; 3]);
    });
}

#[test]
fn a_program_that_is_not_there_and_layers_from_elsewhere_are_refused() {
    let Some(host) = Host::new("a_program_that_is_not_there_and_layers_from_elsewhere_are_refused") else {
        return;
    };
    let Some(root) = image(&host) else { return };
    as_the_node(|| async {
        let mut absent = probe(&root, &[]);
        absent.argv = vec!["no-such-program".into()];
        let error = host.driver().start(absent).await.expect_err("refused");
        assert!(error.to_string().contains("no-such-program"), "{error}");
        for layers in [vec![], vec![PathBuf::from("/usr")], vec![host.code().join("lower/../../..")]] {
            let error = host.driver().start(probe(&Root::Layers(layers), &[])).await.expect_err("refused");
            assert!(matches!(error, Error::Spec(_)), "{error}");
        }
    });
}
