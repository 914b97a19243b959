//! `rouse init`: begins a new app from a template.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use rouse_types::AppName;

use crate::cli::{
    args::{InitArgs, Template},
    build, out,
    report::hinted,
    style::Style,
    template,
};

pub(crate) fn run(args: &InitArgs) -> anyhow::Result<()> {
    let name = app_name(&args.dir)?;
    if args.dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(hinted(
            format!("{} is not empty", args.dir.display()),
            "choose a new folder: nothing of yours is written over",
        ));
    }
    let template = match args.template {
        Some(template) => template,
        None => ask()?,
    };
    let host = build::host();
    let files = template::files(template, &name, host);
    for (path, content) in &files {
        let path = args.dir.join(path);
        let folder = path.parent().unwrap_or(&args.dir);
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    let style = Style::stdout();
    let mut text = format!("{}\n", style.green(&format!("{name} begins in {}", args.dir.display())));
    for (path, _) in &files {
        text.push_str(&format!("  {path}\n"));
    }
    text.push_str(&format!("next: cd {} && rouse dev\n", args.dir.display()));
    out::text(&text)
}

/// The app's name is its folder's, as far as a name may be.
fn app_name(folder: &Path) -> anyhow::Result<AppName> {
    let absolute = std::path::absolute(folder).with_context(|| format!("read {}", folder.display()))?;
    let name = absolute.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: String = name.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    AppName::new(name).map_err(|error| {
        hinted(
            format!("the folder's name cannot be the app's: {error}"),
            "name a folder that can be an app's name, such as my-app",
        )
    })
}

fn ask() -> anyhow::Result<Template> {
    let templates = Template::value_variants();
    let names: Vec<String> = templates
        .iter()
        .filter_map(|template| template.to_possible_value())
        .map(|value| value.get_name().to_owned())
        .collect();
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        bail!(hinted(
            "which template to begin with is not said",
            format!("say it: --template {}", names.join(" | ")),
        ));
    }
    let mut stderr = std::io::stderr().lock();
    for (index, (template, name)) in templates.iter().zip(&names).enumerate() {
        let help = template.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        writeln!(stderr, "  {}  {name:<16} {}", index + 1, help.unwrap_or_default()).context("ask")?;
    }
    write!(stderr, "Begin with [1]: ").context("ask")?;
    stderr.flush().context("ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    let answer = answer.trim();
    let by_name = names.iter().position(|name| name == answer);
    let by_number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let index = if answer.is_empty() { Some(0) } else { by_name.or(by_number) };
    index
        .and_then(|index| templates.get(index).copied())
        .ok_or_else(|| hinted(format!("'{answer}' is none of them"), names.join(" | ")))
}
