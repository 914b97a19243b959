//! `rouse alias`: names of versions, and how calls are shared among them.

use anyhow::bail;
use rouse_types::{Alias, AliasWeight, Code, Refusal, app::ALIAS_VERSIONS_MAX};

use crate::cli::{
    args::{AliasCommand, FunctionArgs, Global},
    client, out,
    report::hinted,
    style::Style,
    table::Table,
};

pub(crate) async fn run(global: &Global, command: AliasCommand) -> anyhow::Result<()> {
    match command {
        AliasCommand::List(args) => list(global, &args).await,
        AliasCommand::Set { function, alias, versions } => {
            let shares = read(&versions)?;
            let answer = client(global)?.put_alias(&global.tenant, &function, &alias, &shares).await?;
            if global.json {
                return out::json(&answer);
            }
            for warning in &answer.warnings {
                out::note(&format!("{} {warning}", Style::stderr().yellow("warning:")));
            }
            out::text(&format!("{alias} of {function} is {}\n", self::shares(&answer.alias)))
        }
        AliasCommand::Delete { function, alias } => {
            let answer = client(global)?.delete_alias(&global.tenant, &function, &alias).await?;
            if global.json {
                return out::json(&answer);
            }
            out::text(&format!("{alias} of {function} is gone\n"))
        }
    }
}

async fn list(global: &Global, args: &FunctionArgs) -> anyhow::Result<()> {
    let functions = client(global)?.functions(&global.tenant).await?;
    let Some(found) = functions.into_iter().find(|function| function.function == args.function) else {
        let message = format!("no function '{}' of tenant '{}'", args.function, global.tenant);
        return Err(Refusal::new(Code::FunctionNotFound, message)
            .hint("`rouse list` shows what is deployed")
            .into());
    };
    if global.json {
        return out::json(&found.aliases);
    }
    let mut table = Table::new(&["ALIAS", "VERSIONS"]);
    for (name, alias) in &found.aliases {
        table.row([name.to_string(), shares(alias)]);
    }
    out::text(&table.render(Style::stdout()))
}

/// `3`, or `3 (90 %), 4 (10 %)`.
pub(crate) fn shares(alias: &Alias) -> String {
    if let [only] = alias.versions.as_slice() {
        return only.version.to_string();
    }
    let total: u64 = alias.versions.iter().map(|share| u64::from(share.weight)).sum();
    let share = |share: &AliasWeight| {
        let tenths = u64::from(share.weight) * 1_000 / total.max(1);
        let fraction = if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
        format!("{} ({}{fraction} %)", share.version, tenths / 10)
    };
    alias.versions.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// Reads `3`, or `3=90 4=10`.
fn read(words: &[String]) -> anyhow::Result<Alias> {
    let how = "write a version's number, or several with weights: 3=90 4=10";
    if words.len() > ALIAS_VERSIONS_MAX {
        bail!(hinted(format!("an alias spreads over at most {ALIAS_VERSIONS_MAX} versions"), how));
    }
    let share = |word: &String| {
        let (version, weight) = word.split_once('=').unwrap_or((word, "1"));
        let read = version.parse().ok().filter(|&number: &u64| number > 0).zip(weight.parse().ok());
        let (version, weight) =
            read.ok_or_else(|| hinted(format!("'{word}' is not a version with its weight"), how))?;
        Ok(AliasWeight { version, weight })
    };
    let versions: Vec<AliasWeight> = words.iter().map(share).collect::<anyhow::Result<_>>()?;
    if versions.iter().all(|share| share.weight == 0) {
        bail!(hinted("at least one weight must not be zero", how));
    }
    Ok(Alias { versions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> anyhow::Result<Alias> {
        read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn weights_are_read_and_told_as_shares() {
        assert_eq!(words(&["3"]).expect("an alias"), Alias::of(3));
        assert_eq!(shares(&words(&["3=90", "4=10"]).expect("an alias")), "3 (90 %), 4 (10 %)");
        assert_eq!(shares(&words(&["1=1", "2=2"]).expect("an alias")), "1 (33.3 %), 2 (66.6 %)");
    }

    #[test]
    fn what_is_no_version_or_weighs_nothing_is_refused() {
        for wrong in [&["x"][..], &["0"], &["1=x"], &["1=0"], &["-1"], &["1="], &["1"; 11]] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
    }
}
