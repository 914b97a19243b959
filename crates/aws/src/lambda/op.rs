//! What every operation needs: its input, the function that it names, and the change of what is remembered of it.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    error::AwsError,
    face::{Around, Face},
    names::LATEST,
    state::{self, At, Function, Version},
};

/// Items of one page where a client names no number.
const PAGE: u64 = 50;

/// One operation under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op<'a> {
    pub(crate) face: &'a Arc<Face>,
    pub(crate) around: &'a Around,
    pub(crate) input: &'a Value,
}

/// A function that a request names.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// As the request has it.
    pub(crate) qualifier: Option<String>,
    pub(crate) at: At<Function>,
}

impl Op<'_> {
    pub(crate) fn text(&self, member: &str) -> Option<&str> {
        self.input.get(member).and_then(Value::as_str)
    }

    pub(crate) fn number(&self, member: &str) -> Option<u64> {
        self.input.get(member).and_then(Value::as_u64)
    }

    pub(crate) fn flag(&self, member: &str) -> bool {
        self.input.get(member).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The function's name and the qualifier, of `FunctionName` and `Qualifier`.
    pub(crate) fn name(&self) -> Result<(String, Option<String>), AwsError> {
        self.around.scope.read(self.text("FunctionName").unwrap_or_default(), self.text("Qualifier"))
    }

    pub(crate) fn arn(&self, name: &str, qualifier: Option<&str>) -> String {
        self.around.scope.function(name, qualifier)
    }

    pub(crate) fn not_found(&self, name: &str, qualifier: Option<&str>) -> AwsError {
        AwsError::not_found(format!("Function not found: {}", self.arn(name, qualifier)))
    }

    /// The function that the request names.
    pub(crate) async fn function(&self) -> Result<Named, AwsError> {
        let (name, qualifier) = self.name()?;
        let at = self.find(&name).await?.ok_or_else(|| self.not_found(&name, qualifier.as_deref()))?;
        Ok(Named { name, qualifier, at })
    }

    /// The function that the request names, which has no qualifier but perhaps that of an existing version or alias.
    pub(crate) async fn qualified(&self) -> Result<Named, AwsError> {
        let named = self.function().await?;
        if let Some(qualifier) = &named.qualifier {
            let function = &named.at.value;
            if function.version(qualifier).is_none() && !function.aliases.contains_key(qualifier) {
                return Err(self.not_found(&named.name, Some(qualifier)));
            }
        }
        Ok(named)
    }

    /// The same, where a name that is no number is said to be that of no alias.
    pub(crate) async fn named(&self) -> Result<Named, AwsError> {
        let (name, qualifier) = self.name()?;
        let at = self.find(&name).await?;
        let is_there = |at: &At<Function>| {
            qualifier.as_ref().is_none_or(|qualifier| {
                at.value.version(qualifier).is_some() || at.value.aliases.contains_key(qualifier)
            })
        };
        match at.filter(is_there) {
            Some(at) => Ok(Named { name, qualifier, at }),
            None => Err(match qualifier.as_deref().filter(|qualifier| is_alias(qualifier)) {
                Some(alias) => self.no_alias(&name, alias),
                None => self.not_found(&name, qualifier.as_deref()),
            }),
        }
    }

    pub(crate) fn no_alias(&self, name: &str, alias: &str) -> AwsError {
        AwsError::not_found(format!("Cannot find alias arn: {}", self.arn(name, Some(alias))))
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Option<At<Function>>, AwsError> {
        self.face.store.get(state::FUNCTIONS, &self.around.scope.tenant, name).await
    }

    pub(crate) async fn put(&self, name: &str, at: &At<Function>) -> Result<(), AwsError> {
        self.face.store.put(state::FUNCTIONS, &self.around.scope.tenant, name, at).await
    }

    /// All functions of the tenant, by name.
    pub(crate) async fn all(&self) -> Result<Vec<(String, Function)>, AwsError> {
        self.face.store.list(state::FUNCTIONS, &self.around.scope.tenant, "").await
    }

    /// Checks the revision of a function or alias that a client expects, if it names one.
    pub(crate) fn expect(&self, now: &str) -> Result<(), AwsError> {
        self.expect_revision(now, "GetFunction/GetAlias")
    }

    /// The same of what another operation shows.
    pub(crate) fn expect_revision(&self, now: &str, of: &str) -> Result<(), AwsError> {
        match self.text("RevisionId") {
            Some(expected) if expected != now => Err(AwsError::new(
                "PreconditionFailedException",
                format!(
                    "The Revision Id provided does not match the latest Revision Id. Call the {of} API to retrieve the \
                     latest Revision Id"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// One page of items that are sorted by their keys: those after the marker, and the marker of the next page.
    pub(crate) fn page<T>(&self, items: Vec<(String, T)>) -> Result<(Vec<T>, Option<String>), AwsError> {
        use base64::Engine as _;
        let engine = &base64::engine::general_purpose::STANDARD;
        let after = match self.text("Marker").filter(|marker| !marker.is_empty()) {
            None => None,
            Some(marker) => {
                let text = engine.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Some(text.ok_or_else(|| AwsError::invalid("Invalid pagination token"))?)
            }
        };
        let most = usize::try_from(self.number("MaxItems").unwrap_or(PAGE).clamp(1, PAGE)).unwrap_or(1);
        let mut items =
            items.into_iter().skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
        let mut page = Vec::new();
        let mut last = None;
        for (key, item) in items.by_ref().take(most) {
            last = Some(key);
            page.push(item);
        }
        let more = items.next().is_some();
        Ok((page, last.filter(|_| more).map(|last| engine.encode(last))))
    }
}

/// Whether an alias could have this name.
fn is_alias(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    name.bytes().all(fits) && !name.bytes().all(|byte| byte.is_ascii_digit())
}

impl Named {
    /// The version that a qualifier means: a version, or the first of an alias; `$LATEST` when there is none.
    pub(crate) fn version(&self) -> Option<(String, &Version)> {
        let function = &self.at.value;
        let name = self.qualifier.as_deref().unwrap_or(LATEST);
        let name = function.aliases.get(name).map_or(name, |alias| alias.version.as_str());
        Some((name.to_owned(), function.version(name)?))
    }
}
