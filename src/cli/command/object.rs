//! `rouse bucket` and `rouse object`: looks into buckets, and brings files in and out.

use std::{io::Write as _, path::Path};

use anyhow::Context as _;
use rouse_api::{Client, ObjectInfo, ObjectsQuery};
use rouse_types::{Clock as _, SystemClock, TenantId};

use crate::cli::{
    args::{BucketCommand, Global, ObjectCommand},
    client, out,
    style::Style,
    table::Table,
    units,
};

/// Media types of files that people put most: clients that show an object go by it.
const TYPES: [(&str, &str); 16] = [
    ("avif", "image/avif"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("html", "text/html"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("webp", "image/webp"),
    ("zip", "application/zip"),
];

pub(crate) async fn bucket(global: &Global, command: BucketCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        BucketCommand::List => {
            let buckets = client.buckets(tenant).await?;
            if global.json {
                return out::json(&buckets);
            }
            if buckets.is_empty() {
                out::note("there is no bucket; `rouse bucket create NAME` makes one");
                return Ok(());
            }
            let now = SystemClock.now();
            let mut table = Table::new(&["BUCKET", ">MADE"]);
            for bucket in buckets {
                table.row([bucket.name, units::ago(now, bucket.created)]);
            }
            out::text(&table.render(Style::stdout()))
        }
        BucketCommand::Create { bucket } => {
            let made = client.create_bucket(tenant, &bucket).await?;
            if global.json { out::json(&made) } else { out::text(&format!("{}\n", made.name)) }
        }
        BucketCommand::Delete { bucket } => {
            let gone = client.delete_bucket(tenant, &bucket).await?;
            if global.json { out::json(&gone) } else { out::text(&format!("{} is gone\n", gone.name)) }
        }
    }
}

pub(crate) async fn object(global: &Global, command: ObjectCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        ObjectCommand::Ls { bucket, prefix } => list(global, &client, &bucket, prefix).await,
        ObjectCommand::Put { bucket, key, file, content_type } => {
            let content_type = content_type.as_deref().or_else(|| by_ending(&key));
            let put = client.put_object_file(tenant, (&bucket, &key), content_type, &file, |_| {}).await?;
            told(global, &put)
        }
        ObjectCommand::Get { bucket, key, file: Some(file) } => {
            get(&client, tenant, (&bucket, &key), &file).await
        }
        ObjectCommand::Get { bucket, key, file: None } => {
            client.get_object(tenant, (&bucket, &key), |bytes| std::io::stdout().write_all(&bytes)).await?;
            std::io::stdout().flush().context("write to standard output")
        }
        ObjectCommand::Rm { bucket, key } => {
            let gone = client.delete_object(tenant, (&bucket, &key)).await?;
            if global.json { out::json(&gone) } else { out::text(&format!("{} is gone\n", gone.key)) }
        }
    }
}

/// All pages, each printed as it comes.
async fn list(global: &Global, client: &Client, bucket: &str, prefix: String) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let mut query = ObjectsQuery { prefix: Some(prefix), after: None, limit: None };
    let mut all = Vec::new();
    loop {
        let page = client.objects(&global.tenant, bucket, &query).await?;
        query.after = page.objects.last().map(|object| object.key.clone());
        if global.json {
            all.extend(page.objects);
        } else {
            for object in page.objects {
                let (size, age) = (units::bytes(object.size), units::ago(now, object.modified));
                out::text(&format!("{size:>10}  {age:>8}  {}\n", object.key))?;
            }
        }
        if !page.more || query.after.is_none() {
            break;
        }
    }
    if global.json { out::json(&all) } else { Ok(()) }
}

/// Whoever looks at the file finds all of the object, or what was there before.
async fn get(client: &Client, tenant: &TenantId, at: (&str, &str), file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let half = tempfile::NamedTempFile::new_in(folder);
    let mut half = half.with_context(|| format!("make a file in {}", folder.display()))?;
    let bytes = client.get_object(tenant, at, |bytes| half.write_all(&bytes)).await?;
    half.persist(file).with_context(|| format!("write {}", file.display()))?;
    out::note(&format!("{}: {}", file.display(), units::bytes(bytes)));
    Ok(())
}

fn told(global: &Global, object: &ObjectInfo) -> anyhow::Result<()> {
    if global.json {
        return out::json(object);
    }
    out::text(&format!("{}: {}\n", object.key, units::bytes(object.size)))
}

fn by_ending(key: &str) -> Option<&'static str> {
    let (_, ending) = key.rsplit_once('.')?;
    TYPES.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, media)| *media)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_follows_from_the_keys_ending() {
        assert_eq!(by_ending("in/Cat.JPG"), Some("image/jpeg"));
        assert_eq!(by_ending("a.tar.zip"), Some("application/zip"));
        assert_eq!((by_ending("cat"), by_ending("cat.xyz")), (None, None));
    }
}
