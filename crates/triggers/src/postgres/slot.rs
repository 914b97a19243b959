//! What a trigger's slot and publication are called in the database.

use rouse_types::{FunctionName, TenantId};
use sha2::{Digest as _, Sha256};

/// A name in PostgreSQL, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// Of the digest, in hexadecimal digits: tells apart what reads alike.
const DIGEST_DIGITS: usize = 12;

/// The name of a trigger's slot, and of its publication: readable for whoever looks after the database, and unique by its
/// end. A slot's name has small letters, digits and `_` alone.
#[must_use]
pub fn name(tenant: &TenantId, function: &FunctionName, trigger: &str) -> String {
    let digest = hex::encode(Sha256::digest(format!("{tenant}/{function}/{trigger}")));
    let readable = format!("rouse_{tenant}_{function}_{trigger}");
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let readable: String = readable.chars().map(plain).take(NAME_BYTES_MAX - 1 - DIGEST_DIGITS).collect();
    format!("{readable}_{}", &digest[..DIGEST_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_plain_and_differ() {
        let of = |tenant: &str, function: &str, trigger: &str| {
            name(&tenant.parse().expect("a tenant"), &function.parse().expect("a function"), trigger)
        };
        let short = of("default", "notify", "database-1");
        assert!(short.starts_with("rouse_default_notify_database_1_"), "{short}");
        assert_ne!(short, of("default", "notify", "database.1"), "what reads alike differs");
        let long = of(&"t".repeat(40), &"f".repeat(60), &"X.".repeat(30));
        assert_eq!(long.len(), 63);
        assert!(long.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{long}");
    }
}
