//! CloudWatch Logs over the platform's own log: what functions printed, by group (a function) and stream (one of its
//! versions on a day), with the lines that AWS writes around each call. And the tail of one call's log.

mod calls;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    path::Path,
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Response, StatusCode};
use rouse_store::journal::{Cursor, Reader};
use rouse_types::{
    AppSnapshot, FunctionName, InvocationId, LogLine, TenantId, Timestamp, Usage, log::Stream,
};
use serde_json::{Value, json};

use crate::{
    Body,
    error::AwsError,
    face::{Around, Face},
    lambda::invoke::{Outcome, Reached},
    names, server,
    state::{self, Function},
};

/// What is shown of one call's log.
const TAIL_BYTES: usize = 4_096;
/// How long to wait for what a call printed last to be read from its pipe.
const TAIL_WAIT: Duration = Duration::from_millis(20);
const TAIL_LOOKS: usize = 5;
/// Records of one read.
const BATCH: usize = 10_000;
/// Lines that are held at most.
const LINES_MAX: usize = 50_000;
/// Events of one page.
const PAGE: u64 = 10_000;
/// The group of a function whose settings name none.
const PREFIX: &str = "/aws/lambda/";

/// What of a journal fits. Blocks; the newest are kept when there are too many.
fn newest<T>(journal: &Path, times: Range<Timestamp>, fits: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    let mut reader = Reader::open(journal, Cursor::default()).between(times);
    let mut found = VecDeque::new();
    while let Ok(batch) = reader.read(BATCH) {
        for one in batch.records.iter().filter_map(|record| fits(&record.payload)) {
            if found.len() == LINES_MAX {
                found.pop_front();
            }
            found.push_back(one);
        }
        if batch.caught_up {
            break;
        }
    }
    found.into()
}

/// The lines that fit, in the order of their time. Blocks.
fn read(face: &Face, times: Range<Timestamp>, fits: impl Fn(&LogLine) -> bool) -> Vec<LogLine> {
    let journal = face.config.state.join("journal/log");
    let mut lines = newest(&journal, times, |bytes| LogLine::read(bytes).ok().filter(&fits));
    lines.sort_by_key(|line| line.time);
    lines
}

/// The same of a whole function, with what AWS writes around each call.
fn read_group(face: &Face, group: &Group, times: Range<Timestamp>, now: Timestamp) -> Vec<LogLine> {
    let mut lines = read(face, times.clone(), |line| group.has(&line.tenant, &line.function));
    let mut printed = HashMap::new();
    for line in &lines {
        // They are in order: the last one stays.
        line.invocation.and_then(|id| printed.insert(id, line.time));
    }
    let journal = face.config.state.join("journal/usage");
    let since = calls::since(times.start, now)..times.end;
    let usage = newest(&journal, since, |bytes| {
        Usage::read(bytes).ok().filter(|usage| group.has(&usage.tenant, &usage.function))
    });
    lines.extend(usage.iter().flat_map(|usage| calls::around(usage, group.version(usage.version), &printed)));
    lines.retain(|line| times.contains(&line.time));
    // What begins a call comes before what it printed in the same microsecond, and what ends it after.
    lines
        .sort_by_key(|line| (line.time, line.stream == Stream::Platform && !line.text.starts_with("START ")));
    lines
}

async fn read_on(
    face: &Arc<Face>,
    times: Range<Timestamp>,
    fits: impl Fn(&LogLine) -> bool + Send + 'static,
) -> Vec<LogLine> {
    let face = Arc::clone(face);
    tokio::task::spawn_blocking(move || read(&face, times, fits)).await.unwrap_or_default()
}

/// The end of what a call printed, with the lines that AWS puts around it.
pub(crate) async fn tail(face: &Arc<Face>, around: &Around, reached: &Reached, outcome: &Outcome) -> String {
    let mut lines: Vec<LogLine> = Vec::new();
    if let Ok(id) = outcome.id.parse::<InvocationId>() {
        let before = around.now.as_millis().saturating_sub(5_000);
        let times = Timestamp::from_millis(before)..Timestamp(u64::MAX);
        // What was printed just before the answer may still be in its pipe: two looks that see the same see it all.
        for look in 0..TAIL_LOOKS {
            let found = read_on(face, times.clone(), move |line| line.invocation == Some(id)).await;
            let same = look > 0 && found.len() == lines.len();
            lines = found;
            if same {
                break;
            }
            tokio::time::sleep(TAIL_WAIT).await;
        }
    }
    let (id, version) = (&outcome.id, &reached.version);
    let report = calls::Report {
        run_us: outcome.run_us,
        billed_ms: outcome.billed_ms,
        memory_mib: reached.memory,
        init_us: outcome.init_us,
    };
    let [mut text, end, report] = report.lines(id, version);
    for line in lines.iter().filter(|line| line.stream != Stream::Platform) {
        text.push_str(&line.text);
        text.push('\n');
    }
    text += &end;
    text += &report;
    if text.len() > TAIL_BYTES {
        let mut from = text.len() - TAIL_BYTES;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.drain(..from);
    }
    text
}

