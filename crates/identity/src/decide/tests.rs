//! Tables of claims and policies, and who is let in.

use rouse_types::{Role, Timestamp};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://id.acme.example";
const GITHUB: &str = PUBLIC_ISSUERS[0];

fn claims(value: Value) -> Claims {
    let Value::Object(map) = value else { panic!("an object") };
    Claims::new(map)
}

fn provider(changes: Value) -> Provider {
    let mut all = json!({"issuer": ISSUER, "client_id": "rouse"});
    for (name, value) in changes.as_object().expect("an object") {
        all[name] = value.clone();
    }
    serde_json::from_value(all).expect("a provider")
}

fn member(issuer: &str, is: &str, role: Role) -> Member {
    Member {
        issuer: issuer.to_owned(),
        is: is.parse().expect("a member"),
        role,
        created: Timestamp::default(),
    }
}

fn trust(value: Value) -> Trust {
    serde_json::from_value(value).expect("a policy")
}

#[test]
fn a_person_is_a_member_by_a_verified_address_a_name_of_the_provider_or_a_group() {
    let members = [
        member(ISSUER, "anna@acme.example", Role::Owner),
        member(ISSUER, "subject=7", Role::Deployer),
        member(ISSUER, "group=shop", Role::Viewer),
        member("https://other.example", "subject=8", Role::Owner),
        member("https://other.example", "anna@acme.example", Role::Owner),
    ];
    let plain = provider(json!({}));
    let trusting =
        provider(json!({"verified_emails": true, "groups_claim": "roles", "audiences": ["portal"]}));
    let me = |more: Value| {
        let mut all = json!({"sub": "1", "aud": "rouse"});
        for (name, value) in more.as_object().expect("an object") {
            all[name] = value.clone();
        }
        all
    };
    let anna = "anna@acme.example";
    let rows = [
        (&plain, me(json!({})), Err(Error::Nobody)),
        (&plain, me(json!({"email": anna, "email_verified": true})), Ok(Role::Owner)),
        (&plain, me(json!({"email": "Anna@ACME.example", "email_verified": true})), Ok(Role::Owner)),
        (&plain, me(json!({"email": anna, "email_verified": "true"})), Ok(Role::Owner)),
        (&plain, me(json!({"email": anna})), Err(Error::Nobody)),
        (&plain, me(json!({"email": anna, "email_verified": false})), Err(Error::Nobody)),
        (&trusting, me(json!({"email": anna})), Ok(Role::Owner)),
        (&trusting, me(json!({"email": anna, "email_verified": false})), Err(Error::Nobody)),
        (&plain, me(json!({"email": [anna], "email_verified": true})), Err(Error::Nobody)),
        (&plain, me(json!({"email": "anna@acme.example.evil", "email_verified": true})), Err(Error::Nobody)),
        (&plain, me(json!({"preferred_username": anna, "email_verified": true})), Err(Error::Nobody)),
        (&plain, me(json!({"sub": "7"})), Ok(Role::Deployer)),
        (&plain, me(json!({"sub": "8"})), Err(Error::Nobody)),
        (&plain, me(json!({"groups": ["a", "shop"]})), Ok(Role::Viewer)),
        (&plain, me(json!({"groups": "shop"})), Ok(Role::Viewer)),
        (&plain, me(json!({"groups": ["Shop"]})), Err(Error::Nobody)),
        (&plain, me(json!({"roles": ["shop"]})), Err(Error::Nobody)),
        (&trusting, me(json!({"roles": ["shop"]})), Ok(Role::Viewer)),
        // Of several, the role that comes first.
        (&plain, me(json!({"sub": "7", "groups": ["shop"]})), Ok(Role::Deployer)),
        // For whom the token is.
        (&plain, me(json!({"sub": "7", "aud": "other"})), Err(Error::Audience)),
        (&plain, me(json!({"sub": "7", "aud": []})), Err(Error::Audience)),
        (&plain, me(json!({"sub": "7", "aud": ["rouse"]})), Ok(Role::Deployer)),
        (&plain, me(json!({"sub": "7", "aud": ["rouse", "other"]})), Err(Error::Audience)),
        (&plain, me(json!({"sub": "7", "aud": ["rouse", "other"], "azp": "rouse"})), Ok(Role::Deployer)),
        (&plain, me(json!({"sub": "7", "azp": "other"})), Err(Error::Audience)),
        (&plain, me(json!({"sub": "7", "aud": "portal"})), Err(Error::Audience)),
        (&trusting, me(json!({"sub": "7", "aud": "portal", "azp": "portal"})), Ok(Role::Deployer)),
    ];
    for (provider, said, expected) in rows {
        let found = person(&claims(said.clone()), provider, members.iter()).map(|member| member.role);
        assert_eq!(found, expected, "{said}");
    }
    let nobody: Provider = serde_json::from_value(json!({"issuer": ISSUER})).expect("a provider");
    let me = claims(me(json!({"sub": "7"})));
    assert_eq!(person(&me, &nobody, members.iter()), Err(Error::Audience), "there people do not sign in");
}

