//! Which function a request is for: by host, `<alias>--<function>.<tenant>.<domain>`, or by path,
//! `/fn/<tenant>/<function>@<alias>/…`. A domain of the function's own comes before both: see `table`.

/// Where a request goes, as written; nothing of it is checked against what exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The function's name.
    pub function: &'a str,
    /// An alias, a version's number, or `$LATEST`; none means `live`.
    pub alias: Option<&'a str>,
    /// The path that the function sees, with a leading slash or empty.
    pub path: &'a str,
}

/// The prefix of addresses by path.
const PATH_PREFIX: &str = "/fn/";

/// Finds the target of a request. A path address wins, so that it works under any host name.
///
/// `host` is the `host` header or the authority, with or without a port.
#[must_use]
pub fn target<'a>(host: Option<&'a str>, path: &'a str, domain: &str) -> Option<Target<'a>> {
    by_path(path).or_else(|| by_host(host?, path, domain))
}

fn by_path(path: &str) -> Option<Target<'_>> {
    let rest = path.strip_prefix(PATH_PREFIX)?;
    let (tenant, rest) = rest.split_once('/')?;
    let (function, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (function, alias) = match function.split_once('@') {
        Some((function, alias)) => (function, Some(alias)),
        None => (function, None),
    };
    named(tenant, function, alias, path)
}

/// The name of a `host` header or authority, without a port.
#[must_use]
pub fn name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn by_host<'a>(host: &'a str, path: &'a str, domain: &str) -> Option<Target<'a>> {
    let name = name(host);
    let end = name.len().checked_sub(domain.len())?;
    let (labels, suffix) = name.split_at_checked(end)?;
    if !suffix.eq_ignore_ascii_case(domain) {
        return None;
    }
    let (function, tenant) = labels.strip_suffix('.')?.split_once('.')?;
    let (alias, function) = match function.split_once("--") {
        Some((alias, function)) => (Some(alias), function),
        None => (None, function),
    };
    named(tenant, function, alias, path)
}

fn named<'a>(
    tenant: &'a str,
    function: &'a str,
    alias: Option<&'a str>,
    path: &'a str,
) -> Option<Target<'a>> {
    let given = !tenant.is_empty() && !function.is_empty() && !tenant.contains('.');
    given.then_some(Target { tenant, function, alias, path })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found<'a>(host: &'a str, path: &'a str) -> Option<(&'a str, &'a str, Option<&'a str>, &'a str)> {
        target(Some(host), path, "localhost").map(|t| (t.tenant, t.function, t.alias, t.path))
    }

    #[test]
    fn a_path_names_tenant_function_and_alias() {
        assert_eq!(found("x", "/fn/shop/cart/a/b"), Some(("shop", "cart", None, "/a/b")));
        assert_eq!(found("x", "/fn/shop/cart"), Some(("shop", "cart", None, "")));
        assert_eq!(found("x", "/fn/shop/cart@canary/"), Some(("shop", "cart", Some("canary"), "/")));
        assert_eq!(found("x", "/fn/shop/cart@$LATEST"), Some(("shop", "cart", Some("$LATEST"), "")));
    }

    #[test]
    fn a_host_names_tenant_function_and_alias() {
        assert_eq!(found("cart.shop.localhost:8080", "/a"), Some(("shop", "cart", None, "/a")));
        assert_eq!(found("Canary--cart.shop.LOCALHOST", "/"), Some(("shop", "cart", Some("Canary"), "/")));
    }

    #[test]
    fn what_names_no_function_has_no_target() {
        for (host, path) in [
            ("localhost", "/"),
            ("shop.localhost", "/"),
            ("a.cart.shop.localhost", "/"),
            (".shop.localhost", "/"),
            ("cart.shop.elsewhere", "/"),
            ("x", "/fn/shop"),
            ("x", "/fn//cart"),
            ("x", "/fn/shop/"),
            ("x", "/other"),
        ] {
            assert_eq!(found(host, path), None, "{host} {path}");
        }
    }

    proptest! {
        #[test]
        fn no_host_or_path_panics(host in ".*", path in ".*", domain in "[a-zé.]{0,12}") {
            let _ = target(Some(&host), &path, &domain);
        }

        #[test]
        fn the_path_is_a_tail_of_what_was_asked(path in "/[a-z/@$.-]{0,40}") {
            if let Some(target) = target(Some("cart.shop.localhost"), &path, "localhost") {
                prop_assert!(path.ends_with(target.path));
            }
        }
    }
}
