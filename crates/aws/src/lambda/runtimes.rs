//! AWS' names of runtimes and ours. Pure.

use rouse_types::Runtime;

use crate::{
    error::AwsError,
    model::{self, Kind},
};

/// The runtimes that the model knows.
fn values() -> &'static [&'static str] {
    let members = model::members(model::operation("CreateFunction").and_then(|operation| operation.input));
    let runtime = members.iter().find(|member| member.name == "Runtime");
    match runtime.map(|member| &model::shape(member.shape).kind) {
        Some(Kind::Text { values, .. }) => values,
        _ => &[],
    }
}

/// Whether AWS knows a runtime of this name.
///
/// # Errors
/// It does not.
pub(crate) fn known(name: &str) -> Result<(), AwsError> {
    if values().contains(&name) {
        return Ok(());
    }
    Err(AwsError::invalid(format!(
        "Value {name} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid \
         ARN",
        values().join(", ")
    )))
}

/// Runtimes that AWS takes no more, with what it recommends.
const DEPRECATED: [(&str, &str); 8] = [
    ("dotnetcore3.1", "dotnet6"),
    ("go1.x", "provided.al2023"),
    ("java8", "java21"),
    ("nodejs12.x", "nodejs18.x"),
    ("nodejs14.x", "nodejs20.x"),
    ("provided", "provided.al2023"),
    ("python3.7", "python3.12"),
    ("ruby2.7", "ruby3.2"),
];

/// Whether a function can be given this runtime, as AWS and this platform have it.
///
/// # Errors
/// AWS takes it no more, or nothing here runs it.
pub(crate) fn current(name: &str) -> Result<(), AwsError> {
    if let Some((_, instead)) = DEPRECATED.iter().find(|(old, _)| *old == name) {
        return Err(AwsError::invalid(format!(
            "The runtime parameter of {name} is no longer supported for creating or updating AWS Lambda functions. We \
             recommend you use the new runtime ({instead}) while creating or updating functions."
        )));
    }
    ours(name).map(drop)
}

/// What runs here.
///
/// # Errors
/// Nothing here runs it.
pub(crate) fn ours(name: &str) -> Result<Runtime, AwsError> {
    name.parse().map_err(|_| {
        AwsError::invalid(format!(
            "The runtime parameter of {name} is not offered by this platform: it runs python3.N, nodejsN.x, \
             provided.al2 and provided.al2023, and any runtime by container image."
        ))
    })
}

/// The architecture of this machine, as AWS calls it.
pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_taken_by_their_names() {
        known("python3.11").expect("known");
        let error = known("cobol").expect_err("unknown").message;
        assert!(
            error.starts_with("Value cobol at 'runtime' failed") && error.ends_with("or be a valid ARN"),
            "{error}"
        );
        assert_eq!(ours("nodejs20.x").expect("ours"), Runtime::Node { major: 20 });
        assert_eq!(ours("provided.al2023").expect("ours"), Runtime::Provided);
        assert!(ours("java21").is_err());
        current("python3.11").expect("current");
        let old = current("python3.7").expect_err("too old").message;
        assert!(old.contains("no longer supported") && old.contains("runtime (python3.12) while"), "{old}");
    }
}
