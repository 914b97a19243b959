//! How AWS names things: ARNs, and functions by name, by partial ARN, and by ARN. Pure.

use rouse_types::{Digest, FunctionName, TenantId};

use crate::error::AwsError;

/// What stands for the newest, unpublished version.
pub(crate) const LATEST: &str = "$LATEST";
/// The default tenant's account.
const ACCOUNT: &str = "000000000000";

/// Whose and where: what is the same in all names of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) tenant: TenantId,
    pub(crate) account: String,
    pub(crate) region: String,
}

/// The account of a tenant: twelve digits, always the same ones.
pub(crate) fn account(tenant: &TenantId) -> String {
    if tenant.as_str() == "default" {
        return ACCOUNT.to_owned();
    }
    let digest = u64::from_str_radix(&Digest::of(tenant.as_str().as_bytes()).hex()[..15], 16);
    // Not one that begins with zeros: some tools read accounts as numbers.
    format!("{}", 100_000_000_000 + digest.unwrap_or_default() % 900_000_000_000)
}

impl Scope {
    /// A function's name, or that of one of its versions or aliases.
    pub(crate) fn function(&self, name: &str, qualifier: Option<&str>) -> String {
        let Self { account, region, .. } = self;
        let qualifier = qualifier.map(|qualifier| format!(":{qualifier}")).unwrap_or_default();
        format!("arn:aws:lambda:{region}:{account}:function:{name}{qualifier}")
    }

    /// Anything else of Lambda's.
    pub(crate) fn arn(&self, kind: &str, name: &str) -> String {
        format!("arn:aws:lambda:{}:{}:{kind}:{name}", self.region, self.account)
    }

    /// A queue's name.
    pub(crate) fn queue(&self, name: &str) -> String {
        format!("arn:aws:sqs:{}:{}:{name}", self.region, self.account)
    }

    /// The queue that a name means, if it is one of this account. Queues are of no region.
    pub(crate) fn queue_of<'a>(&self, arn: &'a str) -> Option<&'a str> {
        let parts: Vec<&str> = arn.split(':').collect();
        match parts.as_slice() {
            ["arn", _, "sqs", _, account, name] if *account == self.account => Some(*name),
            _ => None,
        }
        .filter(|name| rouse_types::trigger::is_queue_name(name))
    }

    /// Reads a function's name in any of its forms, with the qualifier that it may have and the one that was given
    /// beside it.
    ///
    /// # Errors
    /// It is of another account or region, or the two qualifiers are not the same.
    pub(crate) fn read(
        &self,
        text: &str,
        beside: Option<&str>,
    ) -> Result<(String, Option<String>), AwsError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (account, region, name, within) = match parts.as_slice() {
            ["arn", _, "lambda", region, account, "function", name, rest @ ..] => {
                (Some(*account), Some(*region), *name, rest.first())
            }
            [account, "function", name, rest @ ..] => (Some(*account), None, *name, rest.first()),
            [region, account, "function", name, rest @ ..] => {
                (Some(*account), Some(*region), *name, rest.first())
            }
            ["function", name, rest @ ..] => (None, None, *name, rest.first()),
            [name, rest @ ..] => (None, None, *name, rest.first()),
            [] => (None, None, "", None),
        };
        if let Some(region) = region.filter(|region| *region != self.region) {
            return Err(AwsError::not_found(format!(
                "Functions from '{region}' are not reachable in this region ('{}')",
                self.region
            )));
        }
        if account.is_some_and(|account| account != self.account) {
            return Err(AwsError::new(
                "AccessDeniedException",
                format!(
                    "User: {} is not authorized to perform this operation on resource: {text} because no resource-based \
                     policy allows it",
                    self.user()
                ),
            ));
        }
        let within = within.map(|qualifier| (*qualifier).to_owned());
        match (within, beside.filter(|beside| !beside.is_empty())) {
            (Some(within), Some(beside)) if within != beside => Err(AwsError::invalid(
                "The derived qualifier from the function name does not match the specified qualifier.",
            )),
            (within, beside) => Ok((name.to_owned(), within.or_else(|| beside.map(str::to_owned)))),
        }
    }

    /// Who calls.
    pub(crate) fn user(&self) -> String {
        format!("arn:aws:iam::{}:root", self.account)
    }
}

/// The platform's own name for a function: AWS takes capitals, underscores and more characters.
pub(crate) fn platform(name: &str) -> FunctionName {
    if let Ok(name) = FunctionName::new(name) {
        return name;
    }
    let mut plain = String::new();
    for byte in name.bytes().take(50) {
        match byte {
            b if b.is_ascii_alphanumeric() => plain.push(char::from(b.to_ascii_lowercase())),
            _ if plain.ends_with('-') || plain.is_empty() => {}
            _ => plain.push('-'),
        }
    }
    let digest = Digest::of(name.as_bytes()).hex();
    let text = format!("{}-{}", plain.trim_end_matches('-'), &digest[..8]);
    let text = text.trim_start_matches('-').to_owned();
    #[expect(clippy::expect_used, reason = "letters, digits and single hyphens, as a test holds")]
    FunctionName::new(text).expect("a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            tenant: "default".parse().expect("a tenant"),
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }

    #[test]
    fn a_function_is_named_in_many_ways() {
        for text in [
            "f",
            "function:f",
            "000000000000:function:f",
            "us-east-1:000000000000:function:f",
            "arn:aws:lambda:us-east-1:000000000000:function:f",
        ] {
            assert_eq!(scope().read(text, None), Ok(("f".to_owned(), None)), "{text}");
            let live = Ok(("f".to_owned(), Some("live".to_owned())));
            assert_eq!(scope().read(&format!("{text}:live"), None), live, "{text}");
            assert_eq!(scope().read(&format!("{text}:live"), Some("live")), live, "{text}");
            assert_eq!(scope().read(text, Some("live")), live, "{text}");
        }
        assert_eq!(scope().read("f:1", Some("2")).expect_err("two").name, "InvalidParameterValueException");
    }

    #[test]
    fn others_functions_are_out_of_reach() {
        let read = |text: &str| scope().read(text, None).expect_err(text).name;
        assert_eq!(read("arn:aws:lambda:eu-west-1:000000000000:function:f"), "ResourceNotFoundException");
        assert_eq!(read("arn:aws:lambda:us-east-1:111111111111:function:f"), "AccessDeniedException");
    }

    #[test]
    fn every_name_has_one_of_ours() {
        assert_eq!(platform("thumb-nail").as_str(), "thumb-nail");
        for name in ["MyFunc_1", "_", "__a--b__", "-", &"X".repeat(64), "a_b", "a--b"] {
            assert!(platform(name).as_str().len() <= 63, "{name}");
        }
        assert_ne!(platform("A"), platform("a"));
        assert_eq!(account(&"default".parse().expect("a tenant")), "000000000000");
        assert_eq!(account(&"acme".parse().expect("a tenant")).len(), 12);
    }
}
