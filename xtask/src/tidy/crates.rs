//! Which crate may use which: `types ← store, sandbox … ← contract ← gateway, node … ← the binary`.

/// The tiers, lowest first. A crate may use those of lower tiers, and none of its own: crates of one tier meet
/// only through handles that the binary passes in.
const TIERS: [&[&str]; 5] = [
    &["rouse-types"],
    &[
        "rouse-store",
        "rouse-sandbox",
        "rouse-image",
        "rouse-identity",
        "rouse-quota",
        "rouse-tls",
        "rouse-scheduler",
        "rouse-triggers",
        "rouse-api",
        "rouse-manifest",
        "rouse-wasm",
    ],
    &["rouse-contract"],
    &[
        "rouse-gateway",
        "rouse-mesh",
        "rouse-events",
        "rouse-node",
        "rouse-metering",
        "rouse-control",
        "rouse-services",
        "rouse-aws",
    ],
    &["rouse"],
];

/// Edges within a tier that are wanted, each with its reason.
const WANTED: [(&str, &str); 1] = [
    // Control answers the API's questions about usage, which metering alone can sum and price.
    ("rouse-control", "rouse-metering"),
];

/// Crates for development only. No crate of the product may use them; they may use what they like.
const TOOLS: [&str; 6] =
    ["xtask", "rouse-e2e", "rouse-clients", "rouse-escape", "rouse-bench", "rouse-processes"];

/// Who uses whom, of our own crates, not counting what only tests use.
pub(super) fn edges(metadata: &serde_json::Value) -> Vec<(String, Vec<String>)> {
    let array = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    array(&metadata["packages"])
        .iter()
        .map(|package| {
            let used = array(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["kind"] != "dev" && !dependency["path"].is_null())
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect();
            (package["name"].as_str().unwrap_or_default().to_owned(), used)
        })
        .collect()
}

pub(super) fn breaches(edges: &[(String, Vec<String>)]) -> Vec<String> {
    let tier = |name: &str| TIERS.iter().position(|tier| tier.contains(&name));
    let mut breaches = Vec::new();
    for (user, used) in edges {
        if TOOLS.contains(&user.as_str()) {
            continue;
        }
        let Some(own) = tier(user) else {
            breaches.push(format!("crate {user} has no tier: give it one in xtask/src/tidy/crates.rs"));
            continue;
        };
        for used in used {
            let wanted = WANTED.contains(&(user.as_str(), used.as_str()));
            if !wanted && tier(used).is_none_or(|tier| tier >= own) {
                breaches.push(format!(
                    "crate {user} may not use {used}: dependencies go to lower tiers only; pass a handle in from \
                     the binary"
                ));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user: &str, used: &str) -> usize {
        breaches(&[(user.to_owned(), vec![used.to_owned()])]).len()
    }

    #[test]
    fn a_crate_uses_lower_tiers_alone() {
        assert_eq!(check("rouse-gateway", "rouse-types"), 0);
        assert_eq!(check("rouse", "rouse-control"), 0);
        assert_eq!(check("rouse-types", "rouse-store"), 1);
        assert_eq!(check("rouse-gateway", "rouse-node"), 1);
        assert_eq!(check("rouse-store", "rouse-api"), 1);
    }

    #[test]
    fn wanted_edges_go_one_way() {
        assert_eq!(check("rouse-control", "rouse-metering"), 0);
        assert_eq!(check("rouse-metering", "rouse-control"), 1);
    }

    #[test]
    fn the_product_uses_no_tools_and_every_crate_has_a_tier() {
        assert_eq!(check("rouse", "xtask"), 1);
        assert_eq!(check("rouse-new", "rouse-types"), 1);
    }

    #[test]
    fn what_only_tests_use_is_no_edge() {
        let metadata = serde_json::json!({ "packages": [{
            "name": "rouse-store",
            "dependencies": [
                { "name": "rouse-types", "kind": null, "path": "crates/types" },
                { "name": "rouse-control", "kind": "dev", "path": "crates/control" },
                { "name": "serde", "kind": null, "path": null },
            ],
        }]});
        assert_eq!(edges(&metadata), [("rouse-store".to_owned(), vec!["rouse-types".to_owned()])]);
    }
}
