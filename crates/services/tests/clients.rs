//! Unmodified clients against the service over HTTP: boto3, aws cli, rclone. Each test has a server of its own.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]
#![expect(clippy::print_stderr, reason = "a test says there that it was skipped, and what a client wrote")]

#[path = "support/service.rs"]
mod service;
#[path = "support/tools.rs"]
mod tools;

use std::{path::Path, process::Command};

use rouse_services::{
    objects::{EventKind, S3Http},
    server::{Listener, serve},
};
use rouse_store::access_keys::{self, Ring};
use rouse_types::AccessKey;
use service::Service;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Starts a server, runs this with its endpoint, and ends the server.
fn with_server(run: impl FnOnce(&str) + Send + 'static) -> Service {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let service = Service::live().await;
        let key = |tenant: &str| AccessKey {
            tenant: tenant.parse().unwrap(),
            secret: format!("{tenant}-secret"),
            created: Default::default(),
            role: rouse_types::Role::Deployer,
        };
        let keys = [("AKALICE".to_owned(), key("alice")), ("AKBOB".to_owned(), key("bob"))];
        access_keys::replace(service.dir(), &keys.into()).unwrap();
        let s3 = S3Http::new(service.objects.clone(), Ring::new(service.dir()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let server = serve(s3, Listener::Tcp(listener), stop.clone());
        let client = tokio::task::spawn_blocking(move || run(&endpoint));
        let ended = async {
            let result = client.await;
            stop.cancel();
            result
        };
        let ((), ran) = tokio::join!(server, ended);
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        service
    })
}

/// Runs a client to its end and gives what it wrote.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        eprintln!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
        panic!("{command:?} ended with {}", output.status);
    }
    text
}

#[test]
fn boto3_finds_what_it_needs() {
    let Some(python) = tools::python("boto3_finds_what_it_needs") else { return };
    let service = with_server(move |endpoint| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/boto3_all.py");
        let told = output(tools::alone(Command::new(python).arg("-B").arg(script).arg(endpoint)));
        assert!(told.ends_with("all hold\n"), "{told}");
    });
    assert_eq!(service.incoming(), 0, "no request left anything half-written");
}

#[test]
fn the_aws_cli_copies_synchronises_and_removes() {
    let test = "the_aws_cli_copies_synchronises_and_removes";
    let Some([python, aws]) = tools::aws(test) else { return };
    let service = with_server(move |endpoint| {
        let dir = tempfile::tempdir().unwrap();
        let run_with = |config: &Path, arguments: &[&str]| {
            let mut command = Command::new(&python);
            command.arg(&aws).args(["--endpoint-url", endpoint, "--region", "us-east-1"]).args(arguments);
            command.env("AWS_ACCESS_KEY_ID", "AKALICE").env("AWS_SECRET_ACCESS_KEY", "alice-secret");
            output(tools::alone(command.current_dir(dir.path())).env("AWS_CONFIG_FILE", config))
        };
        let run = |arguments: &[&str]| run_with(Path::new("/dev/null"), arguments);
        let folder = dir.path().join("folder/sub dir");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ä.txt"), "text").unwrap();
        std::fs::write(dir.path().join("folder/large"), vec![7; 20 << 20]).unwrap();
        run(&["s3", "mb", "s3://bucket"]);
        run(&["s3", "sync", "folder", "s3://bucket/folder", "--only-show-errors"]);
        let listed = run(&["s3", "ls", "--recursive", "s3://bucket"]);
        assert!(listed.contains("20971520 folder/large"), "{listed}");
        assert!(run(&["s3", "ls", "s3://bucket/folder/"]).contains("PRE sub dir/"));
        let again = run(&["s3", "sync", "folder", "s3://bucket/folder"]);
        assert!(!again.contains("upload"), "what is there is not uploaded again: {again}");
        run(&["s3", "cp", "s3://bucket/folder/large", "back", "--only-show-errors"]);
        assert_eq!(std::fs::read(dir.path().join("back")).unwrap(), vec![7; 20 << 20]);
        run(&["s3", "mv", "s3://bucket/folder/sub dir/ä.txt", "s3://bucket/moved", "--only-show-errors"]);
        assert_eq!(run(&["s3", "cp", "s3://bucket/moved", "-"]), "text");
        let got = run(&[
            "s3api",
            "get-object",
            "--bucket",
            "bucket",
            "--key",
            "moved",
            "--range",
            "bytes=1-2",
            "part",
        ]);
        assert!(got.contains("bytes 1-2/4"), "{got}");
        assert_eq!(std::fs::read(dir.path().join("part")).unwrap(), b"ex");
        // Unless told otherwise, it presigns with version 2.
        let v4 = dir.path().join("config");
        std::fs::write(&v4, "[default]\ns3 =\n  signature_version = s3v4\n").unwrap();
        let url = run_with(&v4, &["s3", "presign", "s3://bucket/moved"]);
        assert!(url.contains("X-Amz-Signature"), "{url}");
        run(&["s3", "rm", "--recursive", "s3://bucket", "--only-show-errors"]);
        run(&["s3", "rb", "s3://bucket"]);
    });
    assert_eq!(service.files(), 0, "removed objects leave no bytes");
}

#[test]
fn rclone_copies_checks_and_purges() {
    let Some(rclone) = tools::rclone("rclone_copies_checks_and_purges") else { return };
    let service = with_server(move |endpoint| {
        let dir = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let mut command = Command::new(&rclone);
            command.arg("--config").arg(dir.path().join("rclone.conf")).args(arguments);
            let remote = [
                ("TYPE", "s3"),
                ("PROVIDER", "Other"),
                ("ENDPOINT", endpoint),
                ("ACCESS_KEY_ID", "AKALICE"),
                ("SECRET_ACCESS_KEY", "alice-secret"),
                ("REGION", "us-east-1"),
            ];
            command.envs(remote.map(|(name, value)| (format!("RCLONE_CONFIG_R_{name}"), value.to_owned())));
            output(tools::alone(command.current_dir(dir.path())))
        };
        std::fs::write(dir.path().join("rclone.conf"), "").unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir_all(folder.join("in side")).unwrap();
        for number in 0..20 {
            std::fs::write(folder.join(format!("in side/{number} +&%.txt")), format!("{number}")).unwrap();
        }
        std::fs::write(folder.join("large"), vec![9; 20 << 20]).unwrap();
        run(&["mkdir", "r:bucket"]);
        run(&["copy", "folder", "r:bucket/x", "--s3-upload-cutoff", "5Mi", "--s3-chunk-size", "5Mi"]);
        run(&["check", "folder", "r:bucket/x", "--download"]);
        run(&["sync", "r:bucket/x", "back"]);
        assert_eq!(std::fs::read(dir.path().join("back/in side/7 +&%.txt")).unwrap(), b"7");
        assert_eq!(run(&["lsf", "r:bucket/x"]), "in side/\nlarge\n");
        run(&["copyto", "r:bucket/x/large", "r:bucket/y/copy"]);
        run(&["moveto", "r:bucket/y/copy", "r:bucket/y/moved"]);
        assert!(run(&["size", "r:bucket", "--json"]).contains("\"count\":22"));
        run(&["purge", "r:bucket"]);
        assert_eq!(run(&["lsd", "r:"]), "");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let events = runtime.block_on(service.objects.outbox().pending(0, 1_000)).unwrap();
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(count(EventKind::CompleteMultipartUpload), 1);
    assert_eq!(count(EventKind::Delete), 23);
    assert!(events.iter().all(|event| event.requester == "AKALICE" && event.tenant.as_str() == "alice"));
}
