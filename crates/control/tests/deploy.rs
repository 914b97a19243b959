//! Deployments through the API: what is live changes whole and at once, and what fails changes nothing.

mod support;

use std::{collections::BTreeSet, io::Write as _, time::Duration};

use rouse_api::DeployEvent;
use rouse_types::{Alias, AliasWeight, Code, Digest, Runtime};
use support::{Platform, app, archive, component, eventually, function, tenant, wanted};

#[tokio::test]
async fn an_app_is_live_whole_when_the_gateway_is_told() {
    let platform = Platform::start().await;
    let zip = platform.upload(archive(&[("app.py", "def handler(e, c): pass\n"), ("lib/x.py", "")])).await;
    let wasm = platform.upload(component("hello")).await;
    let functions =
        vec![wanted("hello", wasm, Runtime::Component), wanted("py", zip, Runtime::Python { minor: 11 })];
    let events = platform.events("shop", functions).await;
    let Some(DeployEvent::Live { deployment }) = events.last() else { panic!("{events:?}") };
    assert_eq!(deployment.number, 1);
    assert_eq!(deployment.functions[0].url, "http://functions.test/fn/default/hello/");
    assert!(events.iter().any(|event| matches!(event, DeployEvent::Compiled { cached: false, .. })));
    assert!(events.iter().any(|event| matches!(event, DeployEvent::Unpacked { cached: false, .. })));
    // The gateway found both functions when it was told.
    let told = platform.gateway.told.lock().expect("no panic").clone();
    let (name, live) = told.last().expect("it was told");
    assert_eq!((name.as_str(), live.as_ref().expect("a snapshot").functions.len()), ("shop", 2));
    let slots: BTreeSet<u32> =
        live.as_ref().expect("a snapshot").functions.iter().map(|route| route.slot).collect();
    assert_eq!(slots.len(), 2, "each function has a slot of its own");
    // The code lies where processes look for it.
    assert!(platform.path("code").join(zip.hex()).join("lib/x.py").is_file());
    assert_eq!(std::fs::read(platform.path("code").join(wasm.hex())).expect("wasm"), component("hello"));
    assert!(platform.path("compiled").join(format!("{}-test-1.cwasm", wasm.hex())).is_file());
    platform.stop().await;
}

#[tokio::test]
async fn unchanged_functions_keep_their_version_and_are_not_compiled_again() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("a", "1"), ("b", "1")]).await;
    let compiles = platform.compiles();
    let second = platform.deploy("shop", &[("a", "1"), ("b", "2")]).await;
    let versions: Vec<_> = second.functions.iter().map(|each| (each.version, each.changed)).collect();
    assert_eq!(versions, [(1, false), (2, true)]);
    assert_eq!(platform.compiles(), compiles + 1);
    // Configuration is part of a version.
    let mut changed = wanted("a", Digest::of(&component("1")), Runtime::Component);
    changed.limits.memory_mib = 256;
    let third = platform.try_deploy("shop", vec![changed]).await.expect("it is live");
    assert_eq!(third.functions[0].version, 2);
    // What is no longer named no longer answers.
    let snapshot = platform.snapshot("shop").expect("a snapshot");
    assert_eq!(snapshot.functions.len(), 1);
    platform.stop().await;
}

#[tokio::test]
async fn a_deployment_that_fails_changes_nothing() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("a", "1"), ("b", "1")]).await;
    let before = platform.snapshot("shop");
    let good = platform.upload(component("2")).await;
    let broken = platform.upload(component("broken")).await;
    let crash = platform.upload(component("crash")).await;
    let core = platform.upload(bytes::Bytes::from_static(b"\0asm\x01\0\0\0")).await;
    let python = Runtime::Python { minor: 11 };
    let cases = [
        (wanted("b", broken, Runtime::Component), Code::CodeInvalid, "not valid"),
        (wanted("b", crash, Runtime::Component), Code::CodeInvalid, "'b'"),
        (wanted("b", core, Runtime::Component), Code::CodeInvalid, "core"),
        (wanted("b", Digest::of(b"never uploaded"), Runtime::Component), Code::CodeMissing, "sha256:"),
        (wanted("b", good, python), Code::CodeInvalid, "WebAssembly"),
        (wanted("b", good, Runtime::Python { minor: 99 }), Code::RuntimeMissing, "python3.99"),
        (wanted("a", good, Runtime::Component), Code::ManifestInvalid, "twice"),
    ];
    for (bad, code, told) in cases {
        let functions = vec![wanted("a", good, Runtime::Component), bad];
        let refusal = platform.try_deploy("shop", functions).await.expect_err(told);
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.message.contains(told), "{refusal}");
    }
    assert_eq!(platform.snapshot("shop"), before);
    let half: Vec<_> = std::fs::read_dir(platform.path("compiled"))
        .expect("list")
        .filter(|entry| entry.as_ref().expect("an entry").file_name().to_string_lossy().starts_with('.'))
        .collect();
    assert!(half.is_empty(), "{half:?}");
    platform.stop().await;
}

