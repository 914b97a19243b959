//! A head in JSON and a body of bytes as one: what our own processes give each other, and keep.

use serde::{Serialize, de::DeserializeOwned};

/// What [`encode`] did not write.
#[derive(Debug, thiserror::Error)]
#[error("this was written by no process of this platform")]
pub struct NotFramed;

/// The length of the JSON in 4 bytes, the most significant first; the JSON; the body.
#[must_use]
pub fn encode<T: Serialize>(head: &T, body: &[u8]) -> Vec<u8> {
    let json = serde_json::to_vec(head).unwrap_or_default();
    let length = u32::try_from(json.len()).unwrap_or_default();
    let mut bytes = Vec::with_capacity(4 + json.len() + body.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(body);
    bytes
}

/// Reads what [`encode`] wrote: the head, and the body.
///
/// # Errors
/// It did not.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), NotFramed> {
    let (length, rest) = bytes.split_at_checked(4).ok_or(NotFramed)?;
    let length = u32::from_be_bytes(length.try_into().map_err(|_| NotFramed)?);
    let (json, body) = rest.split_at_checked(length as usize).ok_or(NotFramed)?;
    Ok((serde_json::from_slice(json).map_err(|_| NotFramed)?, body))
}
