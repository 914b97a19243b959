//! A column's value as JSON: as `to_json` of PostgreSQL writes it where JSON has the type, else its text.

use serde_json::{Number, Value};

/// Object ids of types: they are the same in every database (`pg_type.dat`).
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const OID: u32 = 26;
    pub(super) const JSON: u32 = 114;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const JSONB: u32 = 3802;
}

/// The value. `numeric` stays text, since a JSON number would lose digits in most readers; so do times, arrays and bytes.
pub(super) fn json(ty: u32, text: &str) -> Value {
    let value = match ty {
        oid::BOOL => match text {
            "t" => Some(Value::Bool(true)),
            "f" => Some(Value::Bool(false)),
            _ => None,
        },
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => text.parse::<i64>().ok().map(Value::from),
        // Infinity and NaN are no JSON and stay text.
        oid::FLOAT4 | oid::FLOAT8 => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        oid::JSON | oid::JSONB => serde_json::from_str(text).ok(),
        _ => None,
    };
    value.unwrap_or_else(|| text.into())
}
