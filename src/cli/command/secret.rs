//! `rouse secret`: what functions need and nobody else may read.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use rouse_api::SecretValue;

use crate::cli::{
    args::{Global, SecretCommand},
    client, out,
    style::Style,
    table::Table,
    units,
};

/// More than a secret may have, so that what is too long is refused and not cut.
const READ_BYTES_MAX: u64 = 1 << 20;

pub(crate) async fn run(global: &Global, command: SecretCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        SecretCommand::Set { name, file } => {
            let mut value = String::new();
            match file {
                Some(file) => {
                    let opened = std::fs::File::open(&file);
                    let opened = opened.with_context(|| format!("open {}", file.display()))?;
                    opened.take(READ_BYTES_MAX).read_to_string(&mut value)?;
                }
                None => {
                    if std::io::stdin().is_terminal() {
                        out::note("type the secret, then end with Ctrl-D:");
                    }
                    std::io::stdin().take(READ_BYTES_MAX).read_to_string(&mut value)?;
                }
            }
            if value.ends_with('\n') {
                value.pop();
            }
            let secret = client.put_secret(tenant, &name, &SecretValue { value }).await?;
            if global.json {
                return out::json(&secret);
            }
            if !secret.functions.is_empty() {
                out::note(
                    "instances that run keep the old value; those that start from now on have the new one",
                );
            }
            out::text(&format!("the secret {name} is set\n"))
        }
        SecretCommand::List => {
            let secrets = client.secrets(tenant).await?;
            if global.json {
                return out::json(&secrets);
            }
            let mut table = Table::new(&["NAME", "SET", "FUNCTIONS"]);
            for secret in secrets {
                let names: Vec<String> = secret.functions.iter().map(ToString::to_string).collect();
                table.row([secret.name, units::time(secret.updated), names.join(", ")]);
            }
            out::text(&table.render(Style::stdout()))
        }
        SecretCommand::Delete { name } => {
            let secret = client.delete_secret(tenant, &name).await?;
            if global.json {
                out::json(&secret)
            } else {
                out::text(&format!("the secret {name} is deleted\n"))
            }
        }
        SecretCommand::RotateKey => {
            let sealed = client.rotate_secrets_key().await?;
            if global.json {
                return out::json(&sealed);
            }
            out::text(&format!("{} secrets are sealed under a new key\n", sealed.secrets))
        }
    }
}
