//! Reads each table of a manifest. What is wrong is reported, and reading goes on.

mod domains;
mod trigger;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Component, Path},
};

use rouse_types::{
    AppName, Contract, Destination, Egress, FunctionName, InvokePolicy, Isolation, Protocol, Runtime,
    Signature,
    function::is_secret_name,
    limits::{ENV_BYTES_MAX, FUNCTIONS_PER_APP_MAX, MEMORY_MIB_MAX, MEMORY_MIB_MIN, TIMEOUT_MS_MAX},
    size,
};
use toml::de::DeTable;

use crate::{
    App, Build, Bytes, Error, Errors, Function, MANIFEST_BYTES_MAX, Manifest, Span,
    error::ERRORS_MAX,
    hint,
    value::{Report, Table, list, shown, string},
};

const ISOLATIONS: [(&str, Isolation); 2] = [("wasm", Isolation::Wasm), ("container", Isolation::Container)];
const INVOKES: [(&str, InvokePolicy); 3] = [
    ("tenant", InvokePolicy::Tenant),
    ("public", InvokePolicy::Public),
    ("internal", InvokePolicy::Internal),
];
const CONTRACTS: [(&str, Contract); 3] =
    [("component", Contract::Component), ("lambda", Contract::Lambda), ("http", Contract::Http)];
const SIGNATURES: [(&str, Signature); 4] = [
    ("http", Signature::Http),
    ("event", Signature::Event),
    ("cloudevent", Signature::CloudEvent),
    ("typed", Signature::Typed),
];
const PROTOCOLS: [(&str, Protocol); 2] = [("http1", Protocol::Http1), ("h2c", Protocol::H2c)];

/// Why a value is refused, and the next step.
type Wrong = (String, Option<String>);

pub(crate) fn manifest(text: &str) -> Result<Manifest, Errors> {
    if text.len() > MANIFEST_BYTES_MAX {
        let message = format!("the file has {} bytes; at most {MANIFEST_BYTES_MAX} are read", text.len());
        return Err(Errors { all: vec![Error::at(text, 0..0, message, None)] });
    }
    let (root, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        let all = syntax.into_iter().take(ERRORS_MAX).map(|error| {
            let span = error.span().unwrap_or(0..0);
            Error::at(text, span, error.message().to_owned(), None)
        });
        return Err(Errors { all: all.collect() });
    }
    let report = Report::new(text);
    // A table at the root has the whole file as its span: point at its first character instead.
    let mut table = Table::new(&report, "the manifest", 0..0, root.get_ref());
    let app = table
        .require("app", "begin with\n        [app]\n        name = \"my-app\"")
        .and_then(|value| app(&report, value));
    let functions = table
        .require(
            "functions",
            "add a function:\n        [functions.hello]\n        source = \"functions/hello\"",
        )
        .map(|value| functions(&report, value));
    table.finish();
    let all = report.into_errors();
    match (app, functions) {
        (Some(app), Some(functions)) if all.is_empty() => Ok(Manifest { app, functions }),
        _ => Err(Errors { all }),
    }
}

fn app(report: &Report<'_>, value: &crate::value::Value<'_>) -> Option<App> {
    let mut table = Table::of(report, "[app]", value)?;
    table.require("name", "add a name, such as name = \"my-app\"");
    let name = table.parsed("name", |text| AppName::new(text).map_err(plain));
    table.finish();
    Some(App { name: name? })
}

fn functions(report: &Report<'_>, value: &crate::value::Value<'_>) -> BTreeMap<FunctionName, Function> {
    let Some(table) = Table::of(report, "[functions]", value) else { return BTreeMap::new() };
    if table.entries().is_empty() {
        report.error(value.span(), "[functions] has no function", None);
    }
    if table.entries().len() > FUNCTIONS_PER_APP_MAX {
        let message =
            format!("{} functions; an app has at most {FUNCTIONS_PER_APP_MAX}", table.entries().len());
        report.error(value.span(), message, "make several apps of it".to_owned());
    }
    let mut functions = BTreeMap::new();
    for (key, key_span, value) in table.entries() {
        let name = FunctionName::new(*key);
        if let Err(error) = &name {
            let better: String = key.to_ascii_lowercase().replace(['_', '.', ' '], "-");
            let hint = FunctionName::new(better).ok().map(|name| format!("[functions.{name}] would do"));
            report.error(key_span.clone(), shown(&error.to_string()), hint);
        }
        let function = function(report, &shown(key), key_span, value);
        if let (Ok(name), Some(function)) = (name, function) {
            functions.insert(name, function);
        }
    }
    functions
}

