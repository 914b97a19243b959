//! What of SQS' API is offered, as the guide has it: a test holds that it is true.

/// What a client gets an error for.
const NOT: [&str; 2] = ["AddPermission", "RemovePermission"];

/// The table of the guide.
fn table() -> String {
    let mut table = String::from("| operation of SQS | offered |\n|---|---|\n");
    for operation in crate::model::SQS_OPERATIONS {
        let offered = if NOT.contains(&operation.name) { "no: `UnsupportedOperation`" } else { "works" };
        table.push_str(&format!("| `{}` | {offered} |\n", operation.name));
    }
    table
}

#[test]
fn the_guide_has_the_table_as_it_is() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/aws.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    assert!(guide.contains(&table()), "docs/guides/aws.md should have this table:\n{}", table());
}

#[test]
fn what_is_offered_is_what_is_dispatched() {
    let source = include_str!("../sqs.rs");
    for operation in crate::model::SQS_OPERATIONS {
        let dispatched = source.contains(&format!("\"{}\" =>", operation.name));
        assert_eq!(dispatched, !NOT.contains(&operation.name), "{}", operation.name);
    }
}
