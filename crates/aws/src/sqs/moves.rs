//! Moving messages out of a queue for dead letters.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use rouse_api::{
    QueueSummary,
    queues::{Move, MoveState, Moving},
};
use serde_json::{Value, json};

use super::{Op, invalid};
use crate::error::AwsError;

impl Op<'_> {
    /// The queue that `SourceArn` names.
    fn source(&self, arn: &str) -> Result<String, AwsError> {
        let queue = self.around.scope.queue_of(arn).ok_or_else(no_resource)?;
        Ok(queue.to_owned())
    }

    pub(super) async fn start_message_move_task(&self) -> Result<Value, AwsError> {
        let arn = self.text("SourceArn").unwrap_or_default();
        let queue = self.source(arn)?;
        let all: Vec<QueueSummary> = self.manage(Method::GET, "", &()).await?;
        if !all.iter().any(|summary| summary.name == queue) {
            return Err(no_resource());
        }
        let takes =
            |summary: &QueueSummary| summary.dead_letters.as_ref().is_some_and(|to| to.queue == queue);
        if !all.iter().any(takes) {
            return Err(invalid("Source queue must be configured as a Dead Letter Queue."));
        }
        let to = match self.text("DestinationArn") {
            Some(arn) => Some(self.source(arn)?),
            None => None,
        };
        let per_second = self.number("MaxNumberOfMessagesPerSecond", 1..=500)?;
        let how = Move { to, per_second: per_second.and_then(|most| u32::try_from(most).ok()) };
        let moving: Moving = self.ask(Method::POST, &queue, "move", &how).await?;
        Ok(json!({ "TaskHandle": handle(&moving.id, arn) }))
    }

    pub(super) async fn list_message_move_tasks(&self) -> Result<Value, AwsError> {
        let arn = self.text("SourceArn").unwrap_or_default();
        let queue = self.source(arn)?;
        let most = self.number("MaxResults", 1..=10)?.unwrap_or(1);
        let moves: Vec<Moving> =
            self.ask(Method::GET, &queue, "moves", &()).await.map_err(missing_resource)?;
        let shown = moves.iter().take(usize::try_from(most).unwrap_or(1)).map(|moving| {
            let running = moving.state == MoveState::Running;
            json!({
                "TaskHandle": running.then(|| handle(&moving.id, arn)),
                "Status": match moving.state {
                    MoveState::Running => "RUNNING",
                    MoveState::Completed => "COMPLETED",
                    MoveState::Cancelled => "CANCELLED",
                    MoveState::Failed => "FAILED",
                },
                "SourceArn": arn,
                "DestinationArn": moving.to.as_ref().map(|to| self.arn(to)),
                "MaxNumberOfMessagesPerSecond": moving.per_second,
                "ApproximateNumberOfMessagesMoved": moving.moved,
                "ApproximateNumberOfMessagesToMove": moving.wanted,
                "FailureReason": moving.reason,
                "StartedTimestamp": moving.started.as_millis(),
            })
        });
        Ok(json!({ "Results": shown.collect::<Vec<_>>() }))
    }

    pub(super) async fn cancel_message_move_task(&self) -> Result<Value, AwsError> {
        let given = self.text("TaskHandle").unwrap_or_default();
        let task: Value = STANDARD
            .decode(given)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| invalid("Value for parameter TaskHandle is invalid."))?;
        let (id, arn) =
            (task["taskId"].as_str().unwrap_or("-"), task["sourceArn"].as_str().unwrap_or_default());
        let id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let path = format!("moves/{id}");
        let stopped = self.ask(Method::DELETE, &self.source(arn)?, &path, &()).await;
        let moving: Moving = stopped.map_err(missing_resource)?;
        Ok(json!({ "ApproximateNumberOfMessagesMoved": moving.moved }))
    }
}

fn handle(id: &str, arn: &str) -> String {
    STANDARD.encode(json!({ "taskId": id, "sourceArn": arn }).to_string())
}

fn no_resource() -> AwsError {
    AwsError::new(
        "ResourceNotFoundException",
        "The resource that you specified for the SourceArn parameter doesn't exist.",
    )
}

/// What is not there is a resource to these operations.
fn missing_resource(error: AwsError) -> AwsError {
    match error.name {
        "InternalFailure" | "QueueDoesNotExist" => no_resource(),
        _ => error,
    }
}
