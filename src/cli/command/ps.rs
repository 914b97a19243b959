//! `rouse ps`: the instances that are there now. An idle function has none.

use rouse_types::{Clock as _, Isolation, SystemClock};

use crate::cli::{args::Global, client, out, style::Style, table::Table, units};

pub(crate) async fn run(global: &Global) -> anyhow::Result<()> {
    let instances = client(global)?.ps(&global.tenant).await?;
    if global.json {
        return out::json(&instances);
    }
    if instances.is_empty() {
        out::note("no instances: nothing runs while nobody calls");
        return Ok(());
    }
    let now = SystemClock.now();
    let mut table = Table::new(&[
        "FUNCTION",
        ">VERSION",
        "STATE",
        "ISOLATION",
        ">CALLS",
        ">MEMORY",
        ">CPU",
        "STARTED",
        "ID",
    ]);
    for instance in instances {
        let isolation = match instance.isolation {
            Isolation::Container => "container",
            Isolation::Wasm => "wasm",
        };
        let measured = |value: u64, text: String| if value == 0 { "-".to_owned() } else { text };
        table.row([
            instance.function.to_string(),
            instance.version.to_string(),
            instance.state.as_str().to_owned(),
            isolation.to_owned(),
            units::count(instance.invocations),
            measured(instance.memory_bytes, units::bytes(instance.memory_bytes)),
            measured(instance.cpu_us, units::micros(instance.cpu_us)),
            units::ago(now, instance.started),
            instance.id,
        ]);
    }
    out::text(&table.render(Style::stdout()))
}
