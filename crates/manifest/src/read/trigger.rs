//! Reads `[[functions.x.triggers]]` and `[functions.x.events]`.

use std::{ops::Range, time::Duration};

use rouse_types::{
    EventSettings, EventTarget, Trigger, size,
    trigger::{
        CatchUp, DatabaseSource, HmacHeader, ObjectChange, ObjectSource, On, QueueSource, RowChange,
        Schedule, Signer, TRIGGERS_MAX, TopicSource, WebhookSource, When, is_resource_name,
    },
};
use toml::de::DeValue;

use super::{Wrong, plain, word};
use crate::{
    value::{Report, Table, Value, shown},
    written::SignerName,
};

const KINDS: [&str; 6] = ["schedule", "queue", "topic", "object", "database", "webhook"];
const CATCH_UPS: [(&str, CatchUp); 3] =
    [("skip", CatchUp::Skip), ("once", CatchUp::Once), ("all", CatchUp::All)];
const OBJECT_CHANGES: [(&str, ObjectChange); 2] =
    [("created", ObjectChange::Created), ("removed", ObjectChange::Removed)];
const ROW_CHANGES: [(&str, RowChange); 4] = [
    ("insert", RowChange::Insert),
    ("update", RowChange::Update),
    ("delete", RowChange::Delete),
    ("truncate", RowChange::Truncate),
];
const SIGNERS: [(&str, SignerName); 6] = [
    ("github", SignerName::Github),
    ("gitlab", SignerName::Gitlab),
    ("stripe", SignerName::Stripe),
    ("standard", SignerName::Standard),
    ("slack", SignerName::Slack),
    ("hmac", SignerName::Hmac),
];
const ALGORITHMS: [(&str, &str); 3] = [("sha1", "sha1"), ("sha256", "sha256"), ("sha512", "sha512")];
const ENCODINGS: [(&str, &str); 2] = [("hex", "hex"), ("base64", "base64")];

const DAY: Duration = Duration::from_secs(86_400);
/// How deep a filter or an input may be nested.
const JSON_DEPTH_MAX: usize = 32;

pub(super) fn triggers(report: &Report<'_>, function: &str, value: &Value<'_>) -> Vec<Trigger> {
    let Some(list) = value.get_ref().as_array() else {
        let hint = format!("write [[functions.{function}.triggers]], once for each");
        report.error(value.span(), "`triggers` must be a list of tables", hint);
        return Vec::new();
    };
    if list.len() > TRIGGERS_MAX {
        let message = format!("{} triggers; a function has at most {TRIGGERS_MAX}", list.len());
        report.error(value.span(), message, None);
    }
    let mut triggers: Vec<Trigger> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let Some(trigger) = trigger(report, function, index, value) else { continue };
        if triggers.iter().any(|known| known.name == trigger.name) {
            let message = format!("two triggers of the function are named '{}'", trigger.name);
            report.error(value.span(), message, "give one of them another `name`".to_owned());
        }
        triggers.push(trigger);
    }
    triggers
}

fn trigger(report: &Report<'_>, function: &str, index: usize, value: &Value<'_>) -> Option<Trigger> {
    let mut table = Table::of(report, format!("[[functions.{function}.triggers]]"), value)?;
    let name = table.parsed("name", |text| match is_resource_name(text) {
        true => Ok(text.to_owned()),
        false => Err((format!("'{}' is no name: use letters, digits, '-', '_' and '.'", shown(text)), None)),
    });
    let filter = table.get("filter").and_then(|value| json(report, "filter", value));
    let kinds: Vec<(&'static str, &Value<'_>)> =
        KINDS.into_iter().filter_map(|kind| Some((kind, table.get(kind)?))).collect();
    let on = match kinds.as_slice() {
        [(kind, value)] => on(report, kind, value),
        [] => {
            let hint = "write one of schedule, queue, topic, object, database, webhook".to_owned();
            report.error(value.span(), "a trigger must say what it waits for", hint);
            None
        }
        [(one, _), (other, at), ..] => {
            let message = format!("a trigger waits for one thing, not for `{one}` and `{other}`");
            report.error(at.span(), message, format!("write a [[functions.{function}.triggers]] for each"));
            None
        }
    };
    table.finish();
    let on = on?;
    let name = name.unwrap_or_else(|| format!("{}-{}", on.kind(), index + 1));
    Some(Trigger { name, on, filter })
}

