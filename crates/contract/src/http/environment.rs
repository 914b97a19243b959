//! What a server finds in its environment.
//!
//! Sources: Google Cloud "Container runtime contract", "Environment variables"; Functions Framework contract, "Configuration".

use rouse_types::{FunctionVersion, Signature};

use super::PORT;

/// Where the code is mounted, as Google's buildpacks have it.
pub const CODE_ROOT: &str = "/workspace";
/// Where a framework that the code does not bring is mounted.
pub const FRAMEWORK_DIR: &str = "/opt/rouse/runtime";

/// Names that a function cannot set: the contract needs them as they are.
const RESERVED: &[&str] = &["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"];

/// The whole environment of an instance: the base, what its runtime needs (`runtime`), then the function's own, then
/// the contract's.
#[must_use]
pub fn of(version: &FunctionVersion, runtime: &[(String, String)]) -> Vec<(String, String)> {
    let mut env: std::collections::BTreeMap<String, String> = [
        ("PATH", "/workspace/node_modules/.bin:/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("TZ", ":UTC"),
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    env.extend(runtime.iter().cloned());
    let own = version.env.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
    env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    let function = &version.function;
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("PORT", PORT.to_string());
    set("K_SERVICE", function.to_string());
    set("K_CONFIGURATION", function.to_string());
    set("K_REVISION", format!("{function}-{:05}", version.number));
    if let Some(handler) = &version.handler {
        set("FUNCTION_TARGET", target(handler).1.to_owned());
    }
    if let Some(signature) = version.http.signature {
        set("FUNCTION_SIGNATURE_TYPE", signature_type(signature).to_owned());
    }
    env.into_iter().collect()
}

/// A handler's file, if it names one, and its function: `app.hello` is `hello` in `app`.
pub(crate) fn target(handler: &str) -> (Option<&str>, &str) {
    match handler.rsplit_once('.') {
        Some((file, function)) => (Some(file), function),
        None => (None, handler),
    }
}

fn signature_type(signature: Signature) -> &'static str {
    match signature {
        Signature::Http => "http",
        Signature::Event => "event",
        Signature::CloudEvent => "cloudevent",
        Signature::Typed => "typed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::runtime::tests::version;

    #[test]
    fn a_function_sets_its_own_variables_but_not_the_contracts() {
        let mut version = version("python3.11");
        version.env.insert("PORT".into(), "1".into());
        version.env.insert("HOME".into(), "/tmp/home".into());
        version.http.signature = Some(Signature::CloudEvent);
        let env = of(&version, &[("PYTHONPATH".into(), "/workspace".into())]);
        let get = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(get("PORT"), Some("8080"));
        assert_eq!(get("HOME"), Some("/tmp/home"));
        assert_eq!(get("K_SERVICE"), Some("thumbnail"));
        assert_eq!(get("K_REVISION"), Some("thumbnail-00003"));
        assert_eq!(get("FUNCTION_TARGET"), Some("handler"));
        assert_eq!(get("FUNCTION_SIGNATURE_TYPE"), Some("cloudevent"));
        assert_eq!(get("PYTHONPATH"), Some("/workspace"));
    }
}
