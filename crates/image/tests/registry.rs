//! Pulls from a real registry, Debian's `docker-registry`, of images that a real client pushed.

mod support;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, atomic::Ordering},
};

use rouse_image::{Credentials, Reference, Store, archive, layers, manifest};
use rouse_types::{Code, Digest, Image, Refusal};
use support::{Made, Registry, files, layout, noise, proxy};

fn made(layers: Vec<Vec<u8>>) -> Made<'static> {
    let config = r#"{"Entrypoint":["/app/server"],"Cmd":["--verbose"],"Env":["A=1"],"WorkingDir":"/app"}"#;
    Made { architecture: manifest::architecture(), config, layers }
}

fn two_layers() -> Vec<Vec<u8>> {
    vec![
        files(&[("app/server", b"old"), ("app/data/a", b"a"), ("app/data/b", b"b")]),
        files(&[
            ("app/server", b"new"),
            ("app/data/.wh..wh..opq", b""),
            ("app/data/b", b"b2"),
            (".wh.gone", b""),
        ]),
    ]
}

async fn pull(name: &str, state: &Path, login: Option<Credentials>) -> Result<Image, Refusal> {
    let registry = rouse_image::Registry::new([])?;
    let reference: Reference = name.parse()?;
    let remote = registry.find(&reference, login).await?;
    let store = Store::open(state).expect("a store");
    remote.pull(&store, &|_, _| {}).await
}

fn ann(password: &str) -> Option<Credentials> {
    Some(Credentials { username: "ann".into(), password: password.into() })
}

