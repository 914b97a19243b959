//! Functions that are images: from a registry, a layout and what `docker save` writes, as servers and as Lambda
//! functions; and what is said of those that cannot be run.

use std::{fs, path::Path, process::Command};

use rouse_e2e::{App, Boto3, Platform, fixture, need, skipped};

#[path = "../../../crates/image/tests/support/mod.rs"]
mod support;
use support::{Made, Registry, files, layout};

const CONFIG: &str = r#"{"Entrypoint":["server"],"Cmd":["hello"],"Env":["PATH=/app","GREETING=a greeting"],"WorkingDir":"/srv"}"#;

/// The program, or nothing and a word about it.
fn server(test: &str) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("server");
    let source = fixture("image").join("server.c");
    let mut cc = Command::new("cc");
    match cc.args(["-static", "-O1", "-D_GNU_SOURCE", "-o"]).arg(&program).arg(source).output() {
        Ok(built) if built.status.success() => Some(fs::read(program).expect("the program")),
        other => {
            skipped(test, &format!("cc -static does not work: {other:?}"));
            None
        }
    }
}

/// An image of two layers with the server, as a layout in a folder.
fn image(folder: &Path, server: &[u8], config: &str) {
    let layers = vec![
        files(&[("app/server", server), ("srv/data/own", b"old"), ("var/cache/x", b"")]),
        files(&[("srv/data/own", b"of the upper layer")]),
    ];
    layout(folder, &Made { architecture: ARCHITECTURE, config, layers });
}

const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

#[tokio::test]
async fn a_server_in_c_answers_from_an_image_of_a_registry() {
    let test = "a_server_in_c_answers_from_an_image_of_a_registry";
    let platform = Platform::shared();
    need!(platform, "a_server_in_c_answers_from_an_image_of_a_registry", "image");
    let (Some(registry), Some(server)) = (Registry::new(test, false), server(test)) else { return };
    let source = tempfile::tempdir().expect("a folder");
    image(source.path(), &server, CONFIG);
    let name = registry.push(source.path(), "shop/api:1");
    let app = App::new("registry").function("from-registry", &format!("image = \"{name}\""));
    let deployed = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
    assert!(deployed.ok, "{deployed:?}");
    for _ in 0..2 {
        let answer = platform.get("from-registry/").await;
        let expected = "hello in /srv with a greeting, of the upper layer; it can write";
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, expected));
    }
    let logs = platform.rouse(&["logs", "from-registry"]).await;
    assert!(logs.out.contains("the server listens"), "{logs:?}");
    // The same again is the same version; the registry is not needed any more for it to run.
    platform.deploy(app.path()).await;
    let versions = platform.json(&["versions", "from-registry"]).await;
    assert_eq!(versions.as_array().expect("a list").len(), 1, "{versions}");
    let image = versions[0]["version"]["image"].as_str().expect("an image");
    assert!(image.starts_with(&format!("{name}@sha256:")), "{image}");
    // Another program, and another environment, of the same layers.
    let lines = format!(
        "image = \"{name}\"\ncommand = [\"/app/server\", \"hi\"]\n[functions.from-registry.env]\nGREETING = \"mine\""
    );
    let app = App::new("registry").function("from-registry", &lines);
    platform.deploy(app.path()).await;
    assert!(platform.get("from-registry/").await.text().starts_with("hi in /srv with mine"));
    assert_eq!(fs::read_dir(platform.state().join("layers")).expect("layers").count(), 2);
}

#[tokio::test]
async fn layouts_and_docker_archives_are_deployed_from_the_apps_folder() {
    let test = "layouts_and_docker_archives_are_deployed_from_the_apps_folder";
    let platform = Platform::shared();
    need!(platform, "layouts_and_docker_archives_are_deployed_from_the_apps_folder", "image");
    let Some(server) = server(test) else { return };
    let app = App::new("archives")
        .function("from-layout", "image = \"oci:./layout\"")
        .function("lambda-image", "image = \"oci:./layout\"\ncontract = \"lambda\"");
    image(&app.path().join("layout"), &server, CONFIG);
    platform.deploy(app.path()).await;
    assert!(platform.get("from-layout/").await.text().starts_with("hello in /srv"));
    let answer = platform.post("lambda-image/", "{}").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().starts_with("event of "), "{}", answer.text());
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}", app.path().join("layout").display()));
    let saved = skopeo.arg(format!("docker-archive:{}:a:1", app.path().join("saved.tar").display())).output();
    if !saved.as_ref().is_ok_and(|saved| saved.status.success()) {
        return skipped(test, &format!("skopeo does not work: {saved:?}"));
    }
    let app = app.function("from-archive", "image = \"docker-archive:./saved.tar\"");
    platform.deploy(app.path()).await;
    assert!(platform.get("from-archive/").await.text().starts_with("hello in /srv"));
}

