//! `rouse access-key`: access keys, with which AWS' clients sign what they ask for.

use crate::cli::{
    args::{Global, KeysCommand},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create => {
            let key = client(global)?.create_key(&global.tenant).await?;
            if global.json {
                return out::json(&key);
            }
            out::note("the secret is not shown again:");
            out::text(&format!("AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n", key.id, key.secret))
        }
        KeysCommand::List => {
            let keys = client(global)?.keys(&global.tenant).await?;
            if global.json {
                return out::json(&keys);
            }
            let mut table = Table::new(&["ID", "CREATED"]);
            for key in keys {
                table.row([key.id, units::time(key.created)]);
            }
            out::text(&table.render(Style::stdout()))
        }
        KeysCommand::Delete { id } => {
            client(global)?.delete_key(&global.tenant, &id).await?;
            out::text(&format!("the key {id} is gone\n"))
        }
    }
}