fn function(
    report: &Report<'_>,
    name: &str,
    key: &Range<usize>,
    value: &crate::value::Value<'_>,
) -> Option<Function> {
    let Some(entries) = value.get_ref().as_table() else {
        Table::of(report, format!("[functions.{name}]"), value);
        return None;
    };
    // The span of a table that a header opens is the header's; the name in it is the better place.
    let mut table = Table::new(report, format!("[functions.{name}]"), key.clone(), entries);
    let has_image = table.entries().iter().any(|(key, ..)| *key == "image");
    if !has_image {
        table.require("source", "point it at the code: source = \"functions/hello\"");
    }
    let source = table.parsed("source", |text| relative(text).map(str::to_owned));
    let image = table.parsed("image", image);
    for key in ["source", "runtime", "handler", "build"] {
        if let (true, Some(value)) = (has_image, table.get(key)) {
            let message = format!("`{key}` does not go with `image`, which brings its own");
            report.error(value.span(), message, format!("leave one of `image` and `{key}` out"));
        }
    }
    let image_secret = table.parsed("image_secret", secret);
    if let Some(value) = table.get("image_secret").filter(|_| !image.as_deref().is_some_and(is_pulled)) {
        let message = "`image_secret` needs an `image` from a registry";
        report.error(
            value.span(),
            message.to_owned(),
            "leave it out, or name one: registry/name:tag".to_owned(),
        );
    }
    let runtime =
        table.parsed("runtime", |text| text.parse::<Runtime>().map_err(|error| runtime_hint(text, &error)));
    let contract = table.parsed("contract", |text| word(text, "a contract", &CONTRACTS));
    let signature = table.parsed("signature", |text| word(text, "a signature", &SIGNATURES));
    let protocol = table.parsed("protocol", |text| word(text, "a protocol", &PROTOCOLS));
    let health = table.parsed("health", health);
    let command = table.strings("command").into_iter().map(|(text, _)| text.to_owned()).collect();
    let handler = table.parsed("handler", handler);
    let isolation = table.parsed("isolation", |text| word(text, "an isolation", &ISOLATIONS));
    let memory = table.parsed("memory", |text| {
        let bytes = size::parse_bytes(text).map_err(plain)?;
        let range = u64::from(MEMORY_MIB_MIN) << 20..=u64::from(MEMORY_MIB_MAX) << 20;
        whole_mib(text, bytes, &range)
    });
    let tmp = table.parsed("tmp", |text| {
        let bytes = size::parse_bytes(text).map_err(plain)?;
        whole_mib(text, bytes, &(1 << 20..=u64::from(MEMORY_MIB_MAX) << 20))
    });
    let function = Function {
        source: source.unwrap_or_default(),
        runtime: if has_image { Some(Runtime::Image) } else { runtime },
        image,
        image_secret,
        contract,
        command,
        signature,
        protocol,
        health,
        handler,
        isolation,
        memory,
        timeout: table.parsed("timeout", duration),
        init_timeout: table.parsed("init_timeout", duration),
        tmp,
        request_body_max: table.parsed("request_body_max", bytes),
        response_body_max: table.parsed("response_body_max", bytes),
        log_max: table.parsed("log_max", bytes),
        processes_max: table.number("processes_max", 1),
        concurrency_max: table.number("concurrency_max", 1),
        concurrency_per_instance: table.number("concurrency_per_instance", 1),
        queue_max: table.number("queue_max", 0),
        queue_timeout: table.parsed("queue_timeout", duration),
        instance_reuse: table.number("instance_reuse", 1),
        preload: table.flag("preload"),
        egress: egress(report, &mut table),
        invoke: table.parsed("invoke", |text| word(text, "who may call", &INVOKES)),
        domains: domains::domains(report, &mut table),
        env: table.get("env").map(|value| env(report, value)).unwrap_or_default(),
        secrets: table.get("secrets").map(|value| secrets(report, value)).unwrap_or_default(),
        triggers: table
            .get("triggers")
            .map(|value| trigger::triggers(report, name, value))
            .unwrap_or_default(),
        events: table.get("events").map(|value| trigger::events(report, name, value)).unwrap_or_default(),
        build: table.get("build").and_then(|value| build(report, name, value)),
    };
    if let (Some(runtime), Some(value)) = (&function.runtime, table.get("isolation"))
        && let Err(message) = function.isolation_for(runtime)
    {
        report.error(value.span(), message, "leave `isolation` out: the runtime decides it".to_owned());
    }
    contract_fits(report, &function, &mut table);
    preload_fits(report, &function, &mut table);
    table.finish();
    Some(function)
}

