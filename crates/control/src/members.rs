//! Members of tenants: records of the store. Whoever is removed, or given another role, has no session left from then on.

use rouse_api::{MemberInfo, MemberRequest};
use rouse_store::records::Expect;
use rouse_types::{Code, Grant, Member, Refusal, Role, TenantId};

use crate::{
    control::Control,
    providers,
    state::{self, ATTEMPTS_MAX, At, MEMBERS, TRUST},
    who::Who,
};

/// Members of one tenant. More come as groups.
const MEMBERS_MAX: usize = 1_000;

impl Control {
    pub(crate) async fn members(&self, tenant: &TenantId) -> Result<Vec<At<Member>>, Refusal> {
        state::scan(&self.records, MEMBERS, &format!("{tenant}/")).await
    }

    pub(crate) async fn list_members(&self, tenant: &TenantId) -> Result<Vec<MemberInfo>, Refusal> {
        Ok(self.members(tenant).await?.into_iter().map(shown).collect())
    }

    pub(crate) async fn put_member(
        &self,
        who: &Who,
        tenant: &TenantId,
        request: MemberRequest,
    ) -> Result<MemberInfo, Refusal> {
        let MemberRequest { is, provider, role } = request;
        let is =
            is.to_string().parse::<rouse_types::MemberIs>().ok().filter(|read| same(read, &is)).ok_or_else(
                || {
                    Refusal::new(Code::BadRequest, format!("'{is}' is nobody"))
                        .hint("an e-mail address, a subject or a group has 1 to 255 printable bytes")
                },
            )?;
        let issuer = self.issuer_for_people(provider.as_ref()).await?;
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        let id = Member::id(&issuer, &is);
        let key = format!("{tenant}/{id}");
        for _ in 0..ATTEMPTS_MAX {
            let known = self.members(tenant).await?;
            let before = known.iter().find(|at| at.key == key);
            match before {
                Some(at) if at.value.role == role => return Ok(shown(at.clone())),
                Some(at) => keep_an_owner(who, tenant, &known, at)?,
                None if known.len() >= MEMBERS_MAX => {
                    return Err(Refusal::new(
                        Code::BadRequest,
                        format!("tenant '{tenant}' has {MEMBERS_MAX} members already"),
                    )
                    .hint("make a group of the provider a member instead of each in it"));
                }
                None => {}
            }
            let created = before.map_or_else(|| self.config.clock.now(), |at| at.value.created);
            let member = Member { issuer: issuer.clone(), is: is.clone(), role, created };
            let write = state::put(MEMBERS, key.clone(), &member, state::unchanged(before))?;
            if self.end_sessions(tenant, &Grant::Member(id.clone()), write).await? {
                tracing::info!(%tenant, member = %member.is, %role, "made a member");
                return Ok(MemberInfo { id, is, issuer, role, created });
            }
        }
        Err(state::contended())
    }

    pub(crate) async fn delete_member(
        &self,
        who: &Who,
        tenant: &TenantId,
        id: &str,
    ) -> Result<MemberInfo, Refusal> {
        let _lock = self.locks.hold(format!("api keys {tenant}")).await;
        for _ in 0..ATTEMPTS_MAX {
            let known = self.members(tenant).await?;
            let found = known.iter().find(|at| id_of(&at.key) == id).ok_or_else(|| {
                let named: String = id.chars().take(60).collect();
                Refusal::new(Code::MemberNotFound, format!("tenant '{tenant}' has no member '{named}'"))
                    .hint("`rouse member list` shows which there are")
            })?;
            keep_an_owner(who, tenant, &known, found)?;
            let write = state::delete(MEMBERS, found.key.clone(), state::unchanged(Some(found)));
            if self.end_sessions(tenant, &Grant::Member(id.to_owned()), write).await? {
                tracing::info!(%tenant, member = %found.value.is, "removed a member");
                return Ok(shown(found.clone()));
            }
        }
        Err(state::contended())
    }

    /// Deletes all members and trust policies of a tenant that goes.
    pub(crate) async fn delete_all_grants(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let prefix = format!("{tenant}/");
        let mut writes = Vec::new();
        for namespace in [MEMBERS, TRUST] {
            let found = state::scan::<serde_json::Value>(&self.records, namespace, &prefix).await?;
            writes.extend(found.into_iter().map(|at| state::delete(namespace, at.key, Expect::Any)));
        }
        if !writes.is_empty() {
            state::commit(&self.records, writes).await?;
        }
        Ok(())
    }

    /// The issuer of the provider that is named, or of the only one with which people sign in.
    async fn issuer_for_people(&self, name: Option<&rouse_types::ProviderName>) -> Result<String, Refusal> {
        let mut options = self.sign_in_options().await?;
        if let Some(name) = name {
            let found = options.into_iter().find(|option| option.name == *name);
            return found.map(|option| option.issuer).ok_or_else(|| providers::not_found(name));
        }
        let refuse = |what: &str, hint: &str| Err(Refusal::new(Code::BadRequest, what).hint(hint));
        match options.len() {
            1 => Ok(options.remove(0).issuer),
            0 => refuse(
                "there is no provider with which people sign in",
                "the operator adds one with `rouse provider add NAME --issuer URL --client-id ID`",
            ),
            _ => {
                let names: Vec<String> = options.iter().map(|option| option.name.to_string()).collect();
                refuse(
                    "there are several providers, and who someone is depends on which says so",
                    &format!("name one with --provider: {}", names.join(", ")),
                )
            }
        }
    }
}

/// Refuses what would leave the tenant without an owner who signs in, unless the operator wants it: the operator can make
/// another.
fn keep_an_owner(
    who: &Who,
    tenant: &TenantId,
    known: &[At<Member>],
    changed: &At<Member>,
) -> Result<(), Refusal> {
    let owners = known.iter().filter(|at| at.value.role == Role::Owner).count();
    if *who == Who::Operator || changed.value.role != Role::Owner || owners > 1 {
        return Ok(());
    }
    Err(Refusal::new(
        Code::LastOwner,
        format!("{} is the last member of tenant '{tenant}' who is an owner", changed.value.is),
    )
    .hint("make another owner first with `rouse member add … --role owner`, or ask the operator"))
}

/// Whether a member that was read from a text is the one that was meant: but for the case of an address.
fn same(read: &rouse_types::MemberIs, meant: &rouse_types::MemberIs) -> bool {
    std::mem::discriminant(read) == std::mem::discriminant(meant)
}

fn id_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

fn shown(at: At<Member>) -> MemberInfo {
    let Member { issuer, is, role, created } = at.value;
    MemberInfo { id: id_of(&at.key).to_owned(), is, issuer, role, created }
}
