//! Deployments of images, without a registry: what is uploaded, written down, told, and forgotten with its layers.

mod support;

use std::time::Duration;

use bytes::Bytes;
use rouse_api::{DeployEvent, DeployFunction, DeployImage};
use rouse_image::{layers, manifest::architecture, tar::Writer};
use rouse_types::{Code, Contract, Digest, Runtime};
use support::{Platform, eventually, tenant, wanted};

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, bytes) in files {
        writer.file(name, 0o755, bytes).expect("written");
    }
    writer.finish().expect("ended")
}

/// What `docker save` would write of an image with these layers.
fn saved(run: &str, layers: &[&str]) -> Bytes {
    let layers: Vec<Vec<u8>> = layers.iter().map(|text| tar(&[("app/server", text.as_bytes())])).collect();
    let diffs: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{run},"rootfs":{{"diff_ids":[{}]}}}}"#,
        architecture(),
        diffs.join(",")
    );
    let manifest = format!(r#"[{{"Config":"c.json","Layers":{names:?}}}]"#);
    let mut files: Vec<(&str, &[u8])> =
        vec![("manifest.json", manifest.as_bytes()), ("c.json", config.as_bytes())];
    files.extend(names.iter().map(String::as_str).zip(layers.iter().map(Vec::as_slice)));
    tar(&files).into()
}

fn image(name: &str, code: Digest) -> DeployFunction {
    DeployFunction { handler: None, ..wanted(name, code, Runtime::Image) }
}

const RUN: &str = r#"{"Cmd":["/app/server"]}"#;

#[tokio::test]
async fn an_uploaded_image_is_unpacked_written_down_and_told() {
    let platform = Platform::start().await;
    let digest = platform.upload(saved(RUN, &["base", "own"])).await;
    let events = platform.events("shop", vec![image("api", digest)]).await;
    assert!(matches!(&events[0], DeployEvent::Unpacking { .. }), "{events:?}");
    assert!(matches!(events.last(), Some(DeployEvent::Live { .. })), "{events:?}");
    let image = layers::read(&platform.path("code").join(digest.hex())).expect("written down");
    assert_eq!(image.argv(&[]), ["/app/server"]);
    let own = platform.path("layers").join(image.layers[1].hex()).join("app/server");
    assert_eq!(std::fs::read_to_string(own).expect("a file"), "own");
    let version = &platform.snapshot("shop").expect("a snapshot").functions[0].versions[&1];
    assert_eq!((&version.runtime, version.contract, version.code), (&Runtime::Image, Contract::Http, digest));
    platform.stop().await;
}

#[tokio::test]
async fn layers_go_when_no_kept_version_names_them_and_shared_ones_stay() {
    let platform = Platform::start().await;
    for number in 0..12 {
        let digest = platform.upload(saved(RUN, &["base", &format!("own {number}")])).await;
        platform.try_deploy("shop", vec![image("api", digest)]).await.expect("live");
    }
    let layers = || std::fs::read_dir(platform.path("layers")).expect("a folder").count();
    assert_eq!(layers(), 13, "one base, twelve of their own");
    let state = platform.kill().await;
    // The collector runs at the start; ten deployments are kept.
    let platform = Platform::start_in(state, Duration::ZERO).await;
    let layers = || std::fs::read_dir(platform.path("layers")).expect("a folder").count();
    eventually("two layers are deleted", || layers() == 11).await;
    assert_eq!(std::fs::read_dir(platform.path("code")).expect("a folder").count(), 10);
    platform.client.versions(&tenant(), &"api".parse().expect("a name")).await.expect("versions");
    platform.stop().await;
}

#[tokio::test]
async fn what_is_no_image_that_can_run_is_refused_and_leaves_nothing() {
    let platform = Platform::start().await;
    let upload = async |bytes: Bytes| platform.upload(bytes).await;
    let nothing = image("api", upload(saved("{}", &["a"])).await);
    let commanded = DeployFunction {
        http: rouse_types::HttpSettings { command: vec!["/app/server".into()], ..Default::default() },
        contract: Some(Contract::Lambda),
        ..nothing.clone()
    };
    let other = image("api", upload(Bytes::from_static(b"not an archive")).await);
    let closed = DeployFunction {
        code: None,
        image: Some(DeployImage { reference: "http://x".into(), login: None, secret: None }),
        ..nothing.clone()
    };
    for (function, code, told) in [
        (nothing, Code::ImageInvalid, "names no program"),
        (other, Code::ImageInvalid, "archive"),
        (closed.clone(), Code::ImageInvalid, "is no name of an image"),
        (
            DeployFunction { code: None, ..commanded.clone() },
            Code::ManifestInvalid,
            "code and an image, or neither",
        ),
        (
            DeployFunction { runtime: Runtime::Provided, ..closed.clone() },
            Code::ManifestInvalid,
            "runtime provided",
        ),
    ] {
        let refusal = platform.try_deploy("shop", vec![function]).await.expect_err(told);
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.message.contains(told) && refusal.message.contains("api"), "{refusal}");
    }
    assert!(platform.snapshot("shop").is_none());
    platform.try_deploy("shop", vec![commanded]).await.expect("a command takes the place of a program");
    platform.stop().await;
}
