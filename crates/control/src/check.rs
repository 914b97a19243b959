//! Whether a deployment may be made at all: everything that can be said from the request alone. Pure.

mod triggers;

use std::collections::BTreeSet;

use rouse_api::{DeployFunction, DeployRequest};
use rouse_types::{
    Code, Contract, Egress, HttpSettings, Isolation, LIVE, Refusal, Runtime, domain::DOMAINS_MAX, limits,
};

/// The longest message of a deployment, in characters.
const MESSAGE_MAX: usize = 1_000;
/// The longest handler, in bytes.
const HANDLER_BYTES_MAX: usize = 256;
/// Destinations of one function: each is a listener in its sandbox.
const EGRESS_MAX: usize = 64;
/// Words and bytes of a server's command.
const COMMAND_WORDS_MAX: usize = 64;
const COMMAND_BYTES_MAX: usize = 8 << 10;
/// Aliases that a deployment moves, for one function.
const ALIASES_MAX: usize = 16;

fn refuse(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::ManifestInvalid, what)
}

/// Checks a request.
///
/// # Errors
/// The first thing that is wrong, with the function that it is about.
pub(crate) fn request(request: &DeployRequest) -> Result<(), Refusal> {
    if request.functions.is_empty() {
        return Err(refuse("the app has no functions").hint("`rouse delete` takes an app away"));
    }
    if request.functions.len() > limits::FUNCTIONS_PER_APP_MAX {
        let (count, most) = (request.functions.len(), limits::FUNCTIONS_PER_APP_MAX);
        return Err(refuse(format!("the app has {count} functions; at most {most} are allowed"))
            .hint("split it into several apps"));
    }
    if request.message.as_ref().is_some_and(|message| message.chars().count() > MESSAGE_MAX) {
        return Err(refuse(format!("the message has more than {MESSAGE_MAX} characters")));
    }
    let (mut names, mut domains) = (BTreeSet::new(), BTreeSet::new());
    for each in &request.functions {
        if let Some(domain) = each.domains.iter().find(|domain| !domains.insert(*domain)) {
            return Err(refuse(format!("function '{}': the domain '{domain}' is there twice", each.name)));
        }
        if !names.insert(&each.name) {
            return Err(refuse(format!("function '{}' is there twice", each.name)));
        }
        function(each).map_err(|what| refuse(format!("function '{}': {what}", each.name)))?;
    }
    Ok(())
}

/// Checks whether this machine can give each function the network that it asks for.
///
/// # Errors
/// [`Code::IsolationUnavailable`] with what it lacks.
pub(crate) fn networks(request: &DeployRequest, full_network: &Result<(), String>) -> Result<(), Refusal> {
    let Err(lack) = full_network else { return Ok(()) };
    let asks = |one: &&DeployFunction| one.egress == Egress::All && one.isolation != Isolation::Wasm;
    let Some(function) = request.functions.iter().find(asks) else { return Ok(()) };
    let what =
        format!("function '{}': this machine gives containers no egress = \"*\": {lack}", function.name);
    Err(Refusal::new(Code::IsolationUnavailable, what)
        .hint("name what it may reach, as egress = [\"host:port\"]; or see `rouse doctor`, and restart the platform"))
}

