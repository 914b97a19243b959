//! Reads botocore's model of a service and writes it as tables in Rust: operations, shapes with their constraints,
//! errors. What the documentation says, and what only clients need, is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::{setup, sh};

/// The models, below botocore's folder, each with what its tables' names begin with.
const MODELS: [(&str, &str); 2] =
    [("", "data/lambda/2015-03-31/service-2.json.gz"), ("SQS_", "data/sqs/2012-11-05/service-2.json.gz")];

/// The tables of the models, with the tools' variables.
pub(super) fn text(tools: &[(String, String)]) -> Result<String> {
    let variable = tools.iter().find(|(key, _)| key == setup::AWS_CLIENTS_VARIABLE);
    let (_, environment) = variable.context("botocore was not installed: run `cargo xtask setup`")?;
    let botocore = package(Path::new(environment))?;
    let version = fs::read_to_string(botocore.join("__init__.py"))?;
    let version = version
        .lines()
        .find_map(|line| line.strip_prefix("__version__ = "))
        .context("botocore tells no version")?;
    let mut models = Vec::new();
    for (prefix, path) in MODELS {
        let model = sh::output(Command::new("gzip").arg("-dc").arg(botocore.join(path)))?;
        models.push((prefix, serde_json::from_str::<Value>(&model).context("read botocore's model")?));
    }
    write(&models, version.trim_matches(['\'', '"']))
}

/// All models in one file: their shapes are numbered through, so that a number alone says which is meant.
fn write(models: &[(&str, Value)], version: &str) -> Result<String> {
    let of = |(_, model): &(&str, Value)| {
        let text = |name: &str| model["metadata"][name].as_str().unwrap_or_default().to_owned();
        format!("{} {}", text("endpointPrefix"), text("apiVersion"))
    };
    let names: Vec<String> = models.iter().map(of).collect();
    let names = names.join(", ");
    let mut out = format!(
        "//! AWS' APIs as botocore {version} has them ({names}). Written by `cargo xtask generate aws`; not by hand.\n\n\
         use super::{{ErrorShape as E, Kind::*, Member as M, Operation as O, Place::*, Shape as S}};\n\n\
         /// Where the tables come from.\npub const MODEL: &str = \"botocore {version}, {names}\";\n",
    );
    let mut tables = Vec::new();
    let mut first = 0;
    for (prefix, model) in models {
        let table = Tables::new(model, first)?;
        first += table.numbers.len();
        tables.push((prefix, table));
    }
    for (prefix, table) in &tables {
        table.operations(&mut out, prefix)?;
    }
    out.push_str("\n/// Every shape that an operation takes or gives, by number.\npub(super) static SHAPES: &[S] = &[\n");
    for (_, table) in &tables {
        table.shapes(&mut out)?;
    }
    out.push_str("];\n");
    for (prefix, table) in &tables {
        table.errors(&mut out, prefix)?;
    }
    Ok(out)
}

fn package(environment: &Path) -> Result<PathBuf> {
    let lib = fs::read_dir(environment.join("lib"))?.next().context("an environment without lib")??;
    Ok(lib.path().join("site-packages/botocore"))
}

/// What is written, with the shapes numbered.
struct Tables<'a> {
    operations: &'a Map<String, Value>,
    shapes: BTreeMap<&'a str, &'a Value>,
    numbers: BTreeMap<&'a str, usize>,
}

impl<'a> Tables<'a> {
    /// The tables of a model whose first shape has this number.
    fn new(model: &'a Value, first: usize) -> Result<Self> {
        let operations = model["operations"].as_object().context("a model without operations")?;
        let all = model["shapes"].as_object().context("a model without shapes")?;
        // Only what operations name, directly or not; errors have a table of their own.
        let mut wanted = BTreeSet::new();
        let mut left: Vec<&str> = Vec::new();
        for operation in operations.values() {
            left.extend(operation["input"]["shape"].as_str());
            left.extend(operation["output"]["shape"].as_str());
        }
        while let Some(name) = left.pop() {
            if !wanted.insert(name) {
                continue;
            }
            let shape = &all[name];
            left.extend(["member", "key", "value"].iter().filter_map(|part| shape[*part]["shape"].as_str()));
            let members = shape["members"].as_object().into_iter().flatten();
            left.extend(members.filter_map(|(_, member)| member["shape"].as_str()));
        }
        let shapes = all.iter().map(|(name, shape)| (name.as_str(), shape)).collect();
        let numbers = wanted.into_iter().enumerate().map(|(number, name)| (name, first + number)).collect();
        Ok(Self { operations, shapes, numbers })
    }

    fn number(&self, shape: &Value) -> Result<usize> {
        let name = shape["shape"].as_str().context("a reference without a shape")?;
        self.numbers.get(name).copied().with_context(|| format!("no shape is called {name}"))
    }