fn on(report: &Report<'_>, kind: &str, value: &Value<'_>) -> Option<On> {
    match kind {
        "schedule" => schedule(report, value).map(On::Schedule),
        "queue" => queue(report, value).map(On::Queue),
        "topic" => {
            let topic = crate::value::string(report, "topic", value)?;
            resource(report, "topic", topic).map(|topic| On::Topic(TopicSource { topic }))
        }
        "object" => object(report, value).map(On::Object),
        "database" => database(report, value).map(On::Database),
        _ => webhook(report, value).map(On::Webhook),
    }
}

fn schedule(report: &Report<'_>, value: &Value<'_>) -> Option<Schedule> {
    let plain = |when| Schedule {
        when,
        timezone: "UTC".to_owned(),
        jitter_ms: 0,
        catch_up: CatchUp::default(),
        input: None,
    };
    if let Some(line) = value.get_ref().as_str() {
        return Some(plain(When::Cron(line.to_owned())));
    }
    let mut table = Table::of(report, "schedule", value)?;
    let cron = table.string("cron").map(|(text, _)| When::Cron(text.to_owned()));
    let every = table.parsed("every", |text| span(text, Duration::from_secs(1), DAY * 366));
    let at = table.string("at").map(|(text, _)| When::At(text.to_owned()));
    let mut whens: Vec<When> = cron.into_iter().chain(every.map(When::EveryMs)).chain(at).collect();
    let zone = table.string("timezone").map(|(text, _)| text.to_owned());
    let jitter_ms = table.parsed("jitter", |text| span(text, Duration::ZERO, DAY)).unwrap_or(0);
    let catch_up = table.parsed("catch_up", |text| word(text, "a policy", &CATCH_UPS)).unwrap_or_default();
    let input = table.get("input").and_then(|value| json(report, "input", value));
    let given = ["cron", "every", "at"].into_iter().filter(|key| table.get(key).is_some()).count();
    table.finish();
    if given != 1 {
        let hint = "such as { cron = \"0 3 * * *\" } or { every = \"15m\" }".to_owned();
        report.error(value.span(), "`schedule` needs exactly one of `cron`, `every` and `at`", hint);
        return None;
    }
    let schedule = plain(whens.pop()?);
    Some(Schedule { timezone: zone.unwrap_or(schedule.timezone), jitter_ms, catch_up, input, ..schedule })
}

fn queue(report: &Report<'_>, value: &Value<'_>) -> Option<QueueSource> {
    let mut source =
        QueueSource { queue: String::new(), batch_size: 10, batch_window_ms: 0, concurrency_max: 10 };
    if let Some(name) = value.get_ref().as_str() {
        source.queue = resource(report, "queue", (name, value.span()))?;
        return Some(source);
    }
    let mut table = Table::of(report, "queue", value)?;
    table.require("name", "name the queue");
    let name = table.string("name");
    if let Some(size) = table.number("batch_size", 1) {
        source.batch_size = size.min(1_000);
        if let (true, Some(value)) = (size > 1_000, table.get("batch_size")) {
            report.error(value.span(), "`batch_size` is at most 1000", None);
        }
    }
    source.batch_window_ms = table
        .parsed("batch_window", |text| span(text, Duration::ZERO, Duration::from_secs(300)))
        .unwrap_or(0);
    source.concurrency_max = table.number("concurrency_max", 1).unwrap_or(source.concurrency_max);
    table.finish();
    source.queue = resource(report, "name", name?)?;
    Some(source)
}

fn object(report: &Report<'_>, value: &Value<'_>) -> Option<ObjectSource> {
    let mut source = ObjectSource {
        bucket: String::new(),
        events: vec![ObjectChange::Created],
        prefix: String::new(),
        suffix: String::new(),
    };
    if let Some(name) = value.get_ref().as_str() {
        source.bucket = resource(report, "object", (name, value.span()))?;
        return Some(source);
    }
    let mut table = Table::of(report, "object", value)?;
    table.require("bucket", "name the bucket");
    let bucket = table.string("bucket");
    let events = words(report, &mut table, "events", "a change of objects", &OBJECT_CHANGES);
    source.events = events.unwrap_or(source.events);
    source.prefix = table.string("prefix").map(|(text, _)| text.to_owned()).unwrap_or_default();
    source.suffix = table.string("suffix").map(|(text, _)| text.to_owned()).unwrap_or_default();
    table.finish();
    source.bucket = resource(report, "bucket", bucket?)?;
    Some(source)
}

