//! Layers that functions have: which ones a request may name, and how they become what the code finds in `/opt`.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Seek},
};

use bytes::Bytes;
use rouse_types::{Digest, Refusal};
use serde_json::{Value, json};
use zip::{ZipArchive, ZipWriter};

use super::{Layer, LayerVersion};
use crate::{
    error::AwsError,
    lambda::op::Op,
    names,
    state::{self, Version},
};

/// Layers of one function.
const LAYERS_MAX: usize = 5;
/// A function with its layers, unpacked.
pub(crate) const UNPACKED_BYTES_MAX: u64 = 262_144_000;

/// A layer's version as its ARN has it.
struct LayerArn<'a> {
    region: &'a str,
    account: &'a str,
    name: &'a str,
    number: u64,
}

fn parsed(arn: &str) -> Option<LayerArn<'_>> {
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", _, "lambda", region, account, "layer", name, number] => {
            Some(LayerArn { region, account, name, number: number.parse().ok()? })
        }
        _ => None,
    }
}

impl Op<'_> {
    /// A layer's version by its ARN: one of the caller's, or one whose policy lets the caller have it.
    pub(super) async fn layer_at(&self, arn: &str) -> Result<Option<LayerVersion>, AwsError> {
        let Some(LayerArn { account, name, number, .. }) = parsed(arn) else { return Ok(None) };
        if account == self.around.scope.account {
            let layer = self.layer(name).await?;
            return Ok(layer.and_then(|layer| layer.value.versions.get(&number).cloned()));
        }
        let all = self.face.store.scan::<Layer>(state::LAYERS, "", 0).await?;
        let others = all.into_iter().find_map(|(key, layer)| {
            let (tenant, of) = key.split_once('/')?;
            let theirs = of == name && names::account(&tenant.parse().ok()?) == account;
            theirs.then(|| layer.versions.get(&number).cloned()).flatten()
        });
        match others.filter(|version| self.is_shared(version)) {
            Some(version) => Ok(Some(version)),
            None => Err(AwsError::new(
                "AccessDeniedException",
                format!(
                    "User: {} is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no \
                     resource-based policy allows the lambda:GetLayerVersion action",
                    self.around.scope.user()
                ),
            )),
        }
    }

    fn is_shared(&self, version: &LayerVersion) -> bool {
        let own = self.around.scope.user();
        let lets = |statement: &Value| {
            statement["Condition"].is_null()
                && (statement["Principal"] == "*" || statement["Principal"]["AWS"] == own.as_str())
        };
        version.policy.statements.iter().any(lets)
    }

    /// What a request says of a function's layers: what is shown of them, and their archives in their order. Nothing if
    /// it says nothing.
    pub(crate) async fn layers_asked(&self) -> Result<Option<(Value, Vec<Digest>)>, AwsError> {
        let Some(asked) = self.input.get("Layers").and_then(Value::as_array) else { return Ok(None) };
        if asked.len() > LAYERS_MAX {
            return Err(AwsError::invalid(format!("Cannot reference more than {LAYERS_MAX} layers.")));
        }
        let (mut shown, mut archives, mut seen) = (Vec::new(), Vec::new(), BTreeMap::new());
        for arn in asked.iter().filter_map(Value::as_str) {
            let missing = || AwsError::invalid(format!("Layer version {arn} does not exist."));
            let LayerArn { region, account, name, .. } = parsed(arn).ok_or_else(missing)?;
            if region != self.around.scope.region {
                return Err(AwsError::invalid(format!(
                    "Layers are not in the same region as the function. Layers are expected to be in region {}.",
                    self.around.scope.region
                )));
            }
            let version = self.layer_at(arn).await?.ok_or_else(missing)?;
            if let Some(other) = seen.insert((account, name), arn) {
                return Err(AwsError::invalid(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. \
                     {other} and {arn} are versions of the same layer."
                )));
            }
            shown.push(json!({ "Arn": arn, "CodeSize": version.size }));
            archives.extend(version.code);
        }
        Ok(Some((shown.into(), archives)))
    }

    /// Takes over what a request says of layers, and checks that all the code together is no larger than it may be.
    pub(crate) async fn attach_layers(
        &self,
        version: &mut Version,
        asked: Option<(Value, Vec<Digest>)>,
    ) -> Result<(), AwsError> {
        if let Some((shown, archives)) = asked {
            if archives.is_empty() {
                version.config.remove("Layers");
            } else {
                version.config.insert("Layers".to_owned(), shown);
            }
            version.layers = archives;
        }
        if version.layers.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        for digest in version.blobs() {
            let Some(archive) = self.face.kept(digest).await? else { continue };
            bytes += unpacked_bytes(&archive);
        }
        if bytes > UNPACKED_BYTES_MAX {
            return Err(AwsError::invalid(format!(
                "Function code combined with layers exceeds the maximum allowed size of {UNPACKED_BYTES_MAX} bytes. The \
                 actual size is {bytes} bytes."
            )));
        }
        Ok(())
    }
}

/// What an archive says that it unpacks to; nothing for what is none.
pub(crate) fn unpacked_bytes(archive: &[u8]) -> u64 {
    let archive = ZipArchive::new(Cursor::new(archive)).ok();
    archive
        .and_then(|archive| archive.decompressed_size())
        .map_or(0, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// One archive out of several: a file of a later one takes the place of one of an earlier one, as when they are unpacked
/// over each other. What is compressed stays as it is. Blocks.
///
/// # Errors
/// An archive cannot be read.
pub(crate) fn merged(archives: &[Vec<u8>]) -> Result<Bytes, Refusal> {
    merge(archives).map_err(|error| {
        Refusal::new(rouse_types::Code::CodeInvalid, format!("the layers cannot be put together: {error}"))
    })
}

fn merge(archives: &[Vec<u8>]) -> Result<Bytes, zip::result::ZipError> {
    let mut opened = Vec::new();
    // By name, where it is found last.
    let mut last: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (number, bytes) in archives.iter().enumerate() {
        let mut archive = ZipArchive::new(Cursor::new(bytes))?;
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index)?;
            if !entry.is_dir() {
                last.insert(entry.name()?.into_owned(), (number, index));
            }
        }
        opened.push(archive);
    }
    let mut merged = ZipWriter::new(Cursor::new(Vec::new()));
    for (number, index) in last.into_values() {
        copy(&mut merged, &mut opened[number], index)?;
    }
    Ok(merged.finish()?.into_inner().into())
}

fn copy<R: io::Read + Seek>(
    to: &mut ZipWriter<Cursor<Vec<u8>>>,
    from: &mut ZipArchive<R>,
    index: usize,
) -> Result<(), zip::result::ZipError> {
    to.raw_copy_file(from.by_index_raw(index)?)
}
