//! `rouse access-key`: access keys, with which AWS' clients sign what they ask for.

use rouse_api::KeyRequest;

use crate::cli::{
    args::{Global, KeysCommand},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create { role } => {
            let key = client(global)?.create_key(&global.tenant, &KeyRequest { role: Some(role) }).await?;
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
            let mut table = Table::new(&["ID", "ROLE", "CREATED"]);
            for key in keys {
                table.row([key.id, key.role.to_string(), units::time(key.created)]);
            }
            out::text(&table.render(Style::stdout()))
        }
        KeysCommand::Delete { id } => {
            client(global)?.delete_key(&global.tenant, &id).await?;
            out::text(&format!("the key {id} is gone\n"))
        }
    }
}
