//! Thousands of functions that no one calls: nothing runs for them, and each answers when it is called.
//!
//! `cargo xtask bench density` measures the memory that they take.

use rouse_e2e::{App, Platform, example, folder, need};

/// Apps of as many functions as one may have, all of one component. A build without optimizations deploys them in
/// about a quarter of a minute.
const APPS: usize = 10;
const FUNCTIONS: usize = 1_000;
/// How many of all are called.
const SAMPLE: usize = 50;

#[tokio::test]
async fn ten_thousand_idle_functions_have_no_process_and_any_of_them_answers() {
    let platform = Platform::start();
    need!(platform, "ten_thousand_idle_functions_have_no_process_and_any_of_them_answers", "component");
    // Builds the component.
    platform.deploy(&example("hello-rust")).await;
    let component = "examples/hello-rust/target/wasm32-wasip2/release/hello_rust.wasm";
    let component = std::fs::read(folder(component)).expect("the component");
    let before = platform.processes().len();
    for number in 0..APPS {
        let mut manifest = format!("[app]\nname = \"app-{number}\"\n");
        for function in 0..FUNCTIONS {
            let name = format!("f-{number}-{function}");
            manifest.push_str(&format!(
                "[functions.{name}]\ninvoke = \"public\"\nsource = \"c.wasm\"\nruntime = \"component\"\nenv = {{ NAME = \"{name}\" }}\n"
            ));
        }
        let app = App::new("many").file("c.wasm", &component).file("rouse.toml", manifest);
        platform.deploy(app.path()).await;
    }
    assert_eq!(platform.functions(), []);
    assert_eq!(platform.processes().len(), before, "{:?}", platform.processes());
    for number in 0..SAMPLE {
        let function = number * APPS * FUNCTIONS / SAMPLE;
        let name = format!("f-{}-{}", function / FUNCTIONS, function % FUNCTIONS);
        let answer = platform.get(&format!("{name}/?name=you")).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.json()["greeting"], "Hello, you!", "{name}");
    }
}
