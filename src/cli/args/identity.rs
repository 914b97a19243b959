//! The words of `rouse login`, `rouse provider`, `rouse member` and `rouse trust`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rouse_types::{FunctionName, MemberIs, Pattern, ProviderName, Role, TrustName};

/// What `rouse login` takes.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The provider [default: the only one].
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<ProviderName>,
    /// Show a code to type in on another machine, where this one has no browser.
    #[arg(long)]
    pub(crate) device: bool,
    /// Show the address, and do not open a browser.
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Show this token of a build instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["provider", "device", "no_browser"])]
    pub(crate) token_file: Option<PathBuf>,
    /// Show the token of a build that this variable holds instead.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["provider", "device", "no_browser", "token_file"])]
    pub(crate) token_env: Option<String>,
    /// For whom GitHub is to sign the build's token.
    #[arg(long, default_value = "rouse", value_name = "NAME")]
    pub(crate) audience: String,
}

/// `rouse provider …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Add a provider, or change the one of this name. Its configuration and keys are fetched first.
    Add(ProviderArgs),
    /// List the providers.
    List,
    /// Delete a provider, and end the sessions of whoever signed in by it.
    Delete {
        /// Its name.
        name: ProviderName,
    },
}

/// What `rouse provider add` takes.
#[derive(Debug, Args)]
pub(crate) struct ProviderArgs {
    /// Its name here.
    pub(crate) name: ProviderName,
    /// Its identifier, exactly as its tokens say it in `iss`.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: String,
    /// Rouse's name there, as a public client. Without it the provider serves trust policies alone.
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// A further audience whose tokens are taken as those of people; may be given several times.
    #[arg(long = "audience", value_name = "NAME")]
    pub(crate) audiences: Vec<String>,
    /// The claim that lists a person's groups.
    #[arg(long, default_value = "groups", value_name = "CLAIM")]
    pub(crate) groups_claim: String,
    /// What `rouse login` asks for besides `openid`; may be given several times [default: email, profile,
    /// `offline_access`].
    #[arg(long = "scope", value_name = "NAME")]
    pub(crate) scopes: Vec<String>,
    /// Take e-mail addresses as verified also where a token does not say so: the company writes them, not their holders.
    #[arg(long)]
    pub(crate) verified_emails: bool,
    /// Authorities that its certificate may be from, besides those that the hosts trust: PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_ca: Option<PathBuf>,
}

/// `rouse member …`.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Make someone a member, or give a member another role, which ends their sessions.
    Add {
        /// An e-mail address, `subject=…` with the provider's name for a person, or `group=…`.
        who: MemberIs,
        /// What they may do: owner, deployer, invoker, viewer or billing.
        #[arg(long)]
        role: Role,
        /// The provider that says who they are [default: the only one].
        #[arg(long, value_name = "NAME")]
        provider: Option<ProviderName>,
    },
    /// List the members.
    List,
    /// Remove a member, and end their sessions at once.
    Remove {
        /// As it was added, or its id.
        who: String,
    },
}

/// `rouse trust …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Trust builds whose tokens say so, or change the policy of this name.
    Add(TrustArgs),
    /// List the trust policies.
    List,
    /// Delete a trust policy, and end the sessions that it let in at once.
    Delete {
        /// Its name.
        name: TrustName,
    },
}

/// What `rouse trust add` takes.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Its name.
    pub(crate) name: TrustName,
    /// Who signs the tokens: `https://token.actions.githubusercontent.com`, `https://gitlab.com`, or a provider's.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: String,
    /// Whom they are for.
    #[arg(long, default_value = "rouse", value_name = "NAME")]
    pub(crate) audience: String,
    /// Whom they are about; `*` stands for anything but a colon.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) subject: Option<Pattern>,
    /// What another claim must say, such as repository=acme/shop; may be given several times.
    #[arg(long = "claim", value_name = "NAME=PATTERN", value_parser = claim)]
    pub(crate) claims: Vec<(String, Pattern)>,
    /// What they may do: owner, deployer, invoker, viewer or billing.
    #[arg(long)]
    pub(crate) role: Role,
    /// A function that it is for, and no other; may be given several times [default: all].
    #[arg(long = "function", value_name = "NAME")]
    pub(crate) functions: Vec<FunctionName>,
}

fn claim(text: &str) -> Result<(String, Pattern), String> {
    let (name, pattern) = text.split_once('=').ok_or("write NAME=PATTERN, such as repository=acme/shop")?;
    Ok((
        name.to_owned(),
        pattern.parse().map_err(|error: rouse_types::identity::PatternError| error.to_string())?,
    ))
}