#[tokio::test]
async fn an_evil_archive_is_refused_and_leaves_nothing_behind() {
    let platform = Platform::start().await;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.start_file("good", options).expect("an entry");
    writer.write_all(b"good").expect("its text");
    writer.add_symlink("evil", "/etc/passwd", options).expect("a link");
    let code = platform.upload(writer.finish().expect("an archive").into_inner().into()).await;
    let refusal =
        platform.try_deploy("shop", vec![wanted("py", code, Runtime::Provided)]).await.expect_err("evil");
    assert_eq!(refusal.code, Code::CodeInvalid);
    assert!(refusal.message.contains("'evil'") && refusal.message.contains("link"), "{refusal}");
    assert_eq!(std::fs::read_dir(platform.path("code")).expect("list").count(), 0);
    platform.stop().await;
}

#[tokio::test]
async fn a_rollback_puts_all_functions_back_and_forward_again() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("a", "1"), ("gone", "1")]).await;
    let nothing = platform.client.rollback(&tenant(), &app("shop"), None).await.expect_err("the first");
    assert_eq!(nothing.code, Code::NothingToRollBack);
    platform.deploy("shop", &[("a", "2")]).await;
    assert_eq!((platform.live("shop", "a"), platform.live("shop", "gone")), (Some(2), None));
    let back = platform.client.rollback(&tenant(), &app("shop"), None).await.expect("back");
    assert_eq!((back.deployment.number, back.warnings.len()), (1, 0));
    assert_eq!((platform.live("shop", "a"), platform.live("shop", "gone")), (Some(1), Some(1)));
    platform.client.rollback(&tenant(), &app("shop"), Some(2)).await.expect("forward");
    assert_eq!((platform.live("shop", "a"), platform.live("shop", "gone")), (Some(2), None));
    let unknown = platform.client.rollback(&tenant(), &app("shop"), Some(9)).await.expect_err("unknown");
    assert_eq!(unknown.code, Code::VersionNotFound);
    let detail = platform.client.app(&tenant(), &app("shop")).await.expect("the app");
    let live: Vec<_> = detail.deployments.iter().map(|each| (each.number, each.live)).collect();
    assert_eq!(live, [(2, true), (1, false)]);
    platform.stop().await;
}

#[tokio::test]
async fn a_name_belongs_to_one_app_and_numbers_are_never_reused() {
    let platform = Platform::start().await;
    platform.deploy("one", &[("hello", "1")]).await;
    let code = platform.upload(component("2")).await;
    let two = || vec![wanted("hello", code, Runtime::Component)];
    let taken = platform.try_deploy("two", two()).await.expect_err("it is taken");
    assert_eq!(taken.code, Code::NameTaken);
    assert!(taken.message.contains("'one'"), "{taken}");
    let gone = platform.client.delete_app(&tenant(), &app("one")).await.expect("deleted");
    assert_eq!(gone.functions, [function("hello")]);
    assert!(platform.snapshot("one").is_none());
    let missing = platform.client.app(&tenant(), &app("one")).await.expect_err("it is gone");
    assert_eq!(missing.code, Code::AppNotFound);
    let deployed = platform.try_deploy("two", two()).await.expect("it is free");
    assert_eq!(deployed.functions[0].version, 2, "version 1 was another one");
    let again = platform.deploy("one", &[("other", "1")]).await;
    assert_eq!(again.number, 2, "deployment 1 was another one");
    platform.stop().await;
}

