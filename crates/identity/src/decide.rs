//! Whom a checked token lets in: members for people, trust policies for programs. Pure.

use rouse_types::{Member, MemberIs, Provider, Trust};

use crate::{Claims, Error};

/// Issuers that sign for anyone who comes, which is why a policy must say whose builds it means. Known without the
/// operator's doing: what runs at these addresses is the same for all.
pub const PUBLIC_ISSUERS: [&str; 2] = ["https://token.actions.githubusercontent.com", "https://gitlab.com"];
/// Claims that say whose a build is, there.
const OWNERS: [&str; 8] = [
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "project_path",
    "project_id",
    "namespace_path",
    "namespace_id",
];

/// The member that a person is; of several the one whose role comes first.
///
/// # Errors
/// The token is for someone else, or about nobody who is a member.
pub fn person<'m>(
    claims: &Claims,
    provider: &Provider,
    members: impl Iterator<Item = &'m Member>,
) -> Result<&'m Member, Error> {
    let client = provider.client_id.as_deref().ok_or(Error::Audience)?;
    let taken = |audience: &str| audience == client || provider.audiences.iter().any(|each| each == audience);
    if !claims.texts("aud").any(taken) {
        return Err(Error::Audience);
    }
    // A token for several says to whom it was given (OpenID Connect Core §3.1.3.7).
    match claims.text("azp") {
        Some(party) if !taken(party) => return Err(Error::Audience),
        None if claims.texts("aud").count() > 1 => return Err(Error::Audience),
        _ => {}
    }
    let is = |member: &&Member| member.issuer == provider.issuer && is_member(claims, provider, &member.is);
    members.filter(is).min_by_key(|member| member.role).ok_or(Error::Nobody)
}

fn is_member(claims: &Claims, provider: &Provider, is: &MemberIs) -> bool {
    match is {
        MemberIs::Subject(subject) => claims.text("sub") == Some(subject),
        // Whoever may write any address into their own account must not become its holder.
        MemberIs::Email(email) => {
            let verified = claims.is_true("email_verified")
                || (provider.verified_emails && claims.compared("email_verified").is_none());
            verified && claims.text("email").is_some_and(|said| said.eq_ignore_ascii_case(email))
        }
        MemberIs::Group(group) => claims.texts(&provider.groups_claim).any(|each| each == group),
    }
}

/// The trust policy that lets a program in; of several the one whose role comes first, then by name.
///
/// # Errors
/// None does.
pub fn program<'t, N: Ord>(
    claims: &Claims,
    issuer: &str,
    policies: impl Iterator<Item = (N, &'t Trust)>,
) -> Result<(N, &'t Trust), Error> {
    let fits = |(_, trust): &(N, &Trust)| {
        let says = |name: &str, pattern: &rouse_types::Pattern| {
            claims.compared(name).is_some_and(|value| pattern.matches(&value))
        };
        trust.issuer == issuer
            && claims.texts("aud").any(|audience| audience == trust.audience)
            && (trust.subject.is_some() || !trust.claims.is_empty())
            && trust.subject.as_ref().is_none_or(|subject| says("sub", subject))
            && trust.claims.iter().all(|(name, pattern)| says(name, pattern))
    };
    policies.filter(fits).min_by(|a, b| (a.1.role, &a.0).cmp(&(b.1.role, &b.0))).ok_or(Error::Nobody)
}

/// Whether a policy says whom it means: something of the subject or of claims, and, where the issuer signs for anyone,
/// whose builds.
///
/// # Errors
/// It does not; the text says what is missing.
pub fn is_narrow(trust: &Trust) -> Result<(), &'static str> {
    if trust.subject.is_none() && trust.claims.is_empty() {
        return Err(
            "a trust policy names a subject or claims: without them it lets in whoever the issuer knows",
        );
    }
    if !PUBLIC_ISSUERS.contains(&trust.issuer.as_str()) {
        return Ok(());
    }
    // `repo:acme/…`, `project_path:acme/…`: up to the slash nothing is left open.
    let by_subject = trust.subject.as_ref().is_some_and(|subject| subject.start().contains('/'));
    let by_claim = OWNERS
        .iter()
        .filter_map(|name| trust.claims.get(*name))
        .any(|pattern| pattern.is_exact() || pattern.start().contains('/'));
    if by_subject || by_claim {
        return Ok(());
    }
    Err("this issuer signs for anyone: name the repository's owner in the subject, such as \
         'repo:acme/shop:ref:refs/heads/main', or in a claim, such as repository_owner=acme")
}

#[cfg(test)]
mod tests;
