//! How the table of operations is written.

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Body, Id, Operation, SchemaOf};

pub(super) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

pub(super) const fn operation(
    id: Id,
    method: Method,
    path: &'static str,
    summary: &'static str,
) -> Operation {
    let (request, response) = (Body::Empty, Body::Empty);
    Operation { id, method, path, summary, query: None, request, response, open: false }
}

impl Operation {
    pub(super) const fn query(mut self, query: SchemaOf) -> Self {
        self.query = Some(query);
        self
    }

    pub(super) const fn request(mut self, request: Body) -> Self {
        self.request = request;
        self
    }

    pub(super) const fn response(mut self, response: Body) -> Self {
        self.response = response;
        self
    }

    pub(super) const fn open(mut self) -> Self {
        self.open = true;
        self
    }
}
