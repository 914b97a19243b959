//! `rouse trust`: builds that deploy without a stored secret.

use std::collections::BTreeMap;

use rouse_types::Trust;

use crate::cli::{
    args::{Global, TrustArgs, TrustCommand},
    client, out, report,
    style::Style,
    table::Table,
};

pub(crate) async fn run(global: &Global, command: TrustCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        TrustCommand::Add(args) => {
            let TrustArgs { name, issuer, audience, subject, claims: given, role, functions } = args;
            let mut claims = BTreeMap::new();
            for (claim, pattern) in given {
                if claims.insert(claim.clone(), pattern).is_some() {
                    return Err(report::hinted(
                        format!("the claim {claim} is given twice"),
                        "a token must say all that a policy names; make a second policy for another",
                    ));
                }
            }
            let trust = Trust { issuer, audience, subject, claims, role, functions };
            let made = client.put_trust(tenant, &name, &trust).await?;
            if global.json {
                return out::json(&made);
            }
            out::text(&format!("builds that fit {name} are {role} of tenant {tenant}, for an hour each\n"))
        }
        TrustCommand::List => {
            let policies = client.trust(tenant).await?;
            if global.json {
                return out::json(&policies);
            }
            let mut table = Table::new(&["NAME", "ROLE", "FUNCTIONS", "AUDIENCE", "ISSUER", "WHO"]);
            for each in policies {
                let trust = each.trust;
                let subject = trust.subject.map(|subject| format!("sub={subject}"));
                let claims = trust.claims.iter().map(|(name, pattern)| format!("{name}={pattern}"));
                let who: Vec<String> = subject.into_iter().chain(claims).collect();
                let functions: Vec<String> = trust.functions.iter().map(ToString::to_string).collect();
                let functions = if functions.is_empty() { "all".to_owned() } else { functions.join(", ") };
                table.row([
                    each.name.to_string(),
                    trust.role.to_string(),
                    functions,
                    trust.audience,
                    trust.issuer,
                    who.join(" "),
                ]);
            }
            out::text(&table.render(Style::stdout()))
        }
        TrustCommand::Delete { name } => {
            let gone = client.delete_trust(tenant, &name).await?;
            if global.json {
                return out::json(&gone);
            }
            out::text(&format!("the trust policy {name} is gone\n"))
        }
    }
}