/// Answers one request to CloudWatch Logs.
pub(crate) async fn answer(
    face: &Arc<Face>,
    around: &Around,
    operation: &str,
    payload: &[u8],
) -> Response<Body> {
    let input: Value = serde_json::from_slice(payload).unwrap_or_default();
    let (status, body, kind) = match run(face, around, operation, &input).await {
        Ok(output) => (StatusCode::OK, output, None),
        Err(error) => {
            let body = json!({ "__type": error.name, "message": error.message });
            // This service answers all that is wrong with a request alike.
            (StatusCode::BAD_REQUEST, body, Some(error.name))
        }
    };
    let mut response = server::answer(status, "application/x-amz-json-1.1", body.to_string());
    if let Some(kind) = kind {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(kind));
    }
    response
}

/// A group: the function that it is of.
#[derive(Debug, Clone)]
struct Group {
    name: String,
    function: FunctionName,
    tenant: TenantId,
    /// Its published versions, by their numbers on the platform.
    versions: BTreeMap<u64, String>,
}

impl Group {
    fn has(&self, tenant: &TenantId, function: &FunctionName) -> bool {
        self.tenant == *tenant && self.function == *function
    }

    /// What AWS calls a version of the platform's.
    fn version(&self, number: u64) -> &str {
        self.versions.get(&number).map_or("$LATEST", String::as_str)
    }

    /// Finds out which versions were published.
    fn find_versions(&mut self, state: &Path) {
        let file = format!("apps/{}/{}.json", self.tenant, self.function);
        let snapshot = std::fs::read(state.join(file)).ok();
        let snapshot = snapshot.and_then(|bytes| serde_json::from_slice::<AppSnapshot>(&bytes).ok());
        for route in snapshot.into_iter().flat_map(|snapshot| snapshot.functions) {
            let published = route.aliases.iter().filter_map(|(name, alias)| {
                Some((alias.pick(0)?, name.as_str().strip_prefix("v-")?.to_owned()))
            });
            self.versions.extend(published);
        }
    }
}

/// One stream: the version, and the day.
fn stream_of(group: &Group, line: &LogLine) -> String {
    let seconds = i64::try_from(line.time.as_millis() / 1_000).unwrap_or_default();
    let day = jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| String::new(), |time| time.strftime("%Y/%m/%d").to_string());
    let id = rouse_types::Digest::of(line.function.as_str().as_bytes()).hex();
    format!("{day}/[{}]{}", group.version(line.version), &id[..32])
}