/// Only Python can be forked, and an instance of several processes forks them itself.
fn preload_fits(report: &Report<'_>, function: &Function, table: &mut Table<'_, '_>) {
    let Some(value) = table.get("preload").filter(|_| function.preload == Some(true)) else { return };
    let forks = matches!(function.runtime, None | Some(Runtime::Python { .. }))
        && !matches!(function.contract, Some(Contract::Http));
    if !forks {
        let message = "`preload` is for Lambda functions in Python".to_owned();
        report.error(value.span(), message, "leave it out".to_owned());
    } else if function.concurrency_per_instance.is_some_and(|calls| calls > 1) {
        let message = "`preload` does not go with several calls at once in one instance".to_owned();
        report.error(value.span(), message, "leave out one of the two".to_owned());
    }
}

/// What only the contract `http` knows is an error beside another one.
fn contract_fits(report: &Report<'_>, function: &Function, table: &mut Table<'_, '_>) {
    if let (Some(runtime), Some(contract), Some(value)) =
        (&function.runtime, function.contract, table.get("contract"))
        && !runtime.speaks(contract)
    {
        let message = format!("runtime {runtime} does not speak the contract {contract}");
        report.error(value.span(), message, format!("it speaks {}", runtime.default_contract()));
    }
    let is_image = function.runtime == Some(Runtime::Image);
    if function.contract == Some(Contract::Http) || is_image && function.contract.is_none() {
        return;
    }
    for key in ["command", "signature", "protocol", "health"] {
        if let Some(value) = table.get(key).filter(|_| !is_image || key != "command") {
            let message = format!("`{key}` belongs to the contract http");
            report.error(value.span(), message, "add contract = \"http\"".to_owned());
        }
    }
}

fn build(report: &Report<'_>, name: &str, value: &crate::value::Value<'_>) -> Option<Build> {
    let mut table = Table::of(report, format!("[functions.{name}.build]"), value)?;
    table.require("command", "say how it is built, such as command = \"npm run build\"");
    let command = table.parsed("command", |text| {
        if text.trim().is_empty() || text.contains('\0') {
            return Err(("a command must not be empty".to_owned(), None));
        }
        Ok(text.to_owned())
    });
    let output = table.parsed("output", |text| relative(text).map(str::to_owned));
    let mut watch = Vec::new();
    for (text, span) in table.strings("watch") {
        match relative(text) {
            Ok(path) => watch.push(path.to_owned()),
            Err((message, hint)) => report.error(span, format!("`watch`: {message}"), hint),
        }
    }
    table.finish();
    Some(Build { command: command?, output, watch })
}

