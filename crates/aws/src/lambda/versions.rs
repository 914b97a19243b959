//! Published versions: a copy of `$LATEST` that stays as it is.

use serde_json::{Value, json};

use super::{
    activate,
    config::{essence, expect_settled, revise},
    op::{Named, Op},
};
use crate::{error::AwsError, state::Function};

/// How long a version that is published is waited for.
const ACTIVE_WAIT: std::time::Duration = std::time::Duration::from_secs(20);

impl Op<'_> {
    pub(crate) async fn publish_version(&self) -> Result<Value, AwsError> {
        let lock = self.face.store.lock().await;
        let Named { name, mut at, .. } = self.function().await?;
        let latest = &at.value.latest;
        expect_settled(&self.arn(&name, None), latest)?;
        self.expect(latest.text("RevisionId"))?;
        if let Some(expected) = self.text("CodeSha256").filter(|hash| *hash != latest.text("CodeSha256")) {
            return Err(AwsError::invalid(format!(
                "CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST ({}). Please try again with the \
                 CodeSHA256 in $LATEST.",
                latest.text("CodeSha256")
            )));
        }
        let shown = self.publish(&name, &mut at.value, self.text("Description"));
        self.put(&name, &at).await?;
        drop(lock);
        // AWS' answer says `Active`.
        let active = activate::later(self.face, &self.around.scope, &name);
        let _ = tokio::time::timeout(ACTIVE_WAIT, active).await;
        let number = shown["Version"].as_str().unwrap_or_default();
        let function = self.find(&name).await?;
        let of = function.as_ref().and_then(|at| at.value.version(number));
        Ok(of.map_or_else(|| shown.clone(), |of| self.shown(&name, number, of, Some(number))))
    }

    /// Publishes `$LATEST`, unless it is what was published last.
    pub(crate) fn publish(&self, name: &str, function: &mut Function, description: Option<&str>) -> Value {
        let mut version = function.latest.clone();
        if let Some(description) = description {
            version.config.insert("Description".to_owned(), description.into());
        }
        let digest = essence(&function.latest);
        version.essence = Some(digest);
        let last = function.versions.last_key_value();
        if let Some((number, last)) = last.filter(|(_, last)| last.essence == Some(digest)) {
            let number = number.to_string();
            return self.shown(name, &number, last, Some(&number));
        }
        let number = function.next.max(1);
        revise(&mut version.config);
        revise(&mut function.latest.config);
        // It is there once the platform has it; see `activate`.
        super::config::set_state(
            &mut version.config,
            "State",
            "Pending",
            Some(("The function is being created.", "Creating")),
        );
        for member in ["LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"] {
            version.config.remove(member);
        }
        let text = number.to_string();
        let shown = self.shown(name, &text, &version, Some(&text));
        function.versions.insert(number, version);
        function.next = number + 1;
        shown
    }

    pub(crate) async fn list_versions(&self) -> Result<Value, AwsError> {
        let Named { name, at, .. } = self.function().await?;
        let items = at.value.all().enumerate().map(|(index, (version, of))| {
            (format!("{index:06}"), self.listed(&name, &version, of, Some(&version)))
        });
        let (page, next) = self.page(items.collect())?;
        Ok(json!({ "Versions": page, "NextMarker": next }))
    }
}
