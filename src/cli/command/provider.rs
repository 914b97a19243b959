//! `rouse provider`: who says who people and builds are.

use anyhow::Context as _;
use rouse_types::Provider;

use crate::cli::{
    args::{Global, ProviderArgs, ProviderCommand},
    client, out,
    style::Style,
    table::Table,
};

pub(crate) async fn run(global: &Global, command: ProviderCommand) -> anyhow::Result<()> {
    let client = client(global)?;
    match command {
        ProviderCommand::Add(args) => {
            let (name, provider) = read(args)?;
            let info = client.put_provider(&name, &provider).await?;
            if global.json {
                return out::json(&info);
            }
            out::text(&format!("the provider {name} is there: {}\n", info.provider.issuer))?;
            if info.provider.client_id.is_some() {
                out::note(
                    "`rouse member add anna@acme.example --role owner` says who may sign in, and as what",
                );
            }
            Ok(())
        }
        ProviderCommand::List => {
            let providers = client.providers().await?;
            if global.json {
                return out::json(&providers);
            }
            let mut table = Table::new(&["NAME", "ISSUER", "CLIENT"]);
            for each in providers {
                let client = each.provider.client_id.unwrap_or_else(|| "none: for builds alone".to_owned());
                table.row([each.name.to_string(), each.provider.issuer, client]);
            }
            out::text(&table.render(Style::stdout()))
        }
        ProviderCommand::Delete { name } => {
            let gone = client.delete_provider(&name).await?;
            if global.json { out::json(&gone) } else { out::text(&format!("the provider {name} is gone\n")) }
        }
    }
}

fn read(args: ProviderArgs) -> anyhow::Result<(rouse_types::ProviderName, Provider)> {
    let ProviderArgs { name, issuer, client_id, audiences, groups_claim, scopes, verified_emails, issuer_ca } =
        args;
    let scopes = match scopes.is_empty() {
        true => ["email", "profile", "offline_access"].map(str::to_owned).into(),
        false => scopes,
    };
    let read = |path: std::path::PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let ca = issuer_ca.map(read).transpose()?;
    Ok((name, Provider { issuer, client_id, audiences, groups_claim, scopes, verified_emails, ca }))
}