fn function(function: &DeployFunction) -> Result<(), String> {
    let DeployFunction { runtime, isolation, handler, limits: asked, scaling, .. } = function;
    let fitting = match runtime {
        Runtime::Component => Isolation::Wasm,
        Runtime::Python { .. } | Runtime::Node { .. } | Runtime::Provided | Runtime::Image => {
            Isolation::Container
        }
    };
    if *isolation != fitting {
        return Err(format!("runtime {runtime} does not run with the isolation that was asked for"));
    }
    let contract = function.contract.unwrap_or_else(|| runtime.default_contract());
    if !runtime.speaks(contract) {
        return Err(format!("runtime {runtime} does not speak the contract {contract}"));
    }
    match (&function.image, function.code) {
        (Some(_), None) if *runtime == Runtime::Image => {}
        (None, Some(_)) => {}
        (Some(_), None) => return Err(format!("an image does not run with the runtime {runtime}")),
        _ => return Err("it has code and an image, or neither".to_owned()),
    }
    http(runtime, contract, &function.http)?;
    match (runtime, handler.as_deref()) {
        (Runtime::Python { .. } | Runtime::Node { .. }, None | Some(""))
            if function.http.command.is_empty() =>
        {
            return Err(format!("runtime {runtime} needs a handler, such as app.handler"));
        }
        (_, Some(handler)) if handler.len() > HANDLER_BYTES_MAX || handler.chars().any(char::is_control) => {
            return Err(format!("its handler is no name of at most {HANDLER_BYTES_MAX} bytes"));
        }
        _ => {}
    }
    within(
        "memory_mib",
        asked.memory_mib.into(),
        limits::MEMORY_MIB_MIN.into(),
        limits::MEMORY_MIB_MAX.into(),
    )?;
    within("timeout_ms", asked.timeout_ms, 1, limits::TIMEOUT_MS_MAX)?;
    within("init_timeout_ms", asked.init_timeout_ms, 1, limits::TIMEOUT_MS_MAX)?;
    // Bodies may be streamed, so these bound one call's traffic, not memory.
    within("request_body_bytes", asked.request_body_bytes, 0, 1 << 30)?;
    within("response_body_bytes", asked.response_body_bytes, 0, 1 << 30)?;
    within("tmp_mib", asked.tmp_mib.into(), 0, 10_240)?;
    within("processes", asked.processes.into(), 1, 4_096)?;
    within("log_bytes", asked.log_bytes, 0, 64 << 20)?;
    within("concurrency_per_instance", scaling.concurrency_per_instance.into(), 1, 1_000)?;
    within("concurrency_max", scaling.concurrency_max.into(), 1, 100_000)?;
    within("queue_max", scaling.queue_max.into(), 0, 100_000)?;
    within("queue_timeout_ms", scaling.queue_timeout_ms, 0, 900_000)?;
    within("instances_min", scaling.instances_min.into(), 0, scaling.concurrency_max.into())?;
    if scaling.instances_min > 0 && *runtime == Runtime::Component {
        return Err("instances_min is not for components, which start with each call".to_owned());
    }
    within("instance_reuse", scaling.instance_reuse.into(), 1, 1_000_000)?;
    if function.lambda.as_ref().is_some_and(|lambda| lambda.layers.is_some()) {
        if *runtime == Runtime::Image || contract != Contract::Lambda {
            return Err("layers are for Lambda functions that are no images".to_owned());
        }
        if scaling.preload {
            return Err("preload does not go with layers".to_owned());
        }
    }
    if scaling.preload {
        if !matches!(runtime, Runtime::Python { .. }) || contract != Contract::Lambda {
            return Err("preload is for Lambda functions in Python".to_owned());
        }
        if scaling.concurrency_per_instance > 1 {
            return Err("preload does not go with several calls at once in one instance".to_owned());
        }
    }
    within(
        "the number of egress destinations",
        function.egress.destinations().len() as u64,
        0,
        EGRESS_MAX as u64,
    )?;
    within("the number of domains", function.domains.len() as u64, 0, DOMAINS_MAX as u64)?;
    within("the number of aliases", function.aliases.len() as u64, 0, ALIASES_MAX as u64)?;
    triggers::check(function)?;
    if let Some(alias) = function.aliases.iter().find(|alias| !alias_allowed(alias.as_str())) {
        return Err(format!("'{alias}' is a version's number, not an alias"));
    }
    environment(function)
}

/// What an HTTP server is started with.
fn http(runtime: &Runtime, contract: Contract, http: &HttpSettings) -> Result<(), String> {
    // An image's program can be replaced whatever it speaks.
    let command = if *runtime == Runtime::Image { http.command.clone() } else { Vec::new() };
    if contract != Contract::Http && *http != (HttpSettings { command, ..HttpSettings::default() }) {
        return Err(format!("its settings of the contract http do not go with the contract {contract}"));
    }
    let bytes: usize = http.command.iter().map(String::len).sum();
    if http.command.len() > COMMAND_WORDS_MAX || bytes > COMMAND_BYTES_MAX {
        return Err(format!(
            "its command is longer than {COMMAND_WORDS_MAX} words or {COMMAND_BYTES_MAX} bytes"
        ));
    }
    if http.command.iter().any(|word| word.contains('\0'))
        || http.command.first().is_some_and(String::is_empty)
    {
        return Err("its command has no program, or a NUL character".to_owned());
    }
    match &http.health {
        Some(path) if !health_allowed(path) => {
            Err("its health path is not one: write an absolute path, such as /healthz".to_owned())
        }
        _ => Ok(()),
    }
}

fn health_allowed(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 256 && path.bytes().all(|b| b.is_ascii_graphic())
}

fn within(what: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{what} is {value}; {least} to {most} are allowed"))
}

/// An alias of digits alone would be taken for a version.
pub(crate) fn alias_allowed(alias: &str) -> bool {
    alias == LIVE || !alias.bytes().all(|b| b.is_ascii_digit())
}

