//! The operations on who signs in: providers, members, trust policies, sessions.

use http::Method;
use rouse_types::{Provider, Trust};

use super::{
    Body, Id, Operation,
    build::{of, operation},
};
use crate::{
    ApiKeyInfo, MemberInfo, MemberRequest, NewApiKey, ProviderInfo, SignInOption, SignInRequest, TrustInfo,
};

pub(super) const SIGN_IN_OPTIONS: Operation = operation(
    Id::SignInOptions,
    Method::GET,
    "/v1/sign-in",
    "Lists the providers of identities with which people sign in.",
)
.open()
.response(Body::Json(of::<Vec<SignInOption>>));

pub(super) const SIGN_IN: Operation = operation(
    Id::SignIn,
    Method::POST,
    "/v1/sign-in",
    "Exchanges a provider's token for a key that lives for hours: as a member, or by a trust policy. \
             A token does so once. Whatever is wrong is answered the same.",
)
.open()
.request(Body::Json(of::<SignInRequest>))
.response(Body::Json(of::<NewApiKey>));

pub(super) const SIGN_OUT: Operation =
    operation(Id::SignOut, Method::DELETE, "/v1/sign-in", "Ends the session whose key is shown.")
        .response(Body::Json(of::<ApiKeyInfo>));

pub(super) const LIST_PROVIDERS: Operation =
    operation(Id::ListProviders, Method::GET, "/v1/providers", "Lists the providers of identities.")
        .response(Body::Json(of::<Vec<ProviderInfo>>));

pub(super) const PUT_PROVIDER: Operation = operation(
    Id::PutProvider,
    Method::PUT,
    "/v1/providers/{provider}",
    "Sets a provider of identities, whole. Its configuration and keys are fetched first.",
)
.request(Body::Json(of::<Provider>))
.response(Body::Json(of::<ProviderInfo>));

pub(super) const DELETE_PROVIDER: Operation = operation(
    Id::DeleteProvider,
    Method::DELETE,
    "/v1/providers/{provider}",
    "Deletes a provider of identities, and ends the sessions of whoever signed in by it.",
)
.response(Body::Json(of::<ProviderInfo>));

pub(super) const LIST_MEMBERS: Operation =
    operation(Id::ListMembers, Method::GET, "/v1/tenants/{tenant}/members", "Lists the members.")
        .response(Body::Json(of::<Vec<MemberInfo>>));

pub(super) const PUT_MEMBER: Operation = operation(
    Id::PutMember,
    Method::POST,
    "/v1/tenants/{tenant}/members",
    "Makes someone a member, or gives a member another role, which ends their sessions.",
)
.request(Body::Json(of::<MemberRequest>))
.response(Body::Json(of::<MemberInfo>));

pub(super) const DELETE_MEMBER: Operation = operation(
    Id::DeleteMember,
    Method::DELETE,
    "/v1/tenants/{tenant}/members/{member}",
    "Removes a member, and ends their sessions at once.",
)
.response(Body::Json(of::<MemberInfo>));

pub(super) const LIST_TRUST: Operation =
    operation(Id::ListTrust, Method::GET, "/v1/tenants/{tenant}/trust", "Lists the trust policies.")
        .response(Body::Json(of::<Vec<TrustInfo>>));

pub(super) const PUT_TRUST: Operation = operation(
    Id::PutTrust,
    Method::PUT,
    "/v1/tenants/{tenant}/trust/{trust}",
    "Sets a trust policy, whole: builds whose tokens it fits get a key without a stored secret. Ends the \
             sessions of the policy before.",
)
.request(Body::Json(of::<Trust>))
.response(Body::Json(of::<TrustInfo>));

pub(super) const DELETE_TRUST: Operation = operation(
    Id::DeleteTrust,
    Method::DELETE,
    "/v1/tenants/{tenant}/trust/{trust}",
    "Deletes a trust policy, and ends the sessions that it let in at once.",
)
.response(Body::Json(of::<TrustInfo>));