    fn operations(&self, out: &mut String, prefix: &str) -> Result<()> {
        write!(out, "\n/// Every operation, by name.\npub static {prefix}OPERATIONS: &[O] = &[\n")?;
        let operations: BTreeMap<_, _> = self.operations.iter().collect();
        for (name, operation) in operations {
            let http = &operation["http"];
            let shape = |part: &str| -> Result<String> {
                Ok(match operation.get(part) {
                    Some(shape) => format!("Some({})", self.number(shape)?),
                    None => "None".to_owned(),
                })
            };
            writeln!(
                out,
                "    O {{ name: {name:?}, method: {}, uri: {}, status: {}, input: {}, output: {} }},",
                http["method"],
                http["requestUri"],
                http["responseCode"].as_u64().unwrap_or(200),
                shape("input")?,
                shape("output")?,
            )?;
        }
        out.push_str("];\n");
        Ok(())
    }

    fn shapes(&self, out: &mut String) -> Result<()> {
        for (name, number) in &self.numbers {
            let kind = self.kind(name).with_context(|| format!("shape {name}"))?;
            let sensitive = self.shapes[*name]["sensitive"] == true;
            writeln!(
                out,
                "    /* {number} */ S {{ name: {name:?}, sensitive: {sensitive}, kind: {kind} }},"
            )?;
        }
        Ok(())
    }

    fn errors(&self, out: &mut String, prefix: &str) -> Result<()> {
        write!(out, "\n/// Every error, by name.\npub static {prefix}ERRORS: &[E] = &[\n")?;
        for (name, shape) in self.shapes.iter().filter(|(_, shape)| shape["exception"] == true) {
            let members = shape["members"].as_object().context("an error without members")?;
            let message = members.keys().find(|name| name.eq_ignore_ascii_case("message"));
            let fault = shape["fault"] == true;
            let status = shape["error"]["httpStatusCode"].as_u64().unwrap_or(if fault { 500 } else { 400 });
            writeln!(
                out,
                "    E {{ name: {name:?}, status: {status}, message: {:?}, typed: {}, fault: {fault} }},",
                message.map_or("Message", String::as_str),
                members.contains_key("Type"),
            )?;
        }
        out.push_str("];\n");
        Ok(())
    }

    fn kind(&self, name: &str) -> Result<String> {
        let shape = self.shapes[name];
        let bounds = || format!("min: {}, max: {}", number(&shape["min"]), number(&shape["max"]));
        let kind = shape["type"].as_str().unwrap_or_default();
        Ok(match kind {
            "structure" => {
                let required: Vec<&str> =
                    shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let mut members = String::new();
                // By name: how JSON is read here depends on what else is built.
                let all: BTreeMap<_, _> =
                    shape["members"].as_object().context("no members")?.iter().collect();
                for (name, member) in all {
                    let place = match member["location"].as_str() {
                        None if shape["payload"] == **name => "Payload",
                        None => "Body",
                        Some("uri") => "Uri",
                        Some("querystring") => "Query",
                        Some("header") => "Header",
                        Some("statusCode") => "Status",
                        Some(other) => bail!("members in {other} are not known"),
                    };
                    let wire = member["locationName"].as_str().unwrap_or(name);
                    let comma = if members.is_empty() { "" } else { ", " };
                    write!(
                        members,
                        "{comma}M {{ name: {name:?}, wire: {wire:?}, shape: {}, place: {place}, required: {} }}",
                        self.number(member)?,
                        required.contains(&name.as_str()),
                    )?;
                }
                format!("Structure(&[{members}])")
            }
            "list" => format!("List {{ member: {}, {} }}", self.number(&shape["member"])?, bounds()),
            "map" => {
                let (key, value) = (self.number(&shape["key"])?, self.number(&shape["value"])?);
                format!("Map {{ key: {key}, value: {value}, {} }}", bounds())
            }
            "string" => {
                let pattern = shape["pattern"].as_str().map_or("None".to_owned(), |p| format!("Some({p:?})"));
                let values: Vec<&str> =
                    shape["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                format!("Text {{ {}, pattern: {pattern}, values: &{values:?} }}", bounds())
            }
            "blob" => format!("Blob {{ {} }}", bounds()),
            "integer" | "long" => format!("Integer {{ {} }}", bounds()),
            "double" | "float" => format!("Double {{ {} }}", bounds()),
            "boolean" => "Boolean".to_owned(),
            "timestamp" => "Timestamp".to_owned(),
            other => bail!("shapes of the type {other} are not known"),
        })
    }
}

fn number(value: &Value) -> String {
    let number = value.as_i64().or_else(|| value.as_f64().map(|number| number as i64));
    number.map_or("None".to_owned(), |number| format!("Some({number})"))
}
