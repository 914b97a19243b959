//! `rouse deploy`: builds, uploads and puts an app live.

use rouse_api::{DeployRequest, Deployment};
use rouse_types::Domain;

use crate::cli::{
    app::App,
    args::{DeployArgs, Global},
    client, out,
    resolve::Resolver,
    ship,
    style::Style,
    table::Table,
};

pub(crate) async fn run(global: &Global, args: &DeployArgs) -> anyhow::Result<()> {
    let app = App::load(&args.dir)?;
    let client = client(global)?;
    // Before a build of minutes: is anybody there, and do they know us?
    client.info().await?;
    let resolver = Resolver::new(global, &args.resolve);
    let mut functions = Vec::new();
    for (name, function) in &app.manifest.functions {
        let package = ship::package(&app, name, function, &resolver).await?;
        ship::upload(&client, &package).await?;
        functions.push(package.function);
    }
    let request = DeployRequest { functions, message: args.message.clone() };
    let deployment = ship::put_live(&client, &global.tenant, &app.manifest.app.name, &request).await?;
    if global.json {
        return out::json(&deployment);
    }
    show(&deployment)
}

fn show(deployment: &Deployment) -> anyhow::Result<()> {
    let style = Style::stdout();
    let mut table = Table::new(&["FUNCTION", ">VERSION", "CHANGED", "URL"]);
    for function in &deployment.functions {
        let changed = if function.changed { "yes" } else { "no" };
        table.row([
            function.function.to_string(),
            function.version.to_string(),
            changed.to_owned(),
            std::iter::once(function.url.as_str())
                .chain(function.domains.iter().map(Domain::as_str))
                .collect::<Vec<_>>()
                .join(" "),
        ]);
    }
    let head = format!("{} is live, deployment {}", deployment.app, deployment.number);
    out::text(&format!("{}\n{}", style.green(&head), table.render(style)))
}
