//! `$LATEST` changes: its code, its configuration.

use serde_json::Value;

use super::{
    activate,
    config::{expect_settled, set_state},
    op::{Named, Op},
};
use crate::{error::AwsError, names::LATEST};

/// What is said of settings that a function of an image does not have.
pub(crate) const FOR_ARCHIVES: &str =
    "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.";

impl Op<'_> {
    pub(crate) async fn update_function_code(&self) -> Result<Value, AwsError> {
        let Named { name, at: read, .. } = self.function().await?;
        self.check_architectures()?;
        let image = read.value.latest.text("PackageType") == "Image";
        if image != self.text("ImageUri").is_some() {
            return Err(AwsError::invalid(if image {
                "Please provide ImageUri when updating a function with packageType Image."
            } else {
                "Please don't provide ImageUri when updating a function with packageType Zip."
            }));
        }
        let arn = self.arn(&name, None);
        expect_settled(&arn, &read.value.latest)?;
        self.expect(read.value.latest.text("RevisionId"))?;
        let code = self.code(self.input).await?;
        let _lock = self.face.store.lock().await;
        let Named { mut at, .. } = self.function().await?;
        expect_settled(&arn, &at.value.latest)?;
        self.expect(at.value.latest.text("RevisionId"))?;
        let latest = &mut at.value.latest;
        if self.flag("DryRun") {
            let mut dry = latest.clone();
            dry.config.insert("CodeSize".to_owned(), code.size.into());
            dry.config.insert("CodeSha256".to_owned(), code.sha256.into());
            return Ok(self.shown(&name, LATEST, &dry, None));
        }
        self.expect_unpacked(&code)?;
        latest.code = code.digest;
        latest.image = code.image;
        latest.config.insert("CodeSize".to_owned(), code.size.into());
        latest.config.insert("CodeSha256".to_owned(), code.sha256.into());
        self.attach_layers(latest, None).await?;
        self.touch(&mut latest.config);
        set_state(
            &mut latest.config,
            "Update",
            "InProgress",
            Some(("The function is being created.", "Creating")),
        );
        let mut shown = self.shown(&name, LATEST, latest, None);
        if self.flag("Publish") {
            shown = self.publish(&name, &mut at.value, None);
        }
        self.put(&name, &at).await?;
        activate::later(self.face, &self.around.scope, &name);
        Ok(shown)
    }

    pub(crate) async fn update_function_configuration(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, mut at, .. } = self.function().await?;
        let latest = &mut at.value.latest;
        expect_settled(&self.arn(&name, None), latest)?;
        self.expect(latest.text("RevisionId"))?;
        let layers = self.layers_asked().await?;
        if layers.is_some() && latest.image.is_some() {
            return Err(AwsError::invalid(FOR_ARCHIVES));
        }
        self.configure(&mut latest.config, &name)?;
        self.attach_layers(latest, layers).await?;
        self.touch(&mut latest.config);
        set_state(
            &mut latest.config,
            "Update",
            "InProgress",
            Some(("The function is being created.", "Creating")),
        );
        let shown = self.shown(&name, LATEST, latest, None);
        self.put(&name, &at).await?;
        activate::later(self.face, &self.around.scope, &name);
        Ok(shown)
    }
}