fn database(report: &Report<'_>, value: &Value<'_>) -> Option<DatabaseSource> {
    let mut table = Table::of(report, "database", value)?;
    table.require(
        "url",
        "say where it is: url = \"env:DATABASE_URL\", with the variable in the function's env",
    );
    let url = table.parsed("url", |text| match text.split_once(':') {
        Some(("env", name)) if !name.is_empty() => Ok(text.to_owned()),
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(text.to_owned()),
        _ => Err((
            "it is no address of a PostgreSQL database".to_owned(),
            Some("write postgres://user:password@host:5432/database, or env:NAME".to_owned()),
        )),
    });
    table.require("tables", "name the tables, such as tables = [\"public.orders\"]");
    let mut tables = Vec::new();
    for (text, span) in table.strings("tables") {
        if text.split_once('.').is_some_and(|(schema, table)| !schema.is_empty() && !table.is_empty()) {
            tables.push(text.to_owned());
        } else {
            let hint = format!("did you mean \"public.{}\"?", shown(text));
            report.error(span, format!("'{}' is no table: write schema.table", shown(text)), hint);
        }
    }
    if let (true, Some(value)) = (tables.is_empty(), table.get("tables")) {
        report.error(value.span(), "`tables` names no table", None);
    }
    let operations = words(report, &mut table, "operations", "a change of rows", &ROW_CHANGES)
        .unwrap_or_else(|| vec![RowChange::Insert, RowChange::Update, RowChange::Delete]);
    table.finish();
    Some(DatabaseSource { url: url?, tables, operations })
}

fn webhook(report: &Report<'_>, value: &Value<'_>) -> Option<WebhookSource> {
    let mut table = Table::of(report, "webhook", value)?;
    table.require("path", "say where it arrives, such as path = \"/hooks/github\"");
    table.require("signer", "say who signs, such as signer = \"github\"");
    table.require("secrets", "say what it is signed with, such as secrets = [\"env:GITHUB_SECRET\"]");
    let path = table.parsed("path", super::health).map(|path| path.trim_end_matches('/').to_owned());
    let signer = table.parsed("signer", |text| word(text, "a signer", &SIGNERS));
    let secrets: Vec<String> =
        table.strings("secrets").into_iter().map(|(text, _)| text.to_owned()).collect();
    if let (true, Some(value)) = (secrets.iter().all(String::is_empty), table.get("secrets")) {
        report.error(value.span(), "`secrets` has no secret, so that anybody could call", None);
    }
    let tolerance_ms = table.parsed("tolerance", |text| span(text, Duration::from_secs(1), DAY));
    let text = |table: &mut Table<'_, '_>, key| table.string(key).map(|(text, _)| text.to_owned());
    let header = text(&mut table, "header");
    let algorithm = table.parsed("algorithm", |text| word(text, "an algorithm", &ALGORITHMS));
    let encoding = table.parsed("encoding", |text| word(text, "an encoding", &ENCODINGS));
    let (prefix, id_header) = (text(&mut table, "prefix"), text(&mut table, "id_header"));
    let hmac = signer == Some(SignerName::Hmac);
    for key in ["header", "algorithm", "encoding", "prefix", "id_header"] {
        if let (false, Some(value)) = (hmac, table.get(key)) {
            let hint = "leave it out: the signer knows its own".to_owned();
            report.error(value.span(), format!("`{key}` belongs to the signer \"hmac\""), hint);
        }
    }
    if hmac {
        table.require("header", "name the header that holds the signature, such as header = \"x-signature\"");
    }
    table.finish();
    let signer = match signer? {
        SignerName::Github => Signer::Github,
        SignerName::Gitlab => Signer::Gitlab,
        SignerName::Stripe => Signer::Stripe,
        SignerName::Standard => Signer::Standard,
        SignerName::Slack => Signer::Slack,
        SignerName::Hmac => Signer::Hmac(HmacHeader {
            header: header?,
            algorithm: algorithm.unwrap_or("sha256").to_owned(),
            encoding: encoding.unwrap_or("hex").to_owned(),
            prefix: prefix.unwrap_or_default(),
            id_header,
        }),
    };
    Some(WebhookSource { path: path?, signer, secrets, tolerance_ms: tolerance_ms.unwrap_or(300_000) })
}