#[tokio::test]
async fn an_image_is_pulled_once_and_its_layers_hide_what_they_should() {
    let Some(registry) = Registry::new("an_image_is_pulled_once_and_its_layers_hide_what_they_should", false)
    else {
        return;
    };
    let source = tempfile::tempdir().expect("a folder");
    layout(source.path(), &made(two_layers()));
    let name = registry.push(source.path(), "shop/api:1");
    let state = tempfile::tempdir().expect("a folder");
    let told = Mutex::new(Vec::new());
    let (client, reference): (_, Reference) =
        (rouse_image::Registry::new([]).expect("a client"), name.parse().expect("a name"));
    let remote = client.find(&reference, None).await.expect("found");
    let store = Store::open(state.path()).expect("a store");
    let image = remote
        .pull(&store, &|done, total| told.lock().expect("a lock").push((done, total)))
        .await
        .expect("pulled");
    assert_eq!(image.argv(&[]), ["/app/server", "--verbose"]);
    assert_eq!(image.reference, Some(format!("{name}@{}", remote.digest)));
    let told = told.into_inner().expect("a lock");
    assert_eq!(told.first().map(|first| first.0), Some(0));
    assert!(told.last().is_some_and(|(done, total)| done == total && *total > 0), "{told:?}");
    let [lower, upper] = [store.path(&image.layers[0]), store.path(&image.layers[1])];
    assert_eq!(fs::read(lower.join("app/server")).expect("a file"), b"old");
    assert_eq!(fs::read(upper.join("app/server")).expect("a file"), b"new");
    let whiteout = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::symlink_metadata(upper.join(name)).expect(name);
        (found.mode() & 0o170_000, found.rdev())
    };
    // The opaque folder hides by name what the lower layer has there, and shows its own.
    assert_eq!(whiteout("app/data/a"), (0o020_000, 0));
    assert_eq!(whiteout("gone"), (0o020_000, 0));
    assert_eq!(fs::read(upper.join("app/data/b")).expect("a file"), b"b2");
    // Again: everything is there, so nothing is pulled, not even when the registry has lost it.
    for digest in fs::read_dir(source.path().join("blobs/sha256")).expect("a folder").flatten() {
        let digest: Digest = format!("sha256:{}", digest.file_name().display()).parse().expect("a digest");
        let path = registry.blob(&digest);
        if path.is_file()
            && fs::metadata(&path).expect("a file").len() > 0
            && fs::read(&path).expect("a file").starts_with(&[0x1f, 0x8b])
        {
            fs::remove_file(path).expect("removed");
        }
    }
    assert_eq!(pull(&name, state.path(), None).await.expect("it is all there"), image);
    let left: Vec<_> = fs::read_dir(state.path().join("layers")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn a_registry_that_dies_in_the_middle_of_a_pull_is_asked_for_the_rest_alone() {
    let test = "a_registry_that_dies_in_the_middle_of_a_pull_is_asked_for_the_rest_alone";
    let Some(registry) = Registry::new(test, false) else { return };
    const LAYER_BYTES: usize = 24 << 20;
    let source = tempfile::tempdir().expect("a folder");
    layout(source.path(), &made(vec![files(&[("app/server", &noise(LAYER_BYTES))])]));
    registry.push(source.path(), "big:1");
    let address = registry.address;
    let registry = Arc::new(Mutex::new(registry));
    let crashed = Arc::clone(&registry);
    let (proxied, passed) = proxy(address, 8 << 20, move || crashed.lock().expect("a lock").crash());
    let state = tempfile::tempdir().expect("a folder");
    let image = pull(&format!("{proxied}/big:1"), state.path(), None).await.expect("pulled in spite of it");
    let server = Store::open(state.path()).expect("a store").path(&image.layers[0]).join("app/server");
    assert_eq!(fs::read(server).expect("a file"), noise(LAYER_BYTES));
    let passed = passed.load(Ordering::SeqCst);
    // What was under way when it broke comes twice, but not the eight MiB before.
    assert!(passed < LAYER_BYTES as u64 + (6 << 20), "{passed} bytes were pulled for {LAYER_BYTES}");
}

#[tokio::test]
async fn damaged_layers_wrong_architectures_and_missing_images_are_refused_by_name() {
    let test = "damaged_layers_wrong_architectures_and_missing_images_are_refused_by_name";
    let Some(registry) = Registry::new(test, false) else { return };
    let state = tempfile::tempdir().expect("a folder");
    let source = tempfile::tempdir().expect("a folder");
    let digests = layout(source.path(), &made(two_layers()));
    let name = registry.push(source.path(), "damaged:1");
    let mut bytes = fs::read(registry.blob(&digests[1])).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(registry.blob(&digests[1]), bytes).expect("damaged");
    let refusal = pull(&name, state.path(), None).await.expect_err("damaged");
    assert_eq!(refusal.code, Code::ImageInvalid);
    assert!(refusal.message.contains(&digests[1].to_string()), "{refusal}");

    let source = tempfile::tempdir().expect("a folder");
    layout(source.path(), &Made { architecture: "s390x", ..made(two_layers()) });
    let name = registry.push(source.path(), "other:1");
    let refusal = pull(&name, state.path(), None).await.expect_err("another architecture");
    assert!(refusal.message.contains("is made for linux/s390x; this machine is linux/"), "{refusal}");

    let missing =
        pull(&format!("{}/no/such:1", registry.address), state.path(), None).await.expect_err("missing");
    assert_eq!(missing.code, Code::ImageUnavailable);
    assert!(missing.message.contains("no/such"), "{missing}");
    assert_eq!(fs::read_dir(state.path().join("layers")).expect("a folder").count(), 0, "something is left");
}

#[tokio::test]
async fn a_registry_that_asks_for_a_login_gets_it_or_says_so() {
    let Some(registry) = Registry::new("a_registry_that_asks_for_a_login_gets_it_or_says_so", true) else {
        return;
    };
    let state = tempfile::tempdir().expect("a folder");
    let source = tempfile::tempdir().expect("a folder");
    layout(source.path(), &made(two_layers()));
    let name = registry.push(source.path(), "secret/api:1");
    let nobody = pull(&name, state.path(), None).await.expect_err("no login");
    assert_eq!(nobody.code, Code::ImageUnavailable);
    assert!(nobody.hint.expect("a hint").contains("docker login"));
    let wrong = pull(&name, state.path(), ann("guess")).await.expect_err("a wrong password");
    assert!(wrong.message.contains("'ann'"), "{wrong}");
    pull(&name, state.path(), ann("secret")).await.expect("pulled");
}

#[tokio::test]
async fn layouts_and_what_docker_saves_come_out_as_from_a_registry() {
    let test = "layouts_and_what_docker_saves_come_out_as_from_a_registry";
    let Some(registry) = Registry::new(test, false) else { return };
    let (source, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    layout(source.path(), &made(two_layers()));
    let pulled = pull(&registry.push(source.path(), "a:1"), state.path(), None).await.expect("pulled");
    let packed = state.path().join("layout.tar");
    archive::pack(source.path(), fs::File::create(&packed).expect("a file")).expect("packed");
    let saved = state.path().join("saved.tar");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet"]).arg(format!("oci:{}", source.path().display()));
    let made = skopeo.arg(format!("docker-archive:{}:a:1", saved.display())).output().expect("skopeo runs");
    assert!(made.status.success(), "skopeo: {}", String::from_utf8_lossy(&made.stderr));
    for archive in [packed, saved] {
        let state = tempfile::tempdir().expect("a folder");
        let store = Store::open(state.path()).expect("a store");
        let image = archive::install(fs::File::open(&archive).expect("a file"), &store).expect("installed");
        assert_eq!(image, Image { reference: None, ..pulled.clone() }, "{}", archive.display());
        let place = state.path().join("code");
        layers::record(&place, &image).expect("recorded");
        assert_eq!(layers::read(&place).expect("read"), image);
    }
}

#[test]
fn an_archive_without_an_image_is_refused() {
    let state = tempfile::tempdir().expect("a folder");
    let store = Store::open(state.path()).expect("a store");
    let install = |bytes: &[u8]| {
        let path = state.path().join("a.tar");
        fs::write(&path, bytes).expect("a file");
        archive::install(fs::File::open(path).expect("a file"), &store).expect_err("no image")
    };
    for bytes in [
        &b"not a tar archive at all"[..],
        &files(&[("index.json", b"{}")]),
        &files(&[("manifest.json", b"[]")]),
        &files(&[("x", b"")]),
        &files(&[("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#)]),
    ] {
        assert_eq!(install(bytes).code, Code::ImageInvalid);
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_told_after_bounded_tries() {
    let address = support::free_port();
    let state = tempfile::tempdir().expect("a folder");
    tokio::time::pause();
    let refusal = pull(&format!("{address}/a:1"), state.path(), None).await.expect_err("nobody is there");
    assert_eq!(refusal.code, Code::ImageUnavailable);
    assert!(refusal.message.contains(&address.to_string()), "{refusal}");
}