async fn run(face: &Arc<Face>, around: &Around, operation: &str, input: &Value) -> Result<Value, AwsError> {
    let text = |member: &str| input.get(member).and_then(Value::as_str);
    let groups = groups(face, around).await?;
    let wanted = text("logGroupName").or_else(|| text("logGroupIdentifier")).unwrap_or_default();
    let wanted = wanted.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(5)).unwrap_or(wanted);
    let group = || {
        let found = groups.iter().find(|group| group.name == wanted);
        found.ok_or_else(|| AwsError::not_found("The specified log group does not exist."))
    };
    let arn = |name: &str| {
        format!("arn:aws:logs:{}:{}:log-group:{name}", around.scope.region, around.scope.account)
    };
    match operation {
        "DescribeLogGroups" => {
            let prefix = text("logGroupNamePrefix").unwrap_or_default();
            let pattern = text("logGroupNamePattern").unwrap_or_default();
            let fits = |group: &&Group| group.name.starts_with(prefix) && group.name.contains(pattern);
            let shown = groups.iter().filter(fits).map(|group| {
                json!({
                    "logGroupName": group.name, "arn": format!("{}:*", arn(&group.name)),
                    "logGroupArn": arn(&group.name), "creationTime": 0, "metricFilterCount": 0, "storedBytes": 0,
                    "logGroupClass": "STANDARD",
                })
            });
            Ok(json!({ "logGroups": shown.collect::<Vec<_>>() }))
        }
        // A function's group comes and goes with the function.
        "CreateLogGroup" if group().is_ok() => {
            Err(AwsError::new("ResourceAlreadyExistsException", "The specified log group already exists"))
        }
        "CreateLogGroup" | "PutRetentionPolicy" => Ok(json!({})),
        "CreateLogStream" | "DeleteLogGroup" | "DeleteLogStream" | "DeleteRetentionPolicy" => {
            group().map(|_| json!({}))
        }
        "DescribeLogStreams" => {
            let (group, lines) = lines(face, group()?, input, around.now).await;
            let prefix = text("logStreamNamePrefix").unwrap_or_default();
            let mut streams: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            for line in &lines {
                let ms = line.time.as_millis();
                let times = streams.entry(stream_of(&group, line)).or_insert((ms, ms));
                times.1 = ms;
            }
            let shown =
                streams.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(name, (first, last))| {
                    json!({
                        "logStreamName": name, "arn": format!("{}:log-stream:{name}", arn(&group.name)),
                        "creationTime": first, "firstEventTimestamp": first, "lastEventTimestamp": last,
                        "lastIngestionTime": last, "storedBytes": 0,
                        "uploadSequenceToken": "00000000000000000000000000000000000000000000000000000000",
                    })
                });
            let mut shown: Vec<Value> = shown.collect();
            if input.get("descending").and_then(Value::as_bool) == Some(true) {
                shown.reverse();
            }
            Ok(json!({ "logStreams": shown }))
        }
        "GetLogEvents" => {
            let (group, lines) = lines(face, group()?, input, around.now).await;
            let stream = text("logStreamName").unwrap_or_default();
            let own: Vec<&LogLine> = lines.iter().filter(|line| stream_of(&group, line) == stream).collect();
            if own.is_empty() {
                return Err(AwsError::not_found("The specified log stream does not exist."));
            }
            let limit =
                usize::try_from(input.get("limit").and_then(Value::as_u64).unwrap_or(PAGE)).unwrap_or(1);
            // A token says how far was read; the same token again says that there is no more.
            let from = text("nextToken").and_then(|token| token.get(2..)?.parse::<usize>().ok());
            let head = input.get("startFromHead").and_then(Value::as_bool) == Some(true);
            let from = from.unwrap_or(if head { 0 } else { own.len().saturating_sub(limit) }).min(own.len());
            let page = &own[from..(from + limit).min(own.len())];
            let events = page.iter().map(|line| {
                let ms = line.time.as_millis();
                json!({ "timestamp": ms, "message": line.text, "ingestionTime": ms })
            });
            let forward = format!("f/{:056}", from + page.len());
            let backward = format!("b/{:056}", from.saturating_sub(limit));
            Ok(json!({
                "events": events.collect::<Vec<_>>(), "nextForwardToken": forward, "nextBackwardToken": backward,
            }))
        }
        "FilterLogEvents" => {
            let (group, lines) = lines(face, group()?, input, around.now).await;
            let pattern = text("filterPattern").unwrap_or_default().trim_matches('"');
            let prefix = text("logStreamNamePrefix").unwrap_or_default();
            let named = input.get("logStreamNames").and_then(Value::as_array);
            let fits = |line: &&LogLine| {
                let stream = stream_of(&group, line);
                stream.starts_with(prefix)
                    && pattern.split_whitespace().all(|word| line.text.contains(word.trim_matches('"')))
                    && named.is_none_or(|named| named.iter().any(|name| *name == stream.as_str()))
            };
            let limit =
                usize::try_from(input.get("limit").and_then(Value::as_u64).unwrap_or(PAGE)).unwrap_or(1);
            let from = text("nextToken").and_then(|token| token.parse::<usize>().ok()).unwrap_or_default();
            let all: Vec<&LogLine> = lines.iter().filter(fits).collect();
            let page: Vec<&LogLine> = all.iter().skip(from).take(limit).copied().collect();
            let next = (from + page.len() < all.len()).then(|| (from + page.len()).to_string());
            let events = page.iter().enumerate().map(|(index, line)| {
                let ms = line.time.as_millis();
                json!({
                    "logStreamName": stream_of(&group, line), "timestamp": ms, "message": line.text, "ingestionTime": ms,
                    "eventId": format!("{:020}{:036}", line.time.0, from + index),
                })
            });
            let mut answer = json!({ "events": events.collect::<Vec<_>>(), "searchedLogStreams": [] });
            if let Some(next) = next {
                answer["nextToken"] = next.into();
            }
            Ok(answer)
        }
        other => Err(AwsError::new(
            "UnknownOperationException",
            format!("Rouse does not offer {other} of CloudWatch Logs"),
        )),
    }
}

/// The groups of all functions that were made by the Lambda API.
async fn groups(face: &Arc<Face>, around: &Around) -> Result<Vec<Group>, AwsError> {
    let tenant = &around.scope.tenant;
    let all: Vec<(String, Function)> = face.store.list(state::FUNCTIONS, tenant, "").await?;
    let group = |(name, function): (String, Function)| {
        let said = function.latest.config.get("LoggingConfig").and_then(|logging| logging.get("LogGroup"));
        let group = said.and_then(Value::as_str).map_or_else(|| format!("{PREFIX}{name}"), str::to_owned);
        let versions = BTreeMap::new();
        Group { name: group, function: names::platform(&name), tenant: tenant.clone(), versions }
    };
    Ok(all.into_iter().map(group).collect())
}

/// A group with its versions, and its lines.
async fn lines(face: &Arc<Face>, group: &Group, input: &Value, now: Timestamp) -> (Group, Vec<LogLine>) {
    let ms = |member: &str| input.get(member).and_then(Value::as_u64);
    let from = Timestamp::from_millis(ms("startTime").unwrap_or_default());
    let to = ms("endTime").map_or(Timestamp(u64::MAX), |end| Timestamp::from_millis(end + 1));
    let (face, group, unread) = (Arc::clone(face), group.clone(), group.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut group = group;
        group.find_versions(&face.config.state);
        let lines = read_group(&face, &group, from..to, now);
        (group, lines)
    });
    read.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a log could not be read");
        (unread, Vec::new())
    })
}
