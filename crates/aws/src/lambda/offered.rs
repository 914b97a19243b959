//! What of Lambda's API is offered, as the guide has it: a test holds that it is true.

/// How far an operation is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It does what it does at AWS.
    Works,
    /// It is remembered and given back, and has no other effect.
    Stored,
    /// A client gets `UnknownOperationException`.
    Not,
}

/// What is said of an operation.
#[must_use]
pub(crate) fn offer(name: &str) -> Offer {
    let not = ["Durable", "CapacityProvider", "ResourcePolicy"];
    let stored = ["CodeSigning", "RuntimeManagement", "Recursion", "ScalingConfig"];
    if not.iter().any(|part| name.contains(part)) {
        Offer::Not
    } else if stored.iter().any(|part| name.contains(part)) {
        Offer::Stored
    } else {
        Offer::Works
    }
}

/// The table of the guide.
#[must_use]
pub(crate) fn table() -> String {
    let mut table = String::from("| operation | offered |\n|---|---|\n");
    for operation in crate::model::OPERATIONS {
        let offered = match offer(operation.name) {
            Offer::Works => "works",
            Offer::Stored => "stored only",
            Offer::Not => "no: `UnknownOperationException`",
        };
        table.push_str(&format!("| `{}` | {offered} |\n", operation.name));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_table_as_it_is() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/aws.md");
        let guide = std::fs::read_to_string(guide).expect("the guide");
        assert!(guide.contains(&table()), "docs/guides/aws.md should have this table:\n{}", table());
    }

    #[test]
    fn what_is_offered_is_what_is_dispatched() {
        let source = include_str!("../lambda.rs");
        for operation in crate::model::OPERATIONS {
            let dispatched = source.contains(&format!("\"{}\" =>", operation.name));
            assert_eq!(dispatched, offer(operation.name) != Offer::Not, "{}", operation.name);
        }
    }
}
