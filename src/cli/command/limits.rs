//! `rouse limits`: what a tenant may use.

use std::{io::Read as _, path::Path};

use anyhow::Context as _;
use rouse_types::TenantLimits;

use crate::cli::{
    args::{Global, LimitsCommand},
    client, out, report,
};

pub(crate) async fn run(global: &Global, command: LimitsCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    let limits = match command {
        LimitsCommand::Show => client.limits(tenant).await?,
        LimitsCommand::Set { file } => client.put_limits(tenant, &read(&file)?).await?,
        LimitsCommand::Clear => client.put_limits(tenant, &TenantLimits::default()).await?,
    };
    if global.json {
        return out::json(&limits);
    }
    if limits == TenantLimits::default() {
        out::note(&format!("tenant '{tenant}' is limited in nothing"));
        return Ok(());
    }
    out::text(&toml::to_string(&limits).context("write the limits")?)
}

fn read(file: &Path) -> anyhow::Result<TenantLimits> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("read the standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
    };
    parse(&text).map_err(|why| {
        report::hinted(format!("{}: {why}", file.display()), "docs/guides/limits.md tells of every setting")
    })
}

/// Reads limits; what is wrong, with its line.
fn parse(text: &str) -> Result<TenantLimits, String> {
    let limits: TenantLimits = toml::from_str(text).map_err(|error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    limits.check().map_err(|invalid| invalid.to_string())?;
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_guide_writes_them_and_errors_say_where() {
        let text = "requests_per_second = 200\nconcurrency = 100\n\n[functions.checkout]\nconcurrency_reserved = 20\n";
        let limits = parse(text).expect("limits");
        assert_eq!(toml::to_string(&limits).expect("text"), text);
        let cases = [
            ("concurrency = 1\nmemry_mib = 5\n", "line 2: unknown field"),
            ("concurrency = -1\n", "line 1:"),
            ("requests_per_second = 0\n", "requests_per_second: 0 is not"),
            ("[functions.f]\nconcurrency_reserved = 1\n", "functions.f.concurrency_reserved: it is a share"),
            ("[functions.Not_A_Name]\n", "line 1:"),
        ];
        for (text, said) in cases {
            let error = parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
