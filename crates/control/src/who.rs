//! Who asks, and whether they may: decided before anything of the request but its head is read.
//!
//! ```text
//!  token ─▶ operator ─────────────────────────▶ is the tenant there? ─▶ yes
//!    └────▶ key ─▶ its own tenant? ─▶ its role? ─▶ its functions? ───▶ yes
//!  401        └─ 404, as if it were not there  403        404
//! ```

use http::{HeaderMap, header};
use rouse_api::{
    LogsQuery, WhoAmI,
    operation::{Access, Id, Params, access},
    query,
};
use rouse_types::{ApiKey, Code, FunctionName, Refusal, Role, TenantId, api_key};

use crate::{change::no_function, control::Control, state};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Who has the platform's token: over all tenants.
    Operator,
    /// Who has an API key.
    Key {
        /// Its id.
        id: String,
        /// All else of it.
        key: Box<ApiKey>,
    },
}

impl Who {
    /// The tenant that alone they may know of; none for the operator.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Operator => None,
            Self::Key { key, .. } => Some(&key.tenant),
        }
    }

    /// As the audit log names them.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Operator => "operator".to_owned(),
            Self::Key { id, key } => match &key.session {
                Some(session) => format!("{} of {}, key {id}", session.name, session.issuer),
                None => format!("key {id}"),
            },
        }
    }

    pub(crate) fn told(&self) -> WhoAmI {
        match self {
            Self::Operator => WhoAmI {
                tenant: None,
                role: None,
                key: None,
                functions: Vec::new(),
                expires: None,
                session: None,
            },
            Self::Key { id, key } => WhoAmI {
                tenant: Some(key.tenant.clone()),
                role: Some(key.role),
                key: Some(id.clone()),
                functions: key.functions.clone(),
                expires: key.expires,
                session: key.session.clone(),
            },
        }
    }
}

impl Control {
    /// Who asks, by the token or key in the head.
    pub(crate) async fn who(&self, headers: &HeaderMap) -> Result<Who, Refusal> {
        let refuse = |what| {
            Refusal::new(Code::Unauthorized, what).hint(
                "sign in with `rouse login`, or give an API key (`rouse key create`) or the operator's token with \
                 --token or ROUSE_TOKEN",
            )
        };
        let given = bearer(headers).ok_or_else(|| refuse("the request has no token"))?;
        if self.token.is(given) {
            return Ok(Who::Operator);
        }
        // The same for what was never a key, was revoked, and is another's: nothing to learn by trying.
        let unknown = || refuse("the token is not one of this platform");
        let id = api_key::id(given).ok_or_else(unknown)?;
        let key = state::get::<ApiKey>(&self.records, state::API_KEYS, id).await?;
        let key = key.map(|at| at.value).filter(|key| key.is(given)).ok_or_else(unknown)?;
        if key.has_expired(self.config.clock.now()) {
            let hint = match key.session {
                Some(_) => "sign in again with `rouse login`",
                None => "an owner of the tenant makes a new one with `rouse key create`",
            };
            return Err(Refusal::new(Code::Unauthorized, format!("the key {id} has expired")).hint(hint));
        }
        Ok(Who::Key { id: id.to_owned(), key: Box::new(key) })
    }

    /// Whether they may ask for this.
    pub(crate) async fn allow(
        &self,
        who: &Who,
        id: Id,
        params: &Params,
        query_text: &str,
    ) -> Result<(), Refusal> {
        let tenant = match params.get("tenant") {
            "" => None,
            _ => Some(params.parse::<TenantId>("tenant")?),
        };
        match who {
            Who::Key { key, .. } => {
                let function = match id {
                    Id::Logs => query::read::<LogsQuery>(query_text)?.function,
                    // One that is no name is of no key, and refused as what it is where it is read.
                    _ => params.parse::<FunctionName>("function").ok(),
                };
                permit(key, id, tenant.as_ref(), function.as_ref())
            }
            Who::Operator => match tenant {
                Some(tenant) if id != Id::CreateTenant => self.tenant(&tenant).await.map(drop),
                _ => Ok(()),
            },
        }
    }
}

