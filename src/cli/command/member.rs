//! `rouse member`: people of a tenant, by what their company's provider says of them.

use rouse_api::MemberRequest;

use crate::cli::{
    args::{Global, MemberCommand},
    client, out, report,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, command: MemberCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        MemberCommand::Add { who, role, provider } => {
            let made = client.put_member(tenant, &MemberRequest { is: who, provider, role }).await?;
            if global.json {
                return out::json(&made);
            }
            out::text(&format!("{} is {} of tenant {tenant}\n", made.is, made.role))
        }
        MemberCommand::List => {
            let members = client.members(tenant).await?;
            if global.json {
                return out::json(&members);
            }
            let mut table = Table::new(&["ID", "WHO", "ROLE", "SINCE", "PROVIDER"]);
            for each in members {
                table.row([
                    each.id,
                    each.is.to_string(),
                    each.role.to_string(),
                    units::time(each.created),
                    each.issuer,
                ]);
            }
            out::text(&table.render(Style::stdout()))
        }
        MemberCommand::Remove { who } => {
            // As people know them; an id tells apart those of several providers.
            let named = who.to_ascii_lowercase();
            let members = client.members(tenant).await?;
            let is = |each: &&rouse_api::MemberInfo| {
                let shown = each.is.to_string();
                shown == who || (shown == named && who.contains('@') && !who.contains('='))
            };
            let found: Vec<_> = members.iter().filter(is).collect();
            let id = match found[..] {
                [] => who.as_str(),
                [one] => &one.id,
                _ => {
                    let ids: Vec<&str> = found.iter().map(|each| each.id.as_str()).collect();
                    return Err(report::hinted(
                        format!("several providers have a member {who}"),
                        format!("name one by its id: {}", ids.join(", ")),
                    ));
                }
            };
            let gone = client.delete_member(tenant, id).await?;
            if global.json {
                return out::json(&gone);
            }
            out::text(&format!("{} is no member of tenant {tenant} any more\n", gone.is))
        }
    }
}
