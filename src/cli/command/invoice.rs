//! `rouse invoice`: what a month comes to, to be read, printed, or handed on.

use rouse_api::InvoiceQuery;

use crate::cli::{
    args::{Global, InvoiceArgs, InvoiceFormat},
    client, out,
};

pub(crate) async fn run(global: &Global, args: &InvoiceArgs) -> anyhow::Result<()> {
    let format = match args.format {
        InvoiceFormat::Csv if !global.json => rouse_api::InvoiceFormat::Csv,
        InvoiceFormat::Csv | InvoiceFormat::Json => rouse_api::InvoiceFormat::Json,
        InvoiceFormat::Html => rouse_api::InvoiceFormat::Html,
        InvoiceFormat::Focus => rouse_api::InvoiceFormat::Focus,
    };
    let month = args.month.to_string();
    out::text(&client(global)?.invoice(&global.tenant, &month, &InvoiceQuery { format }).await?)
}
