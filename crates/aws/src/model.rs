//! The APIs of Lambda and SQS as data: operations, shapes with their constraints, errors. The tables are generated; what reads
//! requests, checks them and writes answers goes by them.

#[rustfmt::skip]
mod generated;

use generated::SHAPES;
pub use generated::{ERRORS, MODEL, OPERATIONS, SQS_ERRORS, SQS_OPERATIONS};

/// One operation.
#[derive(Debug)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// Its method.
    pub method: &'static str,
    /// Its path with `{Names}` for whole segments, and perhaps a query that tells it from another operation.
    pub uri: &'static str,
    /// The status of an answer that is no error.
    pub status: u16,
    /// The number of the shape that it takes.
    pub input: Option<usize>,
    /// The number of the shape that it gives.
    pub output: Option<usize>,
}

/// One shape.
#[derive(Debug)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    /// Whether messages leave its value out.
    pub sensitive: bool,
    /// What it is.
    pub kind: Kind,
}

/// What a shape is. Bounds are of the length of texts, blobs, lists and maps, and of the value of numbers.
#[derive(Debug)]
#[expect(missing_docs, reason = "said by the enum's own comment")]
pub enum Kind {
    Structure(&'static [Member]),
    List {
        member: usize,
        min: Option<i64>,
        max: Option<i64>,
    },
    Map {
        key: usize,
        value: usize,
        min: Option<i64>,
        max: Option<i64>,
    },
    Text {
        min: Option<i64>,
        max: Option<i64>,
        pattern: Option<&'static str>,
        values: &'static [&'static str],
    },
    Blob {
        min: Option<i64>,
        max: Option<i64>,
    },
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Double {
        min: Option<i64>,
        max: Option<i64>,
    },
    Boolean,
    Timestamp,
}

/// One member of a structure.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its name on the wire.
    pub wire: &'static str,
    /// The number of its shape.
    pub shape: usize,
    /// Where it travels.
    pub place: Place,
    /// Whether it must be there.
    pub required: bool,
}

/// Where a member travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the JSON body.
    Body,
    /// It is the body.
    Payload,
    /// In the path.
    Uri,
    /// In the query.
    Query,
    /// In a header.
    Header,
    /// As the status.
    Status,
}

/// One error.
#[derive(Debug)]
pub struct ErrorShape {
    /// Its name.
    pub name: &'static str,
    /// Its status.
    pub status: u16,
    /// The key of its message: some have `Message`, some `message`.
    pub message: &'static str,
    /// Whether it has a `Type`.
    pub typed: bool,
    /// Whether it is the server's fault.
    pub fault: bool,
}

/// The shape of this number.
#[must_use]
pub fn shape(number: usize) -> &'static Shape {
    &SHAPES[number]
}

/// The members of a structure; none of anything else.
#[must_use]
pub fn members(number: Option<usize>) -> &'static [Member] {
    match number.map(|number| &shape(number).kind) {
        Some(Kind::Structure(members)) => members,
        _ => &[],
    }
}

/// The operation of this name.
#[must_use]
pub fn operation(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_refer_to_shapes_that_are_there() {
        for shape in SHAPES {
            let named: Vec<usize> = match &shape.kind {
                Kind::Structure(members) => members.iter().map(|member| member.shape).collect(),
                Kind::List { member, .. } => vec![*member],
                Kind::Map { key, value, .. } => vec![*key, *value],
                _ => Vec::new(),
            };
            assert!(named.iter().all(|&number| number < SHAPES.len()), "{}", shape.name);
        }
        assert_eq!(OPERATIONS.len(), 91);
        assert!(operation("Invoke").is_some());
        assert_eq!((SQS_OPERATIONS.len(), SQS_ERRORS.len()), (23, 28));
    }
}