fn egress(report: &Report<'_>, table: &mut Table<'_, '_>) -> Egress {
    if let Some(value) = table.get("egress")
        && let Some(text) = value.get_ref().as_str()
    {
        if text == Egress::ALL {
            return Egress::All;
        }
        let message = "`egress` must be a list of texts, or \"*\" for everything";
        let hint = text.parse::<Destination>().ok().map(|one| format!("write egress = [\"{one}\"]"));
        report.error(value.span(), message, hint);
        return Egress::default();
    }
    let mut allowed = Vec::new();
    for (text, span) in table.strings("egress") {
        match text.parse::<Destination>() {
            Ok(destination) => allowed.push(destination),
            Err(error) => {
                let host = text.split_once("://").map_or(text, |(_, rest)| rest);
                let host = host.split(['/', '?']).next().unwrap_or_default();
                let port = if text.starts_with("http://") { 80 } else { 443 };
                let hint = format!("{host}:{port}").parse::<Destination>().ok();
                let hint = hint.map(|destination| format!("did you mean \"{destination}\"?"));
                report.error(span, format!("`egress`: {error}"), hint);
            }
        }
    }
    Egress::Only(allowed)
}

/// Checks a variable's name.
fn variable(report: &Report<'_>, name: &str, span: &Range<usize>) {
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        let message = format!("`{}` is not a variable's name", shown(name));
        report.error(span.clone(), message, "use letters, digits and '_', and no digit first".to_owned());
    } else if name.starts_with("AWS_LAMBDA_") || name == "_HANDLER" {
        let message = format!("`{}` is set by the platform", shown(name));
        report.error(span.clone(), message, "choose another name".to_owned());
    }
}

fn secrets(report: &Report<'_>, value: &crate::value::Value<'_>) -> BTreeMap<String, String> {
    let Some(table) = Table::of(report, "[secrets]", value) else { return BTreeMap::new() };
    let mut secrets = BTreeMap::new();
    for (name, span, value) in table.entries() {
        variable(report, name, span);
        let Some((text, span)) = string(report, name, value) else { continue };
        if let Err((message, hint)) = secret(text) {
            report.error(span, message, hint);
        }
        secrets.insert((*name).to_owned(), text.to_owned());
    }
    secrets
}

fn secret(text: &str) -> Result<String, Wrong> {
    if is_secret_name(text) {
        return Ok(text.to_owned());
    }
    let hint = "name a secret, such as \"db-password\", and set it by `rouse secret set db-password`";
    Err((format!("'{}' is not a secret's name", shown(text)), Some(hint.to_owned())))
}

fn env(report: &Report<'_>, value: &crate::value::Value<'_>) -> BTreeMap<String, String> {
    let Some(table) = Table::of(report, "[env]", value) else { return BTreeMap::new() };
    let mut env = BTreeMap::new();
    let mut size = 0;
    for (name, span, value) in table.entries() {
        variable(report, name, span);
        if let Some((text, span)) = string(report, name, value) {
            if text.contains('\0') {
                report.error(span, format!("`{}` holds a NUL character", shown(name)), None);
            }
            size += name.len() + text.len();
            env.insert((*name).to_owned(), text.to_owned());
        }
    }
    if size > ENV_BYTES_MAX {
        let message =
            format!("`env` has {size} bytes of names and values; at most {ENV_BYTES_MAX} are allowed");
        report.error(value.span(), message, "put large values into a file of the source".to_owned());
    }
    env
}

/// A path below the manifest's folder. The text alone decides: a link that leads out is found when the
/// code is packed.
fn relative(text: &str) -> Result<&str, Wrong> {
    let wrong = |message: &str, hint: &str| Err((message.to_owned(), Some(hint.to_owned())));
    if text.is_empty() {
        return wrong("a path must not be empty", "\".\" is this file's own folder");
    }
    if text.contains(['\0', '\\']) {
        return wrong("the path has a character that paths here do not have", "part folders with '/'");
    }
    for component in Path::new(text).components() {
        match component {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => {
                return wrong(
                    "the path leads out of the app's folder",
                    "keep the code below the folder of rouse.toml, without '..'",
                );
            }
            Component::RootDir | Component::Prefix(_) => {
                return wrong("the path is absolute", "write it relative to rouse.toml");
            }
        }
    }
    Ok(text)
}

/// Whether an image is a registry's.
fn is_pulled(image: &str) -> bool {
    !["oci:", "docker-archive:"].iter().any(|scheme| image.starts_with(scheme))
}

