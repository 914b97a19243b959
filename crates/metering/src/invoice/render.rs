//! An invoice for people and for other programs: CSV, HTML, and the columns of FinOps FOCUS 1.0.

use std::fmt::Write as _;

use super::{Discount, Invoice, Item, Share};
use crate::price::{Month, Nanos};

/// Columns of FOCUS 1.0 (<https://focus.finops.org/focus-specification/v1-0/>), in its own order.
const FOCUS: [&str; 43] = [
    "AvailabilityZone",
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "SkuId",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
];

/// GB-seconds, exactly: a MiB·ms is 1/1,024,000 of one, which has 13 decimals.
fn gb_seconds(mib_ms: u64) -> String {
    const UNIT: u128 = 10_000_000_000_000;
    let exact = u128::from(mib_ms) * (UNIT / 1_024_000);
    let text = format!("{}.{:013}", exact / UNIT, exact % UNIT);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Invoice {
    /// CSV (RFC 4180): a row for each function, discount, and the total. Costs have nine decimals. Names have no
    /// character that wants quoting.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = "kind,app,function,invocations,billed_ms,gb_seconds,cost,currency\r\n".to_owned();
        let currency = &self.currency;
        for Item { app, function, invocations, billed_ms, mib_ms, list_nanos } in &self.lines {
            let (gb_seconds, cost) = (gb_seconds(*mib_ms), Nanos(*list_nanos));
            let _ = write!(
                text,
                "usage,{app},{function},{invocations},{billed_ms},{gb_seconds},{cost},{currency}\r\n"
            );
        }
        for Discount { reason, nanos } in &self.discounts {
            let _ = write!(text, "discount: {reason},,,,,,-{},{currency}\r\n", Nanos(*nanos));
        }
        let _ = write!(text, "total,,,,,,{},{currency}\r\n", Nanos(self.total_nanos));
        text
    }

    /// The columns of FOCUS 1.0 as CSV: a row for each function, and a credit for each discount. What does not exist
    /// here, such as commitments, is empty.
    #[must_use]
    pub fn to_focus(&self) -> String {
        let time = |time: rouse_types::Timestamp| {
            let time =
                i64::try_from(time.0).ok().and_then(|time| jiff::Timestamp::from_microsecond(time).ok());
            time.map(|time| time.to_string()).unwrap_or_default()
        };
        let times = self.month.parse::<Month>().map(Month::times).unwrap_or_default();
        let (start, end) = (time(times.0), time(times.1));
        let common = |column: &str| match column {
            "BillingAccountId" | "BillingAccountName" => self.tenant.to_string(),
            "BillingCurrency" => self.currency.clone(),
            "BillingPeriodEnd" | "ChargePeriodEnd" => end.clone(),
            "BillingPeriodStart" | "ChargePeriodStart" => start.clone(),
            "ChargeFrequency" => "Usage-Based".to_owned(),
            "InvoiceIssuerName" | "ProviderName" | "PublisherName" => "Rouse".to_owned(),
            "ServiceCategory" => "Compute".to_owned(),
            "ServiceName" => "Rouse Functions".to_owned(),
            _ => String::new(),
        };
        let usage = |line: &Item, column: &str| match column {
            "BilledCost" | "ContractedCost" | "EffectiveCost" | "ListCost" => {
                Nanos(line.list_nanos).to_string()
            }
            "ChargeCategory" => "Usage".to_owned(),
            "ChargeDescription" => format!("{} calls of {}", line.invocations, line.function),
            "ConsumedQuantity" | "PricingQuantity" => gb_seconds(line.mib_ms),
            "ConsumedUnit" | "PricingUnit" => "GB-Seconds".to_owned(),
            "PricingCategory" => "Standard".to_owned(),
            "ResourceId" => format!("{}/{}/{}", self.tenant, line.app, line.function),
            "ResourceName" => line.function.to_string(),
            "ResourceType" => "Function".to_owned(),
            "SubAccountId" | "SubAccountName" => line.app.to_string(),
            "Tags" => format!("\"{{\"\"app\"\": \"\"{}\"\"}}\"", line.app),
            _ => common(column),
        };
        let credit = |discount: &Discount, column: &str| match column {
            "BilledCost" | "ContractedCost" | "EffectiveCost" => format!("-{}", Nanos(discount.nanos)),
            "ListCost" => Nanos(0).to_string(),
            "ChargeCategory" => "Credit".to_owned(),
            "ChargeDescription" => discount.reason.to_owned(),
            _ => common(column),
        };
        let mut text = FOCUS.join(",") + "\r\n";
        for line in &self.lines {
            text += &(FOCUS.map(|column| usage(line, column)).join(",") + "\r\n");
        }
        for discount in &self.discounts {
            text += &(FOCUS.map(|column| credit(discount, column)).join(",") + "\r\n");
        }
        text
    }

    /// A page to be printed on A4: no scripts, nothing from elsewhere.
    #[must_use]
    pub fn to_html(&self) -> String {
        let (tenant, month, currency) = (&self.tenant, &self.month, &self.currency);
        let state = if self.closed { "" } else { " (the month is not over)" };
        let mut text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Invoice {month}, {tenant}</title>\
             <style>{STYLE}</style></head>\n<body><header><h1>Invoice</h1>\
             <p>{tenant}<br>{month}{state}</p></header>\n<table><thead><tr><th>App</th><th>Function</th><th>Calls</th>\
             <th>Billed ms</th><th>GB-seconds</th><th>{currency}</th></tr></thead>\n<tbody>\n"
        );
        for Item { app, function, invocations, billed_ms, mib_ms, list_nanos } in &self.lines {
            let (gb_seconds, cost) = (gb_seconds(*mib_ms), Nanos(*list_nanos));
            let _ = writeln!(
                text,
                "<tr><td>{app}</td><td>{function}</td><td>{invocations}</td><td>{billed_ms}</td><td>{gb_seconds}</td>\
                 <td>{cost}</td></tr>"
            );
        }
        let mut sum = |name: &str, sign: &str, nanos: u64| {
            let _ = writeln!(text, "<tr><th colspan=\"5\">{name}</th><td>{sign}{}</td></tr>", Nanos(nanos));
        };
        sum("At list prices", "", self.list_nanos);
        for Discount { reason, nanos } in &self.discounts {
            sum(reason, "−", *nanos);
        }
        sum("Total", "", self.total_nanos);
        text += "</tbody></table>\n<h2>By app</h2>\n<table><thead><tr><th>App</th><th>List</th><th>Discount</th>\
                 <th>Total</th></tr></thead>\n<tbody>\n";
        for Share { app, list_nanos, discount_nanos, total_nanos } in &self.apps {
            let [list, discount, total] = [*list_nanos, *discount_nanos, *total_nanos].map(Nanos);
            let _ =
                writeln!(text, "<tr><td>{app}</td><td>{list}</td><td>{discount}</td><td>{total}</td></tr>");
        }
        text + "</tbody></table></body></html>\n"
    }
}

const STYLE: &str = "@page{size:A4;margin:18mm}body{font:10.5pt/1.45 system-ui,sans-serif;color:#222;max-width:174mm;\
margin:12mm auto}header{display:flex;justify-content:space-between;border-bottom:2px solid #222;margin-bottom:8mm}\
h1{margin:0}h2{margin-top:10mm;font-size:12pt}header p{margin:0;text-align:right}table{width:100%;\
border-collapse:collapse;font-variant-numeric:tabular-nums}th{text-align:left;font-weight:600}th,td{padding:1.5mm 2mm;\
border-bottom:1px solid #ddd}td:nth-last-child(-n+3),thead th:nth-last-child(-n+3){text-align:right}table:first-of-type :is(td,thead th):nth-last-child(4){text-align:right}\
tr{break-inside:avoid}\
thead{display:table-header-group}@media print{body{margin:0}}";
