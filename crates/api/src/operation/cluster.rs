//! The operations on the cluster that a platform is a node of.

use http::Method;

use super::{
    Body, Id, Operation,
    build::{of, operation},
};
use crate::{ClusterStatus, NodeChange};

pub(super) const STATUS: Operation =
    operation(Id::ClusterStatus, Method::GET, "/v1/cluster", "What this node knows of its cluster.")
        .response(Body::Json(of::<ClusterStatus>));

pub(super) const PUT_NODE: Operation = operation(
    Id::PutNode,
    Method::PUT,
    "/v1/cluster/nodes/{node}",
    "Has a node of the cluster take new work (`active`), none of its own accord (`cordoned`), or finish what it has \
     (`draining`, which becomes `drained`). It stays so when the node is started again.",
)
.request(Body::Json(of::<NodeChange>))
.response(Body::Json(of::<NodeChange>));
