//! The bytes of objects in a bucket of another S3: here one of another platform's, which is any S3 to the first.

use std::{fs, time::Duration};

use rouse_e2e::{App, Platform, Seen, credentials_file, need, state_folder, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const TRIGGER: &str =
    "[[functions.photo.triggers]]\nobject = { bucket = \"photos\", events = [\"created\"] }";

#[tokio::test]
async fn objects_whose_bytes_lie_in_another_s3_are_put_told_of_and_got_also_after_a_kill() {
    let there = Platform::start();
    let test = "objects_whose_bytes_lie_in_another_s3_are_put_told_of_and_got_also_after_a_kill";
    wait_for("its objects are there", LIMIT, async || there.rouse(&["bucket", "create", "bytes"]).await.ok)
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    credentials_file(&there, &folder.path().join("credentials")).await;
    let args = ["--objects", "s3://bytes/here", "--objects-endpoint", &there.aws()].map(str::to_owned);
    let args = [&args[..], &["--objects-credentials".to_owned(), path("credentials")]].concat();
    let state = state_folder();
    let here = Platform::start_with(state.path(), &args);
    need!(here, test, "python");

    let seen = Seen::listen().await;
    let lines = format!("{}{TRIGGER}", tell::lines(seen.port()));
    here.deploy(App::new("photo").python("photo", tell::PYTHON, &lines).path()).await;
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[(n % 4) as usize]).collect();
    fs::write(path("in.jpg"), &bytes).expect("a file");
    assert!(here.rouse(&["object", "put", "photos", "in.jpg", &path("in.jpg")]).await.ok);
    wait_for("the upload is handled", LIMIT, async || seen.count() == 1).await;
    assert_eq!(seen.lines()[0]["event"]["Records"][0]["s3"]["object"]["size"], bytes.len());

    // There they are, below their prefix, and nowhere here.
    let listed = there.json(&["object", "ls", "bytes", "here/"]).await;
    let sizes: Vec<_> = listed.as_array().expect("a list").iter().map(|object| &object["size"]).collect();
    assert!(sizes.contains(&&bytes.len().into()), "{listed}");
    let kept = fs::read_dir(state.path().join("objects/data")).into_iter().flatten().count();
    assert_eq!(kept, 0, "no bytes below the state folder");

    here.kill("objects");
    wait_for("the object is got again", LIMIT, async || {
        here.rouse(&["object", "get", "photos", "in.jpg", &path("out.jpg")]).await.ok
    })
    .await;
    assert_eq!(fs::read(path("out.jpg")).expect("the file"), bytes);

    // While the other is away, nothing is pretended.
    drop(there);
    for words in [["get", "photos", "in.jpg"], ["put", "photos", "new.jpg"]] {
        let file = if words[0] == "put" { path("in.jpg") } else { path("none") };
        let cli = here.rouse(&[&["object"][..], &words, &[&file]].concat()).await;
        assert!(!cli.ok && !cli.err.is_empty(), "{words:?}: {cli:?}");
    }
    assert!(!folder.path().join("none").exists(), "no half of a file is left");
    let listed = here.json(&["object", "ls", "photos"]).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "what was not taken is not there: {listed}");
    assert_eq!(seen.count(), 1, "and nobody was told of it");
}