fn environment(function: &DeployFunction) -> Result<(), String> {
    let bytes: usize = function.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits::ENV_BYTES_MAX {
        return Err(format!(
            "its environment has {bytes} bytes; at most {} are allowed",
            limits::ENV_BYTES_MAX
        ));
    }
    for (name, value) in &function.env {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let begin = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !begin || !name.bytes().all(plain) {
            let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(format!("'{shown}' is no environment variable's name: use A-Z, a-z, 0-9 and '_'"));
        }
        if value.contains('\0') {
            return Err(format!("the environment variable {name} has a NUL character"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rouse_api::DeployImage;
    use rouse_types::{
        Digest, FunctionName, Limits, Scaling,
        trigger::{On, Signer, WebhookSource},
    };

    use super::*;

    fn good() -> DeployFunction {
        DeployFunction {
            name: FunctionName::new("hello").expect("a name"),
            code: Some(Digest::of(b"code")),
            image: None,
            runtime: Runtime::Python { minor: 11 },
            contract: None,
            http: rouse_types::HttpSettings::default(),
            handler: Some("app.handler".to_owned()),
            isolation: Isolation::Container,
            env: [("KEY".to_owned(), "value".to_owned())].into(),
            secrets: Default::default(),
            limits: Limits::default(),
            scaling: Scaling::default(),
            egress: rouse_types::Egress::default(),
            invoke: rouse_types::InvokePolicy::default(),
            domains: Vec::new(),
            triggers: Vec::new(),
            events: rouse_types::EventSettings::default(),
            lambda: None,
            aliases: Vec::new(),
        }
    }

    fn target(text: &str) -> Option<rouse_types::EventTarget> {
        Some(text.parse().expect("a target"))
    }

    fn hook(name: &str, path: &str, secret: &str) -> rouse_types::Trigger {
        let (path, secrets) = (path.to_owned(), vec![secret.to_owned()]);
        let source = WebhookSource { path, signer: Signer::Github, secrets, tolerance_ms: 1 };
        rouse_types::Trigger { name: name.to_owned(), on: On::Webhook(source), filter: None }
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        type Spoil = fn(&mut DeployFunction);
        let cases: [(Spoil, &str); 17] = [
            (|f| f.code = None, "neither"),
            (
                |f| f.image = Some(DeployImage { reference: "a".to_owned(), login: None, secret: None }),
                "code and an image",
            ),
            (|f| f.isolation = Isolation::Wasm, "isolation"),
            (|f| f.handler = None, "handler"),
            (|f| f.limits.memory_mib = 1, "memory_mib is 1; 16 to 10240"),
            (|f| f.limits.timeout_ms = u64::MAX, "timeout_ms"),
            (|f| f.scaling.concurrency_max = 0, "concurrency_max"),
            (|f| (f.scaling.preload, f.runtime) = (true, Runtime::Node { major: 20 }), "in Python"),
            (|f| (f.scaling.preload, f.scaling.concurrency_per_instance) = (true, 2), "several calls"),
            (|f| drop(f.env.insert("A".to_owned(), "x".repeat(20_000))), "environment"),
            (|f| drop(f.env.insert("A=B".to_owned(), String::new())), "'A=B'"),
            (|f| drop(f.env.insert("A".to_owned(), "\0".to_owned())), "NUL"),
            (|f| f.aliases = vec!["12".parse().expect("a name")], "'12'"),
            (|f| f.events.on_failure = target("https://a.example/x"), "egress = [\"a.example:443\"]"),
            (|f| f.events.on_success = target("http://u:p@a.example/"), "a password"),
            (|f| f.triggers = vec![hook("a", "/x", "s"), hook("b", "/X", "s")], "at one path"),
            (|f| f.triggers = vec![hook("a", "/x", "env:NONE")], "env:NONE"),
        ];
        for (spoil, told) in cases {
            let mut function = good();
            spoil(&mut function);
            let refusal = request(&DeployRequest { functions: vec![function], message: None });
            let refusal = refusal.expect_err(told);
            assert!(refusal.message.contains(told) && refusal.message.contains("hello"), "{refusal}");
        }
        request(&DeployRequest { functions: vec![good()], message: None }).expect("it is good");
        assert!(request(&DeployRequest { functions: vec![good(), good()], message: None }).is_err());
        assert!(request(&DeployRequest { functions: vec![], message: None }).is_err());
    }

    #[test]
    fn a_container_has_no_network_of_its_own_where_the_machine_gives_none() {
        let lack = Err("nft is not installed: apt-get install nftables".to_owned());
        let ask = |spoil: fn(&mut DeployFunction)| {
            let mut function = good();
            spoil(&mut function);
            DeployRequest { functions: vec![function], message: None }
        };
        let all = ask(|function| function.egress = Egress::All);
        request(&all).expect("it may be asked for");
        let refusal = networks(&all, &lack).expect_err("not here");
        assert_eq!(refusal.code, Code::IsolationUnavailable);
        assert!(refusal.message.contains("hello") && refusal.message.contains("nftables"), "{refusal}");
        networks(&all, &Ok(())).expect("here it is");
        networks(&ask(|_| ()), &lack).expect("nothing is asked for");
        let component = |function: &mut DeployFunction| {
            function.egress = Egress::All;
            function.isolation = Isolation::Wasm;
        };
        networks(&ask(component), &lack).expect("components have no sockets");
    }
}
