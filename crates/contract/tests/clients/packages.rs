//! Functions with what people install beside them: a native wheel of PyPI, packages of npm. In real containers.

use crate::{
    harness::{Function, ask, node, python, python_minor, skipped, write},
    tools,
};

#[tokio::test]
async fn a_python_function_with_a_native_wheel_runs_in_a_container() {
    let test = "a_python_function_with_a_native_wheel_runs_in_a_container";
    let Some((runtime, launch)) = python(test) else { return };
    let minor = python_minor().expect("it was there just now");
    let Some(code) = tools::pip(minor, &format!("numpy-python3.{minor}"), "numpy") else {
        return skipped(test, "pip cannot install numpy");
    };
    let source = "import numpy as np\ndef handler(event, context):\n    \
        a = np.array(event['rows'], dtype=float)\n    return {'det': round(float(np.linalg.det(a)), 6), 'file': np.__file__}\n";
    write(&code.join("app.py"), source);
    let function = Function::of_folder(&runtime, launch, code, Vec::new()).memory(256);
    let Some(host) = function.host(test) else { return };
    let worker = function.start_by(&host.driver()).await.expect("it starts");
    for _ in 0..2 {
        let answer = ask(&worker, r#"{"rows": [[2, 1], [1, 3]]}"#).await;
        assert_eq!(answer, serde_json::json!({ "det": 5.0, "file": "/var/task/numpy/__init__.py" }));
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_node_function_with_npm_packages_runs_in_a_container() {
    let test = "a_node_function_with_npm_packages_runs_in_a_container";
    let Some((runtime, launch)) = node(test) else { return };
    // One of a single file, and one of some thousand.
    let Some(code) = tools::npm("npm-ms-date-fns", &["ms@2.1.3", "date-fns@4.1.0"]) else {
        return skipped(test, "npm cannot install packages");
    };
    let source = "const ms = require('ms');
const { addDays, format } = require('date-fns');
exports.handler = async (event) => ({ ms: ms(event.wait), day: format(addDays(new Date(2024, 1, 28), 2), 'yyyy-MM-dd') });
";
    write(&code.join("app.js"), source);
    let function = Function::of_folder(&runtime, launch, code, Vec::new());
    let Some(host) = function.host(test) else { return };
    let worker = function.start_by(&host.driver()).await.expect("it starts");
    let answer = ask(&worker, r#"{"wait": "2 days"}"#).await;
    assert_eq!(answer, serde_json::json!({ "ms": 172_800_000, "day": "2024-03-01" }));
    worker.stop().await;
}
