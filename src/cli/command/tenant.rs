//! `rouse tenant`: whose functions, data and bills are kept apart.

use crate::cli::{
    args::{Global, TenantCommand},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, command: TenantCommand) -> anyhow::Result<()> {
    let client = client(global)?;
    match command {
        TenantCommand::Create { name } => {
            let made = client.create_tenant(&name).await?;
            if global.json {
                return out::json(&made);
            }
            out::text(&format!("the tenant {name} is there\n"))?;
            out::note(&format!(
                "`rouse --tenant {name} key create --role owner` makes a key for those who run it"
            ));
            Ok(())
        }
        TenantCommand::List => {
            let tenants = client.tenants().await?;
            if global.json {
                return out::json(&tenants);
            }
            let mut table = Table::new(&["TENANT", "CREATED"]);
            for each in tenants {
                table.row([each.tenant.to_string(), units::time(each.created)]);
            }
            out::text(&table.render(Style::stdout()))
        }
        TenantCommand::Show { name } => {
            let tenant = client.tenant(&name).await?;
            if global.json {
                return out::json(&tenant);
            }
            out::text(&format!("{}, since {}\n", tenant.tenant, units::time(tenant.created)))
        }
        TenantCommand::Delete { name } => {
            let gone = client.delete_tenant(&name).await?;
            if global.json { out::json(&gone) } else { out::text(&format!("the tenant {name} is gone\n")) }
        }
    }
}
