//! `rouse key` and `rouse whoami`: API keys of people and programs.

use std::time::Duration;

use rouse_api::{ApiKeyRequest, NewApiKey, RotateRequest};

use crate::cli::{
    args::{Global, KeyCommand},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, command: KeyCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        KeyCommand::Create { role, functions, expires, note } => {
            let expires_in_seconds = expires.as_ref().map(Duration::as_secs);
            let request = ApiKeyRequest { role, functions, expires_in_seconds, note };
            told(global, &client.create_api_key(tenant, &request).await?)
        }
        KeyCommand::List => {
            let keys = client.api_keys(tenant).await?;
            if global.json {
                return out::json(&keys);
            }
            let mut table = Table::new(&["ID", "ROLE", "FUNCTIONS", "CREATED", "EXPIRES", "NOTE"]);
            for key in keys {
                let expires = key.expires.map_or_else(|| "never".to_owned(), units::time);
                let note = key.note.or(key.session.map(|session| format!("signed in as {}", session.name)));
                let note = match (note, key.rotated_to) {
                    (Some(note), Some(next)) => format!("{note}, rotated to {next}"),
                    (None, Some(next)) => format!("rotated to {next}"),
                    (note, None) => note.unwrap_or_default(),
                };
                let names: Vec<String> = key.functions.iter().map(ToString::to_string).collect();
                let names = if names.is_empty() { "all".to_owned() } else { names.join(", ") };
                table.row([key.id, key.role.to_string(), names, units::time(key.created), expires, note]);
            }
            out::text(&table.render(Style::stdout()))
        }
        KeyCommand::Rotate { id, overlap } => {
            let request = RotateRequest { overlap_seconds: overlap.as_ref().map(Duration::as_secs) };
            told(global, &client.rotate_api_key(tenant, &id, &request).await?)
        }
        KeyCommand::Revoke { id } => {
            let key = client.revoke_api_key(tenant, &id).await?;
            if global.json { out::json(&key) } else { out::text(&format!("the key {id} is revoked\n")) }
        }
    }
}

fn told(global: &Global, new: &NewApiKey) -> anyhow::Result<()> {
    if global.json {
        return out::json(new);
    }
    out::note("the key is not shown again; give it as --token or ROUSE_TOKEN:");
    out::text(&format!("{}\n", new.key))
}

pub(crate) async fn whoami(global: &Global) -> anyhow::Result<()> {
    let who = client(global)?.who_am_i().await?;
    if global.json {
        return out::json(&who);
    }
    let (Some(tenant), Some(role), Some(key)) = (who.tenant, who.role, who.key) else {
        return out::text("the operator, over all tenants\n");
    };
    let mut text = format!("tenant {tenant}, role {role}, key {key}\n");
    if let Some(session) = who.session {
        text.push_str(&format!("signed in as {}, by {}\n", session.name, session.issuer));
    }
    if !who.functions.is_empty() {
        let names: Vec<String> = who.functions.iter().map(ToString::to_string).collect();
        text.push_str(&format!("for the functions {}\n", names.join(", ")));
    }
    if let Some(expires) = who.expires {
        text.push_str(&format!("until {}\n", units::time(expires)));
    }
    out::text(&text)
}
