//! Whose request this is: decided by its key and signature, or, in development, by its coming from this machine.

use std::net::IpAddr;

use rouse_store::access_keys::{Ring, sessions::Session};
use rouse_types::{Role, TenantId, access_key};

use crate::{
    error::AwsError,
    sigv4::{self, Claim, Signed},
};

/// Who is believed.
#[derive(Debug)]
pub(crate) struct Auth {
    keys: Ring,
    any_key: bool,
}

/// What a request claims, before its body was read: the key is known, the signature not yet proven.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    pub(crate) tenant: TenantId,
    /// What the key may do.
    pub(crate) role: Role,
    /// None: any signature does.
    secret: Option<String>,
}

impl Auth {
    pub(crate) fn new(keys: Ring, any_key: bool) -> Self {
        Self { keys, any_key }
    }

    /// Finds the key that a request claims to be signed with.
    ///
    /// # Errors
    /// It claims none, or one that there is not.
    pub(crate) fn claimed(&self, request: &Signed<'_>, peer: IpAddr) -> Result<Claimed, AwsError> {
        // Asked for in development, too: what a page in a browser may send to any address has no such header.
        let claim = sigv4::claim(request)?;
        if let Some(key) = self.keys.find(&claim.key) {
            return Ok(Claimed { claim, tenant: key.tenant, role: key.role, secret: Some(key.secret) });
        }
        if self.any_key && peer.is_loopback() {
            #[expect(clippy::expect_used, reason = "a constant")]
            let tenant = TenantId::new("default").expect("a name");
            return Ok(Claimed { claim, tenant, role: access_key::role(), secret: None });
        }
        if Session::of(&claim.key).is_some_and(|session| session.is_over()) {
            let text = "The security token included in the request is expired";
            return Err(AwsError::new("ExpiredTokenException", text));
        }
        Err(AwsError::new(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ))
    }

    /// Proves the claim, now that the body is there.
    ///
    /// # Errors
    /// The signature is not the key's.
    pub(crate) fn prove(
        &self,
        claimed: &Claimed,
        request: &Signed<'_>,
        body: &[u8],
        now: i64,
    ) -> Result<(), AwsError> {
        match &claimed.secret {
            Some(secret) => sigv4::verify(&claimed.claim, request, body, secret, now),
            None => Ok(()),
        }
    }
}
