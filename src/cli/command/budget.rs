//! `rouse budget`: what a tenant may spend in a month, and how this one stands.

use anyhow::anyhow;
use rouse_api::BudgetStatus;
use rouse_types::Budget;

use crate::cli::{
    args::{BudgetArgs, BudgetCommand, Global},
    client, out,
    units::money,
};

pub(crate) async fn run(global: &Global, command: BudgetCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    let status = match command {
        BudgetCommand::Show => client.budget(tenant).await?,
        BudgetCommand::Set(args) => client.put_budget(tenant, &budget(args)?).await?,
        BudgetCommand::Clear => client.delete_budget(tenant).await?,
    };
    if global.json {
        return out::json(&status);
    }
    out::text(&shown(&status))
}

fn shown(status: &BudgetStatus) -> String {
    let amount = |nanos| money(nanos, &status.currency);
    let spent = format!("{} spent in {}", amount(status.spent_nanos), status.month);
    let Some(budget) = &status.budget else { return format!("{spent}, without a budget\n") };
    let cap = if budget.hard { " at most" } else { "" };
    let reserved = match status.reserved_nanos {
        0 => String::new(),
        nanos => format!(", and {} set aside for calls under way", amount(nanos)),
    };
    format!("{spent} of {}{cap}{reserved}\n", amount(budget.month_nanos))
}

fn budget(args: BudgetArgs) -> anyhow::Result<Budget> {
    let BudgetArgs { amount, hard, alerts, webhook, topic } = args;
    let month_nanos = nanos(&amount).ok_or_else(|| {
        anyhow!("'{amount}' is no amount: write digits, such as 25.00, at most nine after the point")
    })?;
    Ok(Budget { month_nanos, hard, alerts, webhook, topic })
}

/// An amount in billionths, exactly.
fn nanos(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        assert_eq!(nanos("25"), Some(25_000_000_000));
        assert_eq!(nanos("0.000000001"), Some(1));
        assert_eq!(nanos("18446744073.709551615"), Some(u64::MAX));
        for wrong in ["", ".", "1.", ".5", "-1", "1e3", "1,5", "0.0000000001", "18446744073.709551616", " 1"]
        {
            assert_eq!(nanos(wrong), None, "{wrong}");
        }
    }
}
