//! The role `control`: what the binary alone knows, handed to `rouse_control`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use rouse_api::IsolationInfo;
use rouse_control::{Acme, CODE_GRACE_DEFAULT, Config, Otlp, Retention};
use rouse_metering::PriceSheet;
use rouse_sandbox::container::{ContainerDriver, Enforced, Report};
use rouse_types::{Isolation, Refusal, Runtime, SystemClock};
use tokio::time::{sleep, timeout};

use super::{SPAWNER_SOCKET, boot};

/// How long to wait for the spawner, which starts at the same time.
const SPAWNER_TIMEOUT: Duration = Duration::from_secs(5);
/// Python's minor versions and Node's major ones that are looked for.
const PYTHONS: std::ops::RangeInclusive<u8> = 9..=15;
const NODES: std::ops::RangeInclusive<u8> = 18..=26;

pub(super) fn run(
    state: PathBuf,
    public_url: String,
    domain: String,
    compile_command: Vec<OsString>,
    https: bool,
    acme: Option<Acme>,
) -> anyhow::Result<ExitCode> {
    let listener = boot::listener()?;
    boot::run_warned(|closing, stop| async move {
        let driver = ContainerDriver::new(&state.join("run").join(SPAWNER_SOCKET));
        let report = report(&driver).await;
        let full_network = full_network(report.as_ref());
        let isolations = vec![
            IsolationInfo { isolation: Isolation::Wasm, available: true, unenforced: Vec::new() },
            container(report),
        ];
        let prices = prices(&state.join("prices.toml"))?;
        let config = Config {
            state,
            listener,
            https,
            public_url,
            domain,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            compile_command,
            engine_tag: rouse_wasm::engine_tag(),
            runtimes: runtimes(),
            runtime_check: check,
            server_check: |runtime, http, handler, code, state| {
                rouse_contract::http::Launch::find(runtime, http, handler, code, state).map(|_| ())
            },
            isolations,
            full_network,
            prices,
            retention: Retention::default(),
            otlp: otlp()?,
            acme,
            code_grace: CODE_GRACE_DEFAULT,
            insecure_registries: insecure_registries(),
            closing,
            clock: Arc::new(SystemClock),
        };
        Ok(Box::pin(rouse_control::serve(config, stop)).await?)
    })
}

/// The operator's price sheet, or the default one where there is none. One with an error is an error.
pub(crate) fn prices(path: &Path) -> anyhow::Result<PriceSheet> {
    match std::fs::read_to_string(path) {
        Ok(text) => PriceSheet::parse(&text).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(PriceSheet::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Where traces go, by the variables that OpenTelemetry specifies.
fn otlp() -> anyhow::Result<Option<Otlp>> {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return Ok(None) };
    let headers = std::env::var("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
    Otlp::new(&endpoint, &headers).map(Some).map_err(|wrong| anyhow::anyhow!("{ENDPOINT}: {wrong}"))
}

/// Registries without TLS that the operator allows: `ROUSE_INSECURE_REGISTRIES`, as `host:port`, with commas.
fn insecure_registries() -> Vec<String> {
    let text = std::env::var("ROUSE_INSECURE_REGISTRIES").unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The runtimes that this platform knows, whether this machine has them or not.
pub(crate) fn runtimes() -> Vec<Runtime> {
    let mut runtimes = vec![Runtime::Component, Runtime::Provided, Runtime::Image];
    runtimes.extend(PYTHONS.map(|minor| Runtime::Python { minor }));
    runtimes.extend(NODES.map(|major| Runtime::Node { major }));
    runtimes
}

fn check(runtime: &Runtime, state: &Path) -> Result<(), Refusal> {
    match runtime {
        Runtime::Component | Runtime::Image => Ok(()),
        other => rouse_contract::lambda::available(other, state).map(|_| ()),
    }
}

async fn report(driver: &ContainerDriver) -> Option<Report> {
    let asked = async {
        loop {
            match driver.report().await {
                Ok(report) => return report,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(SPAWNER_TIMEOUT, asked).await.ok()
}

/// Whether code in containers can have a network of its own, or why not.
fn full_network(report: Option<&Report>) -> Result<(), String> {
    match report {
        None => Err("the spawner did not answer".to_owned()),
        Some(report) => report.no_full_network.clone().map_or(Ok(()), Err),
    }
}

/// What a report of the host means for those who deploy.
fn container(report: Option<Report>) -> IsolationInfo {
    let mut info =
        IsolationInfo { isolation: Isolation::Container, available: false, unenforced: Vec::new() };
    let Some(report) = report else {
        let text = "the spawner did not answer; its messages stand in the log of `rouse serve`";
        info.unenforced.push(text.to_owned());
        return info;
    };
    info.available = report.unavailable.is_none();
    info.unenforced.extend(report.unavailable);
    let limits = [
        ("memory", report.memory),
        ("CPU time", report.cpu),
        ("the number of processes", report.processes),
        ("freezing between calls", report.freezer),
        ("the measure of CPU time", report.cpu_usage),
    ];
    let missing = limits.into_iter().filter(|(_, enforced)| *enforced == Enforced::No);
    info.unenforced.extend(missing.map(|(what, _)| format!("this host has no control group for {what}")));
    info
}

#[cfg(test)]
mod tests {
    use rouse_sandbox::container::Version;

    use super::*;

    #[test]
    fn what_a_host_cannot_enforce_is_said() {
        let by = Enforced::By(Version::V2);
        let report = Report {
            unavailable: None,
            memory: Enforced::No,
            cpu: by,
            processes: by,
            freezer: by,
            cpu_usage: by,
            no_full_network: Some("there is no nft".to_owned()),
        };
        assert_eq!(full_network(Some(&report)), Err("there is no nft".to_owned()));
        let info = container(Some(report));
        assert!(info.available);
        assert_eq!(info.unenforced, ["this host has no control group for memory"]);
        assert!(!container(None).available);
    }
}
