//! What tenants may use and spend: the words of `rouse limits` and `rouse budget`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `rouse limits …`.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Show what the tenant may use, as `set` takes it.
    Show,
    /// Set what the tenant may use, whole: what the file leaves out is not limited.
    Set {
        /// A file in TOML; `-` is the standard input.
        file: PathBuf,
    },
    /// Limit the tenant in nothing.
    Clear,
}

/// `rouse budget …`.
#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Show the budget and how this month stands.
    Show,
    /// Set the budget, whole.
    Set(BudgetArgs),
    /// Let the tenant spend without a budget.
    Clear,
}

/// What `rouse budget set` takes.
#[derive(Debug, Args)]
pub(crate) struct BudgetArgs {
    /// For a month, in the price sheet's currency, such as 25.00.
    pub(crate) amount: String,
    /// Refuse calls that could go beyond it.
    #[arg(long)]
    pub(crate) hard: bool,
    /// Tell of it when so many hundredths of it are spent; may be given several times.
    #[arg(long = "alert", value_name = "PERCENT")]
    pub(crate) alerts: Vec<u8>,
    /// Tell by a POST to this address.
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,
    /// Tell by an event on this topic, which can rouse a function.
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Option<String>,
}
