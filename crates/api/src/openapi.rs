//! The OpenAPI 3.1 document, made of the table of operations. OpenAPI 3.1 embeds JSON Schema 2020-12, which
//! is what schemars writes.

use rouse_types::Refusal;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    NDJSON, Operation,
    operation::{Access, Body, access},
};

/// The document. The same for every server of a release; `docs/openapi.json` is this.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    let refusal = generator.subschema_for::<Refusal>();
    for operation in crate::operation::ALL {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rouse",
            "summary": "The native API: deploy functions, call them, see what they did and cost.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8081" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer",
                "description": "An API key of a tenant, or the operator's token, which is made at the first start and kept in \
                    <state>/control/token.",
            } },
            "responses": { "Refusal": {
                "description": "Refused or failed: what, for whom, and the next step.",
                "content": { "application/json": { "schema": refusal } },
            } },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = operation
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if let Some(query) = operation.query {
        parameters.extend(query_parameters(query, generator));
    }
    let mut success = json!({ "description": "Done." });
    if let Some(content) = content(operation.response, generator) {
        success["content"] = content;
    }
    let mut described = json!({
        "operationId": operation.id.as_str(),
        "summary": operation.summary,
        "responses": { "200": success, "default": { "$ref": "#/components/responses/Refusal" } },
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(content) = content(operation.request, generator) {
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    if operation.open {
        described["security"] = json!([]);
    }
    // Beside the operator, who may everything.
    if let Access::Roles(roles) = access(operation.id) {
        described["x-rouse-roles"] = json!(roles);
    }
    described
}

fn content(body: Body, generator: &mut SchemaGenerator) -> Option<Value> {
    Some(match body {
        Body::Empty => return None,
        Body::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        // OpenAPI 3.1 has no word for a sequence; the schema is that of one line.
        Body::Lines(schema) => json!({ NDJSON: { "schema": schema(generator) } }),
        Body::Bytes => json!({ "application/octet-stream": {} }),
        Body::Text => json!({ "text/plain": { "schema": { "type": "string" } } }),
    })
}

/// A query's type is an object; each of its properties is a parameter.
fn query_parameters(query: crate::operation::SchemaOf, generator: &mut SchemaGenerator) -> Vec<Value> {
    let reference = query(generator);
    let name = reference.get("$ref").and_then(Value::as_str).and_then(|text| text.rsplit('/').next());
    // Taken out of the definitions: as a whole it is no message.
    let Some(schema) = name.and_then(|name| generator.definitions_mut().shift_remove(name)) else {
        return Vec::new();
    };
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let mut parameter = json!({ "name": name, "in": "query" });
        if let Some(text) = schema.as_object_mut().and_then(|schema| schema.shift_remove("description")) {
            parameter["description"] = text;
        }
        parameter["schema"] = schema;
        parameter
    };
    properties.into_iter().map(parameter).collect()
}

/// The document as it is committed.
///
/// # Panics
/// Never: a JSON value can be written.
#[must_use]
#[expect(clippy::expect_used, reason = "a JSON value can be written")]
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).expect("a JSON value can be written");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_committed_document_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let current = text();
        if std::env::var_os("ROUSE_BLESS").is_some() {
            std::fs::write(&path, &current).expect("write docs/openapi.json");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == current,
            "docs/openapi.json is not what the types say; write it anew: \
             ROUSE_BLESS=1 cargo test -p rouse-api openapi"
        );
    }
}