#[tokio::test]
async fn aliases_share_calls_and_refuse_what_is_not_there() {
    let platform = Platform::start().await;
    let (tenant, hello) = (tenant(), function("hello"));
    platform.deploy("shop", &[("hello", "1")]).await;
    platform.deploy("shop", &[("hello", "2")]).await;
    let share = |version, weight| AliasWeight { version, weight };
    let canary = Alias { versions: vec![share(1, 90), share(2, 10)] };
    let name = "canary".parse().expect("a name");
    platform.client.put_alias(&tenant, &hello, &name, &canary).await.expect("set");
    let route = platform.snapshot("shop").expect("a snapshot").functions.remove(0);
    assert_eq!(route.aliases["canary"], canary);
    assert_eq!(route.versions.keys().copied().collect::<Vec<_>>(), [1, 2], "both answer");
    assert_eq!(platform.client.alias(&tenant, &hello, &name).await.expect("shown").alias, canary);
    for (alias, versions, code) in [
        ("x", vec![share(9, 1)], Code::VersionNotFound),
        ("x", vec![share(1, 0)], Code::BadRequest),
        ("x", vec![], Code::BadRequest),
        ("x", vec![share(1, 1), share(1, 1)], Code::BadRequest),
        ("7", vec![share(1, 1)], Code::BadRequest),
    ] {
        let name = alias.parse().expect("a name");
        let refused = platform.client.put_alias(&tenant, &hello, &name, &Alias { versions }).await;
        assert_eq!(refused.expect_err("refused").code, code);
    }
    // A deployment moves `live` and leaves other aliases where they are.
    platform.deploy("shop", &[("hello", "3")]).await;
    assert_eq!(platform.live("shop", "hello"), Some(3));
    let route = platform.snapshot("shop").expect("a snapshot").functions.remove(0);
    assert_eq!((&route.aliases["canary"], route.latest), (&canary, 3));
    platform.client.delete_alias(&tenant, &hello, &name).await.expect("deleted");
    let missing = platform.client.alias(&tenant, &hello, &name).await.expect_err("gone");
    assert_eq!(missing.code, Code::AliasNotFound);
    let live = "live".parse().expect("a name");
    assert!(platform.client.delete_alias(&tenant, &hello, &live).await.is_err());
    let versions = platform.client.versions(&tenant, &hello).await.expect("versions");
    assert_eq!(versions.iter().map(|each| each.version.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(versions[0].aliases, [live]);
    platform.stop().await;
}

#[tokio::test]
async fn deployments_at_the_same_time_do_not_mix() {
    let platform = Platform::start().await;
    let mut codes = Vec::new();
    for i in 0..6 {
        codes.push(platform.upload(component(&format!("v{i}"))).await);
    }
    let deploy = |app: &'static str, name: &'static str, code| {
        platform.try_deploy(app, vec![wanted(name, code, Runtime::Component)])
    };
    let results =
        futures_util::future::join_all(codes.iter().map(|code| deploy("shop", "hello", *code))).await;
    let numbers: BTreeSet<u64> =
        results.into_iter().map(|result| result.expect("it is live").number).collect();
    assert_eq!(numbers, (1..=6).collect());
    let detail = platform.client.app(&tenant(), &app("shop")).await.expect("the app");
    assert_eq!(detail.live, 6);
    assert_eq!(platform.live("shop", "hello"), Some(detail.deployments[0].functions[0].version));
    // Two apps want the same name: one has it.
    let apps = ["x1", "x2", "x3", "x4"];
    let results =
        futures_util::future::join_all(apps.iter().map(|app| deploy(app, "wanted", codes[0]))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    for refusal in results.into_iter().filter_map(Result::err) {
        assert_eq!(refusal.code, Code::NameTaken);
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_start_puts_right_what_a_crash_left() {
    let platform = Platform::start().await;
    platform.deploy("lost", &[("a", "1")]).await;
    platform.deploy("stale", &[("b", "1")]).await;
    let stale = std::fs::read(platform.path("apps/default/stale.json")).expect("a snapshot");
    platform.deploy("stale", &[("b", "2")]).await;
    platform.deploy("damaged", &[("c", "1")]).await;
    platform.deploy("deleted", &[("d", "1")]).await;
    let deleted = std::fs::read(platform.path("apps/default/deleted.json")).expect("a snapshot");
    platform.client.delete_app(&tenant(), &app("deleted")).await.expect("deleted");
    let apps = platform.path("apps/default");
    let state = platform.kill().await;
    // As if it had died between the store's commit and the file, each time at another point.
    std::fs::remove_file(apps.join("lost.json")).expect("removed");
    std::fs::write(apps.join("stale.json"), stale).expect("written");
    std::fs::write(apps.join("damaged.json"), b"{\"tenant\":").expect("written");
    std::fs::write(apps.join("deleted.json"), deleted).expect("written");
    std::fs::write(apps.join(".new-half"), b"half").expect("written");
    std::fs::write(state.path().join("compiled/.new-half.cwasm"), b"half").expect("written");
    std::fs::create_dir(state.path().join("code/.new-half")).expect("made");
    let platform = Platform::start_in(state, Duration::from_secs(3_600)).await;
    eventually("all four are right and told", || platform.gateway.told.lock().expect("no panic").len() == 4)
        .await;
    assert_eq!(platform.live("lost", "a"), Some(1));
    assert_eq!(platform.live("stale", "b"), Some(2));
    assert_eq!(platform.live("damaged", "c"), Some(1));
    assert!(platform.snapshot("deleted").is_none());
    for half in ["apps/default/.new-half", "compiled/.new-half.cwasm", "code/.new-half"] {
        assert!(!platform.path(half).exists(), "{half}");
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_deployment_that_is_killed_leaves_what_was_live() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("a", "1")]).await;
    let slow = platform.upload(component("slow")).await;
    let request =
        rouse_api::DeployRequest { functions: vec![wanted("a", slow, Runtime::Component)], message: None };
    let mut lines = platform.client.deploy(&tenant(), &app("shop"), &request).await.expect("it begins");
    let first = lines.next().await.expect("an event").expect("an event");
    assert!(matches!(first, DeployEvent::Compiling { .. }), "{first:?}");
    let compiles = || platform.compiles() == 2;
    eventually("the compiler runs", compiles).await;
    let platform = Platform::start_in(platform.kill().await, Duration::from_secs(3_600)).await;
    assert_eq!(platform.live("shop", "a"), Some(1));
    let next = platform.deploy("shop", &[("a", "3")]).await;
    assert_eq!((next.number, next.functions[0].version), (2, 2));
    platform.stop().await;
}

#[tokio::test]
async fn old_deployments_and_their_code_are_forgotten() {
    let platform = Platform::start().await;
    for i in 0..12 {
        platform.deploy("shop", &[("a", &format!("v{i}"))]).await;
    }
    let pinned = Alias::of(1);
    let name = "pinned".parse().expect("a name");
    platform.client.put_alias(&tenant(), &function("a"), &name, &pinned).await.expect("set");
    let state = platform.kill().await;
    // The collector runs at the start.
    let platform = Platform::start_in(state, Duration::ZERO).await;
    let blob = |i: usize| platform.path("blobs").join(Digest::of(&component(&format!("v{i}"))).hex());
    eventually("the second version's code is deleted", || !blob(1).exists()).await;
    assert!(blob(0).exists(), "an alias names version 1");
    assert!(blob(2).exists() && blob(11).exists(), "ten deployments are kept");
    let hex = Digest::of(&component("v1")).hex();
    assert!(!platform.path("code").join(&hex).exists());
    assert!(!platform.path("compiled").join(format!("{hex}-test-1.cwasm")).exists());
    let versions = platform.client.versions(&tenant(), &function("a")).await.expect("versions");
    let numbers: Vec<_> = versions.iter().map(|each| each.version.number).collect();
    assert_eq!(numbers, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 1]);
    platform.client.rollback(&tenant(), &app("shop"), Some(3)).await.expect("the oldest that is kept");
    platform.stop().await;
}