#[tokio::test]
async fn the_login_to_a_registry_is_a_secret_of_the_tenants() {
    let test = "the_login_to_a_registry_is_a_secret_of_the_tenants";
    let platform = Platform::shared();
    need!(platform, "the_login_to_a_registry_is_a_secret_of_the_tenants", "image");
    let (Some(registry), Some(server)) = (Registry::new(test, true), server(test)) else { return };
    let source = tempfile::tempdir().expect("a folder");
    image(source.path(), &server, CONFIG);
    let name = registry.push(source.path(), "shop/closed:1");
    let lines = format!("image = \"{name}\"\nimage_secret = \"closed-registry\"");
    let app = App::new("closed").function("closed", &lines);
    let folder = app.path().display().to_string();
    let file = tempfile::NamedTempFile::new().expect("a file");
    for (login, told) in [
        (None, "rouse secret set closed-registry"),
        (Some("no login"), "user:password"),
        (Some("ann:wrong"), "registry"),
        (Some("ann:secret"), ""),
    ] {
        if let Some(login) = login {
            fs::write(file.path(), login).expect("written");
            let path = file.path().display().to_string();
            assert!(platform.rouse(&["secret", "set", "closed-registry", "--file", &path]).await.ok);
        }
        let cli = platform.rouse(&["deploy", &folder]).await;
        assert!(cli.ok == told.is_empty() && cli.err.contains(told), "{login:?}: {cli:?}");
        assert!(!format!("{cli:?}").contains("ann:"), "the secret is not told: {cli:?}");
    }
    assert!(platform.get("closed/").await.text().starts_with("hello in /srv"));
    assert!(!platform.log().contains("ann:"), "nor is it in the log");
}

#[tokio::test]
async fn boto3_creates_calls_and_updates_a_function_by_image_uri() {
    let test = "boto3_creates_calls_and_updates_a_function_by_image_uri";
    let platform = Platform::shared();
    need!(platform, "boto3_creates_calls_and_updates_a_function_by_image_uri", "image");
    let (Some(registry), Some(server)) = (Registry::new(test, false), server(test)) else { return };
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let source = tempfile::tempdir().expect("a folder");
    image(source.path(), &server, CONFIG);
    let (one, two) =
        (registry.push(source.path(), "shop/api:1"), registry.push(source.path(), "shop/other:2"));
    boto3
        .run(
            r#"
one, two = sys.argv[1:]
client = boto3.client("lambda")
made = client.create_function(FunctionName="ImageUri", PackageType="Image", Code={"ImageUri": one},
                              Role="arn:aws:iam::000000000000:role/r")
assert made["PackageType"] == "Image" and "Runtime" not in made and "Handler" not in made, made
client.get_waiter("function_active_v2").wait(FunctionName="ImageUri")
code = client.get_function(FunctionName="ImageUri")["Code"]
assert code["ImageUri"] == one and code["RepositoryType"] == "ECR", code
answer = client.invoke(FunctionName="ImageUri", Payload=b"{}")
said = answer["Payload"].read()
assert "FunctionError" not in answer and b"event of " in said, said
client.update_function_code(FunctionName="ImageUri", ImageUri=two)
client.get_waiter("function_updated_v2").wait(FunctionName="ImageUri")
assert client.get_function(FunctionName="ImageUri")["Code"]["ImageUri"] == two
assert b"event of " in client.invoke(FunctionName="ImageUri", Payload=b"{}")["Payload"].read()
client.delete_function(FunctionName="ImageUri")
"#,
            &[&one, &two],
        )
        .await;
}

#[tokio::test]
async fn an_image_that_cannot_be_run_is_refused_with_the_reason() {
    let test = "an_image_that_cannot_be_run_is_refused_with_the_reason";
    let platform = Platform::shared();
    need!(platform, "an_image_that_cannot_be_run_is_refused_with_the_reason", "image");
    let Some(registry) = Registry::new(test, true) else { return };
    let source = tempfile::tempdir().expect("a folder");
    image(source.path(), b"no program", CONFIG);
    let closed = registry.push(source.path(), "closed:1");
    let other = tempfile::tempdir().expect("a folder");
    layout(other.path(), &Made { architecture: "s390x", config: CONFIG, layers: vec![files(&[("a", b"")])] });
    let missing = format!("{}/no/such:1", support::free_port());
    for (lines, layout, told) in [
        (format!("image = \"{closed}\""), None, "docker login"),
        (format!("image = \"{missing}\""), None, "cannot connect"),
        ("image = \"oci:./layout\"".to_owned(), Some(("{}", source.path())), "ENTRYPOINT"),
        ("image = \"oci:./layout\"".to_owned(), Some((CONFIG, other.path())), "is made for linux/s390x"),
    ] {
        let app = App::new("refused").function("refused", &lines);
        match layout {
            Some(("{}", _)) => image(&app.path().join("layout"), b"no program", "{}"),
            Some((_, from)) => {
                let mut copy = Command::new("cp");
                assert!(
                    copy.arg("-r").arg(from).arg(app.path().join("layout")).status().expect("cp").success()
                );
            }
            None => {}
        }
        let cli = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
        assert!(!cli.ok && cli.err.contains(told), "{lines}: {cli:?}");
    }
    // One whose program is none is found out when it starts, and its caller hears of it.
    let app = App::new("broken").function("broken", "image = \"oci:./layout\"");
    image(&app.path().join("layout"), b"no program", CONFIG);
    platform.deploy(app.path()).await;
    let answer = platform.get("broken/").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "start-failed"), "{}", answer.text());
}
