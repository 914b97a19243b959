//! What must not go live: each is refused with an error that names it and the next step, and hurts nothing.

use std::io::{Cursor, Write};

use rouse_e2e::{App, Cli, Platform, need};
use zip::{ZipWriter, write::SimpleFileOptions};

async fn refused(platform: &Platform, app: &App) -> Cli {
    let cli = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
    assert!(!cli.ok, "it went live: {cli:?}");
    assert!(!cli.err.contains("panicked"), "{cli:?}");
    // The platform is as well as before.
    assert_eq!(platform.get("never-deployed").await.code(), "function-not-found");
    cli
}

fn says(cli: &Cli, words: &[&str]) {
    for word in words {
        assert!(cli.err.contains(word), "the error does not say '{word}':\n{}", cli.err);
    }
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).expect("begin a file");
        zip.write_all(content).expect("write a file");
    }
    zip.finish().expect("finish the archive").into_inner()
}

fn python_zip(bytes: &[u8]) -> App {
    let runtime = rouse_e2e::python().expect("a Python, as the test has made sure");
    let lines = format!("source = \"code.zip\"\nruntime = \"{runtime}\"\nhandler = \"app.handler\"");
    App::new("zipped").file("code.zip", bytes).function("zipped", &lines)
}

fn component(bytes: &[u8]) -> App {
    App::new("component")
        .file("c.wasm", bytes)
        .function("component", "source = \"c.wasm\"\nruntime = \"component\"")
}

#[tokio::test]
async fn a_broken_component_is_refused() {
    let platform = Platform::shared();
    for bytes in [
        &b""[..],
        b"MZ not wasm at all",
        b"\0asm\x01\0\0\0",
        b"\0asm\x0d\0\x01\0",
        b"\0asm\x0d\0\x01\0\xff\xff",
    ] {
        says(&refused(&platform, &component(bytes)).await, &["component"]);
    }
}

#[tokio::test]
async fn an_archive_that_would_write_outside_of_its_folder_is_refused() {
    let platform = Platform::shared();
    need!(platform, "an_archive_that_would_write_outside_of_its_folder_is_refused", "python");
    for name in ["../escape.py", "/etc/escape.py", "a/../../escape.py"] {
        says(&refused(&platform, &python_zip(&zip(&[(name, b"x")]))).await, &["escape.py"]);
    }
}

#[tokio::test]
async fn a_link_out_of_an_archive_is_refused() {
    let platform = Platform::shared();
    need!(platform, "a_link_out_of_an_archive_is_refused", "python");
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("app.py", SimpleFileOptions::default()).expect("begin a file");
    zip.add_symlink("secret", "/etc/shadow", SimpleFileOptions::default()).expect("add a link");
    let bytes = zip.finish().expect("finish the archive").into_inner();
    says(&refused(&platform, &python_zip(&bytes)).await, &["secret"]);
}

#[tokio::test]
async fn a_zip_bomb_is_refused() {
    let platform = Platform::shared();
    need!(platform, "a_zip_bomb_is_refused", "python");
    // 600 MiB of nothing, in less than one.
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("app.py", SimpleFileOptions::default().large_file(true)).expect("begin a file");
    for _ in 0..600 {
        zip.write_all(&[0; 1 << 20]).expect("write a file");
    }
    let bytes = zip.finish().expect("finish the archive").into_inner();
    assert!(bytes.len() < 1 << 20);
    says(&refused(&platform, &python_zip(&bytes)).await, &["code-too-large", "app.py"]);
}

#[tokio::test]
async fn a_file_that_is_no_archive_is_refused() {
    let platform = Platform::shared();
    need!(platform, "a_file_that_is_no_archive_is_refused", "python");
    let whole = zip(&[("app.py", b"def handler(event, context): pass")]);
    for bytes in [&b"not a zip"[..], &whole[..whole.len() / 2]] {
        refused(&platform, &python_zip(bytes)).await;
    }
}

#[tokio::test]
async fn a_manifest_with_errors_shows_each_with_its_place() {
    let platform = Platform::shared();
    let app = App::new("wrong").function("f", "source = \".\"\nruntme = \"component\"\nmemory = \"lots\"");
    let cli = refused(&platform, &app).await;
    says(&cli, &["rouse.toml", "runtme", "runtime", "memory"]);
    assert!(cli.err.contains("rouse.toml:7"), "the place, by line: {}", cli.err);
}

#[tokio::test]
async fn an_app_without_a_manifest_says_how_to_begin() {
    let platform = Platform::shared();
    let folder = tempfile::tempdir().expect("a folder");
    let cli = platform.rouse(&["deploy", &folder.path().display().to_string()]).await;
    assert!(!cli.ok);
    says(&cli, &["rouse.toml", "rouse init"]);
}

#[tokio::test]
async fn a_runtime_that_the_host_lacks_is_refused_with_what_to_do() {
    let platform = Platform::shared();
    let app = App::new("ancient")
        .file("app.py", "")
        .function("ancient", "source = \"app.py\"\nruntime = \"python3.2\"\nhandler = \"app.handler\"");
    says(&refused(&platform, &app).await, &["python3.2"]);
}

#[tokio::test]
async fn a_deploy_without_the_token_is_refused() {
    let platform = Platform::shared();
    need!(platform, "a_deploy_without_the_token_is_refused", "python");
    let app = App::new("stranger").python("stranger", "return 1", "");
    let cli = platform.rouse(&["deploy", &app.path().display().to_string(), "--token", "wrong"]).await;
    assert!(!cli.ok);
    says(&cli, &["token"]);
    assert_eq!(platform.get("stranger").await.status, 404);
}
