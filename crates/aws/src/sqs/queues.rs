//! Queues: made, found, changed, emptied, deleted.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use rouse_api::{EventCount, QueueChange, QueueDetail, QueueSummary};
use serde_json::{Map, Value, json};

use super::{Op, attributes, invalid, no_queue};
use crate::error::AwsError;

/// Queues of one page.
const PAGE_MAX: i64 = 1_000;

impl Op<'_> {
    fn map(&self, member: &str) -> Map<String, Value> {
        self.input.get(member).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    async fn detail(&self, queue: &str) -> Result<QueueDetail, AwsError> {
        self.manage(Method::GET, queue, &()).await
    }

    async fn change(&self, change: &QueueChange) -> Result<Value, AwsError> {
        let _: QueueDetail = self.manage(Method::PATCH, &self.queue()?, change).await?;
        Ok(Value::Null)
    }

    pub(super) async fn create_queue(&self) -> Result<Value, AwsError> {
        let name = self.text("QueueName").unwrap_or_default();
        let stem = name.strip_suffix(".fifo").unwrap_or(name);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if name.len() > 80 || stem.is_empty() || !stem.bytes().all(plain) {
            return Err(invalid(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            ));
        }
        let given = self.map("Attributes");
        let mut change = attributes::change(&self.around.scope, name, &given, true)?;
        change.tags = tags(&self.map("tags"));
        let detail: QueueDetail = self.manage(Method::PUT, name, &change).await?;
        if !detail.made {
            let all = attributes::shown(&self.around.scope, &detail);
            if let Some(differing) = attributes::differing(&given, &all) {
                return Err(AwsError::new(
                    "QueueNameExists",
                    format!(
                        "A queue already exists with the same name and a different value for attribute {differing}"
                    ),
                ));
            }
        }
        Ok(json!({ "QueueUrl": self.url(name) }))
    }

    pub(super) async fn delete_queue(&self) -> Result<Value, AwsError> {
        let _: EventCount = self.manage(Method::DELETE, &self.queue()?, &()).await?;
        Ok(Value::Null)
    }

    pub(super) async fn get_queue_url(&self) -> Result<Value, AwsError> {
        let name = self.text("QueueName").unwrap_or_default();
        let own = self.text("QueueOwnerAWSAccountId").is_none_or(|owner| owner == self.around.scope.account);
        if !own || !rouse_types::trigger::is_queue_name(name) {
            return Err(no_queue());
        }
        self.detail(name).await?;
        Ok(json!({ "QueueUrl": self.url(name) }))
    }

    async fn summaries(&self) -> Result<Vec<QueueSummary>, AwsError> {
        self.manage(Method::GET, "", &()).await
    }

    /// One page of queues, by name, and what gives the next one.
    fn page(&self, names: impl Iterator<Item = String>) -> Result<(Vec<String>, Option<String>), AwsError> {
        let most = self.number("MaxResults", 1..=PAGE_MAX)?;
        let after = match self.text("NextToken") {
            None => None,
            Some(token) => {
                let text = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Some(text.ok_or_else(|| invalid("Invalid or expired next token."))?)
            }
        };
        let mut names = names.skip_while(|name| after.as_ref().is_some_and(|after| name <= after));
        let most = usize::try_from(most.unwrap_or(1_000)).unwrap_or(1);
        let page: Vec<String> = names.by_ref().take(most).collect();
        // Who names no size gets what fits into one answer, and no token.
        let more = self.input.get("MaxResults").is_some() && names.next().is_some();
        let next = page.last().filter(|_| more).map(|last| STANDARD.encode(last));
        Ok((page.iter().map(|name| self.url(name)).collect(), next))
    }

    pub(super) async fn list_queues(&self) -> Result<Value, AwsError> {
        let prefix = self.text("QueueNamePrefix").unwrap_or_default();
        let all = self.summaries().await?.into_iter().map(|queue| queue.name);
        let (urls, next) = self.page(all.filter(|name| name.starts_with(prefix)))?;
        let urls = Some(urls).filter(|urls| !urls.is_empty());
        Ok(json!({ "QueueUrls": urls, "NextToken": next }))
    }

    pub(super) async fn list_dead_letter_source_queues(&self) -> Result<Value, AwsError> {
        let queue = self.queue()?;
        self.detail(&queue).await?;
        let goes_here =
            |summary: &QueueSummary| summary.dead_letters.as_ref().is_some_and(|to| to.queue == queue);
        let all = self.summaries().await?.into_iter().filter(goes_here).map(|queue| queue.name);
        let (urls, next) = self.page(all)?;
        Ok(json!({ "queueUrls": urls, "NextToken": next }))
    }

    pub(super) async fn get_queue_attributes(&self) -> Result<Value, AwsError> {
        let detail = self.detail(&self.queue()?).await?;
        let names = self.input.get("AttributeNames").and_then(Value::as_array).cloned().unwrap_or_default();
        let named = attributes::named(attributes::shown(&self.around.scope, &detail), &names)?;
        Ok(json!({ "Attributes": Some(named).filter(|named| !named.is_empty()) }))
    }

    pub(super) async fn set_queue_attributes(&self) -> Result<Value, AwsError> {
        let queue = self.queue()?;
        let change = attributes::change(&self.around.scope, &queue, &self.map("Attributes"), false)?;
        self.change(&change).await
    }

    pub(super) async fn purge_queue(&self) -> Result<Value, AwsError> {
        self.ask(Method::POST, &self.queue()?, "purge", &()).await
    }

    pub(super) async fn tag_queue(&self) -> Result<Value, AwsError> {
        self.change(&QueueChange { tags: tags(&self.map("Tags")), ..QueueChange::default() }).await
    }

    pub(super) async fn untag_queue(&self) -> Result<Value, AwsError> {
        let keys = self.input.get("TagKeys").and_then(Value::as_array).into_iter().flatten();
        let tags = keys.filter_map(Value::as_str).map(|key| (key.to_owned(), None));
        self.change(&QueueChange { tags: tags.collect(), ..QueueChange::default() }).await
    }

    pub(super) async fn list_queue_tags(&self) -> Result<Value, AwsError> {
        let tags = self.detail(&self.queue()?).await?.settings.tags;
        Ok(json!({ "Tags": Some(tags).filter(|tags| !tags.is_empty()) }))
    }
}

fn tags(map: &Map<String, Value>) -> std::collections::BTreeMap<String, Option<String>> {
    map.iter().map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned))).collect()
}
