//! The nouns of the platform: names, ids, functions, invocations, outcomes, limits, error codes, time.
//!
//! Invariant: no I/O, no async, no global state. Everything else in the workspace depends on this
//! crate; it depends on none of ours.

pub mod access_key;
pub mod api_key;
pub mod app;
pub mod chain;
pub mod clock;
pub mod domain;
pub mod egress;
pub mod error;
pub mod event;
pub mod framed;
pub mod function;
pub mod id;
pub mod identity;
pub mod image;
pub mod instance;
pub mod invocation;
pub mod journalled;
pub mod limits;
pub mod log;
pub mod name;
pub mod node;
pub mod object;
pub mod policy;
pub mod quota;
pub mod role;
pub mod size;
pub mod trace;
pub mod trigger;
pub mod usage;

pub use access_key::{AccessKey, AccessKeys};
pub use api_key::ApiKey;
pub use app::{Alias, AliasWeight, AppSnapshot, FunctionRoute, LIVE};
pub use chain::Chain;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use domain::Domain;
pub use egress::{Destination, Egress};
pub use error::{Code, Refusal};
pub use event::{Delivery, Event, EventCall, OnceHead};
pub use function::{
    Contract, FunctionVersion, HttpSettings, Isolation, LambdaSettings, Protocol, Runtime, Scaling, Signature,
};
pub use id::{Digest, InvocationId};
pub use identity::{Grant, Member, MemberIs, Pattern, Provider, Session, Trust};
pub use image::Image;
pub use instance::{InstanceInfo, InstanceState};
pub use invocation::{Invocation, LambdaCall, OutcomeHead, Source};
pub use limits::Limits;
pub use log::LogLine;
pub use name::{AliasName, AppName, FunctionName, ProviderName, TenantId, TrustName};
pub use node::{NodeState, Work};
pub use object::ObjectEvent;
pub use policy::InvokePolicy;
pub use quota::{Budget, FunctionLimits, Quota, Quotas, TenantLimits};
pub use role::Role;
pub use trace::TraceContext;
pub use trigger::{EventSettings, EventTarget, Trigger};
pub use usage::{Outcome, Pricing, Timing, Usage};