/// Whether a key may ask for an operation on a tenant and a function. Pure.
fn permit(
    key: &ApiKey,
    id: Id,
    tenant: Option<&TenantId>,
    function: Option<&FunctionName>,
) -> Result<(), Refusal> {
    if let Some(tenant) = tenant.filter(|tenant| **tenant != key.tenant) {
        return Err(Refusal::new(
            Code::TenantNotFound,
            format!("there is no tenant '{tenant}', or not for this key"),
        )
        .hint("`rouse whoami` shows whose the key is; name that tenant with --tenant"));
    }
    let access = access(id);
    if !access.allows(key.role) {
        let what = format!("a key with the role {} may not ask for {}", key.role, id.as_str());
        let refusal = Refusal::new(Code::Forbidden, what);
        return Err(match access {
            Access::Roles(roles) => {
                let roles: Vec<_> = roles.iter().copied().map(Role::as_str).collect();
                refusal.hint(format!(
                    "roles that may: {}; an owner of the tenant makes a key with `rouse key create --role`",
                    roles.join(", ")
                ))
            }
            _ => refusal.hint("it is for the platform's operator, with the token in <state>/control/token"),
        });
    }
    if key.functions.is_empty() || !matches!(access, Access::Roles(_)) || id == Id::GetTenant {
        return Ok(());
    }
    match function {
        Some(function) if key.is_for(function.as_str()) => Ok(()),
        // As if it were not there.
        Some(function) => Err(no_function(function)),
        None => Err(Refusal::new(
            Code::Forbidden,
            format!("the key is for some functions alone, and {} is not about one of them", id.as_str()),
        )
        .hint("`rouse whoami` shows which; an owner makes a key without --function for more")),
    }
}

/// The token of the header `authorization` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use rouse_api::operation::ALL;
    use rouse_types::{Digest, Timestamp};

    use super::*;

    fn key(role: Role, functions: &[&str]) -> ApiKey {
        ApiKey {
            tenant: "shop".parse().expect("a name"),
            role,
            functions: functions.iter().map(|name| name.parse().expect("a name")).collect(),
            digest: Digest::of(b""),
            created: Timestamp::default(),
            expires: None,
            note: None,
            rotated_to: None,
            session: None,
        }
    }

    fn code(key: &ApiKey, id: Id, tenant: Option<&str>, function: Option<&str>) -> Option<Code> {
        let tenant = tenant.map(|name| name.parse().expect("a name"));
        let function = function.map(|name| name.parse().expect("a name"));
        permit(key, id, tenant.as_ref(), function.as_ref()).err().map(|refusal| refusal.code)
    }

    #[test]
    fn of_another_tenant_no_key_learns_more_than_of_none() {
        for role in Role::ALL {
            for operation in ALL.iter().filter(|operation| operation.path.contains("{tenant}")) {
                let found = code(&key(role, &[]), operation.id, Some("other"), Some("f"));
                assert_eq!(found, Some(Code::TenantNotFound), "{role}: {}", operation.path);
            }
        }
    }

    #[test]
    fn a_role_is_what_the_table_says() {
        for operation in ALL {
            for role in Role::ALL {
                let of = operation.path.contains("{tenant}").then_some("shop");
                let found = code(&key(role, &[]), operation.id, of, Some("f"));
                let expected = (!access(operation.id).allows(role)).then_some(Code::Forbidden);
                assert_eq!(found, expected, "{role}: {}", operation.path);
            }
        }
    }

    #[test]
    fn a_key_for_some_functions_is_for_nothing_else() {
        let key = key(Role::Deployer, &["cart"]);
        assert_eq!(code(&key, Id::Invoke, Some("shop"), Some("cart")), None);
        assert_eq!(code(&key, Id::Invoke, Some("shop"), Some("photos")), Some(Code::FunctionNotFound));
        assert_eq!(code(&key, Id::Logs, Some("shop"), Some("cart")), None);
        for id in [Id::Logs, Id::ListApps, Id::Deploy, Id::SendMessage, Id::PublishEvents, Id::ListEvents] {
            assert_eq!(code(&key, id, Some("shop"), None), Some(Code::Forbidden), "{}", id.as_str());
        }
        assert_eq!(code(&key, Id::PutBlob, None, None), Some(Code::Forbidden));
        assert_eq!(code(&key, Id::WhoAmI, None, None), None);
    }

    #[test]
    fn a_token_is_read_as_rfc_6750_writes_it() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", value.parse().expect("a header"));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(read("bearer  abc "), Some("abc".to_owned()));
        for wrong in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
