//! `rouse prices`: the price sheet of this machine's platform, `prices.toml` in its state folder, or the one that
//! holds without it.

use std::io::ErrorKind;

use anyhow::Context as _;
use rouse_metering::price::{DEFAULT_PRICES, PriceSheet};

use crate::cli::{args::Global, out, report::hinted, state};

/// A price sheet has three prices and what is said about them.
const BYTES_MAX: u64 = 64 << 10;

pub(crate) fn run(global: &Global) -> anyhow::Result<()> {
    let path = state::folder(global).join("prices.toml");
    let text = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > BYTES_MAX => {
            anyhow::bail!("{} has {} bytes; at most {BYTES_MAX} are read", path.display(), metadata.len())
        }
        Ok(_) => std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => DEFAULT_PRICES.to_owned(),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let sheet = PriceSheet::parse(&text).map_err(|error| {
        hinted(
            format!("{} is not a price sheet: {error}", path.display()),
            "prices are decimals in quotes, such as requests_per_million = \"0.20\"",
        )
    })?;
    if global.json {
        let values: toml::Table = sheet.to_toml().parse().context("write the prices")?;
        return out::json(&values);
    }
    out::text(&text)
}