/// A registry's name for an image, or a path to one. Whether a name is one is said by who reads it.
fn image(text: &str) -> Result<String, Wrong> {
    for scheme in ["oci:", "docker-archive:"] {
        if let Some(path) = text.strip_prefix(scheme) {
            return relative(path).map(|_| text.to_owned());
        }
    }
    if !text.is_empty()
        && text.len() <= 512
        && text.bytes().all(|b| b.is_ascii_graphic())
        && !text.contains("://")
    {
        return Ok(text.to_owned());
    }
    let hint = "write registry/name:tag, oci:./folder or docker-archive:./file.tar".to_owned();
    Err((format!("'{}' is not an image", shown(text)), Some(hint)))
}

fn handler(text: &str) -> Result<String, Wrong> {
    let parts =
        |text: &str| text.rsplit_once('.').is_some_and(|(file, name)| !file.is_empty() && !name.is_empty());
    let safe = text.bytes().all(|b| b.is_ascii_graphic()) && !text.starts_with('/') && !text.contains("..");
    if parts(text) && safe && text.len() <= 128 {
        return Ok(text.to_owned());
    }
    let message = format!("'{}' is not a handler", shown(text));
    Err((message, Some("write file.function, such as \"app.handler\" for `handler` in app.py".to_owned())))
}

/// One of a few known words.
fn word<T: Copy>(text: &str, what: &str, known: &'static [(&'static str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&'static str> = known.iter().map(|(name, _)| *name).collect();
    let hint = match hint::meant(text, &names) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("known are {}", list(&names)),
    };
    Err((format!("'{}' is not {what}", shown(text)), Some(hint)))
}

fn health(text: &str) -> Result<String, Wrong> {
    if text.starts_with('/') && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let hint = "write an absolute path, such as \"/healthz\"".to_owned();
    Err((format!("'{}' is not a health path", shown(text)), Some(hint)))
}

fn runtime_hint(text: &str, error: &rouse_types::function::RuntimeError) -> Wrong {
    let lower = text.to_ascii_lowercase();
    let better = match lower
        .trim_start_matches(|c: char| c.is_ascii_alphabetic())
        .trim_matches(['-', ' ', '@', ':'])
    {
        rest if lower.starts_with("node") && !rest.is_empty() => {
            format!("nodejs{}", rest.trim_start_matches(['-', '.']))
        }
        rest if lower.starts_with("python") && !rest.is_empty() => format!("python{rest}"),
        _ if lower.starts_with("wasm") || lower.starts_with("wasi") => "component".to_owned(),
        _ => String::new(),
    };
    let hint = better.parse::<Runtime>().ok().map(|runtime| format!("did you mean \"{runtime}\"?"));
    (error.to_string(), hint)
}

fn bytes(text: &str) -> Result<Bytes, Wrong> {
    size::parse_bytes(text).map(Bytes).map_err(plain)
}

fn whole_mib(text: &str, bytes: u64, range: &std::ops::RangeInclusive<u64>) -> Result<Bytes, Wrong> {
    if !range.contains(&bytes) {
        let (least, most) = (range.start() >> 20, range.end() >> 20);
        return Err((format!("'{}' is not from {least}MiB to {most}MiB", shown(text)), None));
    }
    if !bytes.is_multiple_of(1 << 20) {
        let hint = format!("the next is \"{}MiB\"", bytes.div_ceil(1 << 20));
        return Err((format!("'{}' is not a whole number of MiB", shown(text)), Some(hint)));
    }
    Ok(Bytes(bytes))
}

fn duration(text: &str) -> Result<Span, Wrong> {
    let duration = size::parse_duration(text).map_err(plain)?;
    if duration.is_zero() || duration.as_millis() > u128::from(TIMEOUT_MS_MAX) {
        return Err((format!("'{}' is not from 1ms to {}h", shown(text), TIMEOUT_MS_MAX / 3_600_000), None));
    }
    Ok(Span(duration))
}

fn plain(error: impl std::fmt::Display) -> Wrong {
    (shown_long(&error.to_string()), None)
}

fn shown_long(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
