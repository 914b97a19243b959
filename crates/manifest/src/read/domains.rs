//! The domains of a function.

use rouse_types::Domain;

use crate::value::{Report, Table, shown};

/// Those that are domains; what is wrong with the others is reported.
pub(super) fn domains(report: &Report<'_>, table: &mut Table<'_, '_>) -> Vec<Domain> {
    let mut domains: Vec<Domain> = Vec::new();
    for (text, span) in table.strings("domains") {
        match text.parse::<Domain>() {
            Ok(domain) if domains.contains(&domain) => {
                report.error(span, format!("`domains`: {domain} is there twice"), None);
            }
            Ok(domain) => domains.push(domain),
            Err(error) => {
                let host = text.split_once("://").map_or(text, |(_, rest)| rest);
                let host = host.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
                let hint = Domain::new(host.trim_end_matches('.')).ok();
                let hint = hint.map(|domain| format!("did you mean \"{domain}\"?"));
                report.error(span, format!("`domains`: {}", shown(&error.to_string())), hint);
            }
        }
    }
    domains
}
