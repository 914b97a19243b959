//! Frameworks that people write Lambda functions with, and tools that they deploy them with, against the whole platform.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use rouse_clients::{environment, run, script, tool};
use rouse_e2e::{Platform, need, skipped};

/// What `cargo xtask setup` installed, or nothing and a word about it.
fn installed(test: &str, variable: &str) -> Option<PathBuf> {
    let found = tool(variable);
    if found.is_none() {
        skipped(test, &format!("{variable} is not there: run `cargo xtask setup`"));
    }
    found
}

/// Runs one test of the script, with the packages that a variable names.
macro_rules! inside {
    ($($name:ident: $packages:literal $below:literal)*) => {$(
        #[tokio::test]
        async fn $name() {
            let test = stringify!($name);
            let platform = Platform::shared();
            need!(platform, test, "python");
            need!(platform, test, "node");
            let Some(python) = installed(test, "ROUSE_AWS_CLIENTS_PYTHON") else { return };
            let Some(packages) = installed(test, $packages) else { return };
            let mut command = Command::new(python.join("bin/python"));
            command.arg(script("frameworks.py")).arg(test).env("PACKAGES", packages.join($below));
            run(command, environment(&platform).await).await;
        }
    )*};
}

inside! {
    an_asgi_app_answers_behind_a_function_url_by_mangum: "ROUSE_LAMBDA_PYTHON" ""
    powertools_log_count_and_route_inside_a_function: "ROUSE_LAMBDA_PYTHON" ""
    powertools_tell_which_messages_of_a_batch_failed: "ROUSE_LAMBDA_PYTHON" ""
    an_express_app_answers_behind_a_function_url_by_serverless_http: "ROUSE_LAMBDA_NODE" "node_modules"
}

/// A copy of a file as a function's program.
fn program(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("a copy");
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755)).expect("permissions");
}

#[tokio::test]
async fn cargo_lambda_deploys_updates_and_invokes_a_rust_function() {
    let test = "cargo_lambda_deploys_updates_and_invokes_a_rust_function";
    let platform = Platform::shared();
    need!(platform, "cargo_lambda_deploys_updates_and_invokes_a_rust_function", "python");
    let Some(tool) = installed(test, "ROUSE_CARGO_LAMBDA") else { return };
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/lambda-rust/target/debug/events");
    if !built.is_file() {
        return skipped(test, "tests/guests/lambda-rust is not built: run `cargo xtask setup`");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bootstrap = folder.path().join("bootstrap");
    program(&built, &bootstrap);
    // It asks cargo what the project is called.
    std::fs::create_dir(folder.path().join("src")).expect("a folder");
    std::fs::write(folder.path().join("src/main.rs"), "fn main() {}\n").expect("a file");
    let manifest = "[package]\nname = \"from-cargo\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    std::fs::write(folder.path().join("Cargo.toml"), manifest).expect("a file");
    let environment = environment(&platform).await;
    let lambda = |args: &[&str]| {
        let mut command = Command::new(tool.join("bin/cargo-lambda"));
        command
            .env("CARGO", env!("CARGO"))
            .arg("lambda")
            .args(args)
            .args(["--endpoint-url", &platform.aws()])
            .current_dir(folder.path());
        run(command, environment.clone())
    };
    let path = bootstrap.display().to_string();
    let role = "arn:aws:iam::000000000000:role/any";
    let deploy = ["deploy", "from-cargo", "--binary-path", &path, "--role", role, "--output-format", "json"];
    let out = lambda(&deploy).await;
    assert!(out.contains(":function:from-cargo\"") && out.contains(r#""version": "1""#), "{out}");
    let out = lambda(&["invoke", "--remote", "from-cargo", "--data-ascii", r#"{"n": 1}"#]).await;
    assert!(out.contains("\"n\":1") || out.contains("\"n\": 1"), "{out}");
    // Once more: the function is there, and changes.
    let more = ["--memory", "256", "--enable-function-url", "--env-var", "GREETING=hi"];
    let out = lambda(&[&deploy[..], &more[..]].concat()).await;
    assert!(out.contains("/_url/") && out.contains(":function:from-cargo:2"), "{out}");
}

#[tokio::test]
async fn chalice_deploys_and_deletes_an_app() {
    let test = "chalice_deploys_and_deletes_an_app";
    let platform = Platform::shared();
    need!(platform, "chalice_deploys_and_deletes_an_app", "python");
    let Some(tool) = installed(test, "ROUSE_CHALICE") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join(".chalice")).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write(
        "app.py",
        "from chalice import Chalice\n\napp = Chalice(app_name='from-chalice')\n\n\n@app.lambda_function()\n\
         def greet(event, context):\n    return {'hello': event['name']}\n",
    );
    write("requirements.txt", "");
    write(".chalice/config.json", r#"{"version": "2.0", "app_name": "from-chalice", "stages": {"dev": {}}}"#);
    let environment = environment(&platform).await;
    let chalice = |args: &[&str]| {
        // Not bin/chalice: its first line names the folder that it was made in, and the folder was moved.
        let mut command = Command::new(tool.join("bin/python"));
        let begin = "import sys; from chalice.cli import main; sys.argv[0] = 'chalice'; sys.exit(main())";
        command.args(["-c", begin]).args(args).current_dir(folder.path());
        run(command, environment.clone())
    };
    let out = chalice(&["deploy"]).await;
    assert!(out.contains("from-chalice-dev-greet"), "{out}");
    write("payload.json", r#"{"name": "you"}"#);
    let mut command = Command::new("sh");
    command.args(["-c", r#""$1/bin/python" -c "$2" invoke --name greet < payload.json"#, "sh"]);
    command
        .arg(&tool)
        .arg("import sys; from chalice.cli import main; sys.exit(main())")
        .current_dir(folder.path());
    let out = run(command, environment.clone()).await;
    assert!(out.contains(r#""hello": "you""#) || out.contains(r#""hello":"you""#), "{out}");
    chalice(&["delete"]).await;
}
