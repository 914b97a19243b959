//! What is known of one instance: what `rouse ps` lists.

use serde::{Deserialize, Serialize};

use crate::{AppName, FunctionName, Isolation, TenantId, Timestamp};

/// Where an instance is in its life: `Starting → Idle ⇄ Busy`, `Idle ⇄ Frozen`, and gone.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Its sandbox is being made, or its code has not asked for work yet.
    Starting,
    /// It waits for an invocation and may run meanwhile.
    Idle,
    /// It runs an invocation.
    Busy,
    /// It waits for an invocation and uses no CPU.
    Frozen,
}

impl InstanceState {
    /// Every state, in the order of a life.
    pub const ALL: &[Self] = &[Self::Starting, Self::Idle, Self::Busy, Self::Frozen];

    /// The same words as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Frozen => "frozen",
        }
    }
}

/// One living instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InstanceInfo {
    /// Whose it is.
    pub tenant: TenantId,
    /// The app.
    pub app: AppName,
    /// The function.
    pub function: FunctionName,
    /// The version's number.
    pub version: u64,
    /// Its id, also its sandbox' id on this host.
    pub id: String,
    /// How it is confined.
    pub isolation: Isolation,
    /// Where it is in its life.
    pub state: InstanceState,
    /// When its start began.
    pub started: Timestamp,
    /// Invocations that it has finished.
    pub invocations: u64,
    /// The most memory that it held at once, in bytes, when its last invocation ended; zero before, and where
    /// the host cannot say.
    pub memory_bytes: u64,
    /// CPU time that it had used, in microseconds, when its last invocation ended.
    pub cpu_us: u64,
}