#[test]
fn a_program_is_let_in_by_issuer_audience_subject_and_claims_together() {
    let policies = [
        (
            "main",
            trust(json!({"issuer": GITHUB, "audience": "rouse", "role": "deployer",
                "subject": "repo:acme/shop:ref:refs/heads/main"})),
        ),
        (
            "tags",
            trust(json!({"issuer": GITHUB, "audience": "rouse", "role": "invoker",
                "subject": "repo:acme/shop:ref:refs/tags/v*", "claims": {"repository_id": "42", "ref_type": "tag"}})),
        ),
        (
            "any",
            trust(json!({"issuer": GITHUB, "audience": "rouse", "role": "viewer",
                "claims": {"repository": "acme/*"}})),
        ),
        ("open", trust(json!({"issuer": GITHUB, "audience": "rouse", "role": "owner"}))),
    ];
    let build = |more: Value| {
        let mut all = json!({"sub": "repo:acme/shop:ref:refs/heads/main", "aud": "rouse",
            "repository": "acme/shop", "repository_id": "42"});
        for (name, value) in more.as_object().expect("an object") {
            all[name] = value.clone();
        }
        all
    };
    let tag = "repo:acme/shop:ref:refs/tags/v1";
    let rows = [
        (GITHUB, build(json!({})), Ok("main")),
        (GITHUB, build(json!({"aud": "other"})), Err(Error::Nobody)),
        (GITHUB, build(json!({"aud": ["other", "rouse"]})), Ok("main")),
        ("https://gitlab.com", build(json!({})), Err(Error::Nobody)),
        (GITHUB, build(json!({"sub": "repo:acme/shop:pull_request"})), Ok("any")),
        (GITHUB, build(json!({"sub": tag, "ref_type": "tag"})), Ok("tags")),
        (GITHUB, build(json!({"sub": tag, "ref_type": "tag", "repository_id": 42})), Ok("tags")),
        (GITHUB, build(json!({"sub": tag, "ref_type": "branch"})), Ok("any")),
        (GITHUB, build(json!({"sub": tag, "ref_type": ["tag"]})), Ok("any")),
        (GITHUB, build(json!({"sub": tag, "repository": "evil/shop"})), Err(Error::Nobody)),
        (
            GITHUB,
            build(json!({"sub": "repo:acme/shop2:ref:refs/heads/main", "repository": "x/y"})),
            Err(Error::Nobody),
        ),
    ];
    for (issuer, said, expected) in rows {
        let named = policies.iter().map(|(name, trust)| (*name, trust));
        let found = program(&claims(said.clone()), issuer, named).map(|(name, _)| name);
        assert_eq!(found, expected, "{issuer} {said}");
    }
}

#[test]
fn a_policy_for_an_issuer_of_all_the_world_says_whose_builds_it_means() {
    let of = |issuer: &str, subject: Option<&str>, claims: Value| {
        trust(
            json!({"issuer": issuer, "audience": "a", "role": "viewer", "subject": subject, "claims": claims}),
        )
    };
    let rows = [
        (of(ISSUER, Some("job"), json!({})), true),
        (of(ISSUER, None, json!({"team": "shop"})), true),
        (of(ISSUER, None, json!({})), false),
        (of(GITHUB, Some("repo:acme/shop:ref:refs/heads/main"), json!({})), true),
        (of(GITHUB, Some("repo:acme/*:ref:refs/heads/main"), json!({})), true),
        (of(GITHUB, Some("repo:*/shop:ref:refs/heads/main"), json!({})), false),
        (of(GITHUB, Some("repo:ac*"), json!({})), false),
        (of(GITHUB, None, json!({"ref": "refs/heads/main"})), false),
        (of(GITHUB, None, json!({"repository_owner": "acme"})), true),
        (of(GITHUB, None, json!({"repository_owner": "ac*"})), false),
        (of(GITHUB, Some("repo:*:ref:refs/heads/main"), json!({"repository": "acme/*"})), true),
        (of(PUBLIC_ISSUERS[1], Some("project_path:acme/*:ref_type:branch:ref:main"), json!({})), true),
        (of(PUBLIC_ISSUERS[1], None, json!({"namespace_path": "acme"})), true),
    ];
    for (trust, expected) in rows {
        assert_eq!(is_narrow(&trust).is_ok(), expected, "{trust:?}");
    }
}
