//! Which domains an app has once a change is made: each belongs to one function of one tenant. Pure.

use std::collections::BTreeMap;

use rouse_store::records::Write;
use rouse_types::{Code, Domain, FunctionName, Refusal};

use super::View;
use crate::state::{self, App, Claim};

/// The app's domains, and the writes that make them its own and let the others go.
///
/// # Errors
/// [`Code::DomainTaken`].
pub(super) fn claim<'a>(
    view: &View,
    app: &App,
    wanted: impl Iterator<Item = (&'a FunctionName, &'a [Domain])>,
    writes: &mut Vec<Write>,
) -> Result<BTreeMap<Domain, FunctionName>, Refusal> {
    let mut domains = BTreeMap::new();
    for (function, domain) in wanted.flat_map(|(function, all)| all.iter().map(move |one| (function, one))) {
        let known = view.domains.get(domain).and_then(Option::as_ref);
        let others = known.is_some_and(|at| at.value.tenant != view.tenant || at.value.app != view.app);
        if others || domains.insert(domain.clone(), function.clone()).is_some() {
            return Err(taken(domain));
        }
        let claim = Claim { tenant: view.tenant.clone(), app: view.app.clone(), function: function.clone() };
        if known.is_none_or(|at| at.value != claim) {
            writes.push(state::put(state::DOMAINS, domain.to_string(), &claim, state::unchanged(known))?);
        }
    }
    for domain in app.domains.keys().filter(|domain| !domains.contains_key(*domain)) {
        if let Some(at) = view.domains.get(domain).and_then(Option::as_ref) {
            writes.push(state::delete(state::DOMAINS, domain.to_string(), state::unchanged(Some(at))));
        }
    }
    Ok(domains)
}

/// Says of whom it is to nobody: a tenant learns nothing of another.
pub(crate) fn taken(domain: &Domain) -> Refusal {
    Refusal::new(Code::DomainTaken, format!("the domain '{domain}' is another function's"))
        .hint("deploy what has it without it first; if that is none of yours, ask the platform's operator")
}

/// Whether a domain is the platform's own, or below it: names there are given to functions by the platform.
///
/// # Errors
/// [`Code::DomainTaken`].
pub(crate) fn not_ours(domain: &Domain, platform: &str) -> Result<(), Refusal> {
    if !domain.is_within(platform) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::DomainTaken,
        format!("the domain '{domain}' lies in the platform's own, {platform}"),
    )
    .hint(format!("functions answer at <function>.<tenant>.{platform} without any domain")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_the_platforms_own_are_not_given_away() {
        let domain = |text: &str| text.parse::<Domain>().expect("a domain");
        assert!(not_ours(&domain("api.example.com"), "fn.example.com").is_ok());
        assert!(not_ours(&domain("api.example.com"), "localhost").is_ok());
        for taken in ["fn.example.com", "cart.shop.fn.example.com"] {
            let refusal = not_ours(&domain(taken), "fn.example.com").expect_err(taken);
            assert_eq!(refusal.code, Code::DomainTaken);
        }
    }
}