pub(super) fn events(report: &Report<'_>, function: &str, value: &Value<'_>) -> EventSettings {
    let default = EventSettings::default();
    let Some(mut table) = Table::of(report, format!("[functions.{function}.events]"), value) else {
        return default;
    };
    let target = |text: &str| text.parse::<EventTarget>().map_err(plain);
    let attempts = table.number("attempts", 1).unwrap_or(default.attempts);
    if let (true, Some(value)) = (attempts > 100, table.get("attempts")) {
        report.error(value.span(), "`attempts` is at most 100", None);
    }
    let backoff_ms = table.parsed("backoff", |text| span(text, Duration::ZERO, DAY));
    let longest = table.parsed("backoff_max", |text| span(text, Duration::ZERO, DAY));
    let age_max_ms = table.parsed("age_max", |text| span(text, Duration::from_secs(1), DAY * 14));
    let backoff_ms = backoff_ms.unwrap_or(default.backoff_ms);
    let settings = EventSettings {
        attempts,
        backoff_ms,
        backoff_max_ms: longest.unwrap_or(default.backoff_max_ms).max(backoff_ms),
        age_max_ms: age_max_ms.unwrap_or(default.age_max_ms),
        idempotency_ms: table.parsed("idempotency", |text| span(text, Duration::from_secs(1), DAY * 30)),
        on_success: table.parsed("on_success", target),
        on_failure: table.parsed("on_failure", target),
    };
    table.finish();
    settings
}

fn words<T: Copy>(
    report: &Report<'_>,
    table: &mut Table<'_, '_>,
    key: &'static str,
    what: &str,
    known: &'static [(&'static str, T)],
) -> Option<Vec<T>> {
    let span = table.get(key)?.span();
    let mut found = Vec::new();
    for (text, span) in table.strings(key) {
        match word(text, what, known) {
            Ok(value) => found.push(value),
            Err((message, hint)) => report.error(span, format!("`{key}`: {message}"), hint),
        }
    }
    if found.is_empty() {
        report.error(span, format!("`{key}` is empty: the trigger would never fire"), None);
    }
    Some(found)
}

fn resource(report: &Report<'_>, key: &str, (text, span): (&str, Range<usize>)) -> Option<String> {
    if is_resource_name(text) {
        return Some(text.to_owned());
    }
    let message = format!("`{key}`: '{}' is no name", shown(text));
    report.error(span, message, "use up to 63 letters, digits, '-', '_' and '.'".to_owned());
    None
}

/// Milliseconds within bounds.
fn span(text: &str, least: Duration, most: Duration) -> Result<u64, Wrong> {
    let span = size::parse_duration(text).map_err(plain)?;
    if (least..=most).contains(&span) {
        return Ok(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    }
    Err((format!("'{}' is not from {}s to {}h", shown(text), least.as_secs(), most.as_secs() / 3_600), None))
}

/// A value of TOML as JSON: patterns and inputs are JSON wherever else they are met.
fn json(report: &Report<'_>, key: &str, value: &Value<'_>) -> Option<serde_json::Value> {
    match convert(value.get_ref(), JSON_DEPTH_MAX) {
        Ok(json) => Some(json),
        Err(message) => {
            report.error(value.span(), format!("`{key}`: {message}"), None);
            None
        }
    }
}

fn convert(value: &DeValue<'_>, depth: usize) -> Result<serde_json::Value, String> {
    use serde_json::Value as Json;
    let depth = depth.checked_sub(1).ok_or_else(|| format!("it is nested deeper than {JSON_DEPTH_MAX}"))?;
    Ok(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(value) => Json::from(*value),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Json::from)
            .map_err(|_| format!("{} is too large a number", shown(number.as_str())))?,
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Json::Number)
            .ok_or_else(|| format!("{} is no number of JSON", shown(number.as_str())))?,
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(list) => {
            Json::Array(list.iter().map(|each| convert(each.get_ref(), depth)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Json::Object(
            table
                .iter()
                .map(|(key, each)| Ok((key.get_ref().to_string(), convert(each.get_ref(), depth)?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}
