//! Where the bytes of objects lie, and that it is the place where they lay before.
//!
//! ```text
//!  <state>/objects/place.json     this installation's id, and its place
//!  <prefix>/rouse.json            in the bucket: the id of the installation that it belongs to
//! ```
//!
//! Objects are looked for where they were put, and a sweep removes what the records do not name: so another place is
//! taken only while there are no objects, and a bucket's prefix belongs to one installation.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use rouse_store::{Records, file};
use serde::{Deserialize, Serialize};

use super::{
    Config, Error,
    files::{Files, blocking},
    record::{MANIFESTS, OBJECTS, PARTS},
};

/// The file in the folder of objects that says where the bytes lie.
pub const FILE: &str = "place.json";
/// The file in the folder of objects with the credentials for a bucket, mode 0600.
pub const CREDENTIALS_FILE: &str = "credentials";
/// The text in a bucket that says whose it is.
const OWNER: &str = "rouse.json";
/// The region that stores without regions take.
const REGION: &str = "us-east-1";

/// Where the bytes of objects lie.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In files, below the state folder.
    #[default]
    Local,
    /// In a bucket of any S3.
    S3(S3Place),
}

/// A bucket of any S3, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Place {
    /// Its name.
    pub bucket: String,
    /// What all keys begin with: empty, or with a `/` at the end.
    pub prefix: String,
    /// The store's address, such as `https://s3.example.com`; none for AWS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
}

impl S3Place {
    /// Reads `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(url: &str, endpoint: Option<&str>, region: Option<&str>) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Place(format!("{what}\nhint: write --objects s3://BUCKET/PREFIX"));
        let place =
            url.strip_prefix("s3://").ok_or_else(|| wrong(&format!("'{url}' is no place of objects")))?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        super::name::check_bucket(bucket).map_err(|error| wrong(&error.to_string()))?;
        let prefix = prefix.trim_end_matches('/');
        let plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(known) && !matches!(part, "." | "..")
        };
        if !prefix.is_empty() && !prefix.split('/').all(plain) {
            return Err(wrong(&format!(
                "the prefix '{prefix}' may have a-z, A-Z, 0-9, '-', '_', '.' and '/'"
            )));
        }
        if let Some(endpoint) = endpoint {
            let uri: Option<http::Uri> = endpoint.parse().ok();
            let whole = uri.filter(|uri| {
                let known = matches!(uri.scheme_str(), Some("http" | "https"));
                let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
                known && !user && matches!(uri.path(), "" | "/") && uri.query().is_none()
            });
            if whole.is_none() {
                let what = "the endpoint is no address of a store";
                return Err(Error::Place(format!(
                    "{what}\nhint: write --objects-endpoint https://HOST:PORT"
                )));
            }
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            endpoint: endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()),
            region: region.unwrap_or(REGION).to_owned(),
        })
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix, endpoint, .. } = self;
        write!(f, "s3://{bucket}/{prefix} at {}", endpoint.as_deref().unwrap_or("AWS"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("the local disk"),
            Self::S3(place) => place.fmt(f),
        }
    }
}

/// What a bucket is entered with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// What goes with a key that ends.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads a file as AWS' clients have it (`~/.aws/credentials`): of its sections the first. None but its owner may
    /// read it.
    ///
    /// # Errors
    /// What is wrong with it, for people; never what stands in it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mode = fs::metadata(path).map_err(Error::io("find", path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::Place(format!(
                "{name} can be read by others (mode {:o})\nhint: chmod 600 {name}",
                mode & 0o777,
                name = path.display()
            )));
        }
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(&text).map_err(|what| Error::Place(format!("{}: {what}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut id, mut secret, mut token, mut sections) = (None, None, None, 0);
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                sections += 1;
                if sections > 1 {
                    break;
                }
                continue;
            }
            let (name, value) =
                line.split_once('=').ok_or_else(|| format!("line {number} is not NAME = VALUE"))?;
            let slot = match name.trim() {
                "aws_access_key_id" => &mut id,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => return Err(format!("line {number} has a name that is not known here")),
            };
            *slot = Some(value.trim().to_owned());
        }
        let lack = |name: &str| format!("{name} is missing");
        Ok(Self {
            access_key_id: id.ok_or_else(|| lack("aws_access_key_id"))?,
            secret_access_key: secret.ok_or_else(|| lack("aws_secret_access_key"))?,
            session_token: token,
        })
    }

    /// Writes the file that [`Self::read`] reads: whole or not at all, its mode 0600.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let Self { access_key_id, secret_access_key, session_token } = self;
        let mut text =
            format!("aws_access_key_id = {access_key_id}\naws_secret_access_key = {secret_access_key}\n");
        if let Some(token) = session_token {
            text.push_str(&format!("aws_session_token = {token}\n"));
        }
        file::replace(path, text.as_bytes()).map_err(Error::io("write", path))
    }
}

/// A place with what it is entered with.
pub(super) enum Chosen {
    Local,
    S3(S3Place, Credentials),
}

/// What is written down about a place.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// This installation's id, for buckets to tell whose they are.
    installation: uuid::Uuid,
    place: Place,
}

/// Opens the files where the configuration says, if objects lie there or nowhere yet. A bucket that was never used
/// is tried out and taken; one that was, is not spoken to: it may be away.
pub(super) async fn settle(config: &Config, records: &Records) -> Result<Files, Error> {
    let path = config.dir.join(FILE);
    let written = read(&path)?;
    let before = written.as_ref().map_or(Place::Local, |written| written.place.clone());
    let chosen = match &config.place {
        Place::Local => Chosen::Local,
        Place::S3(place) => {
            let credentials = config.credentials.clone().ok_or_else(|| {
                Error::Place(format!("{place}: nothing says with which access key it is entered"))
            })?;
            Chosen::S3(place.clone(), credentials)
        }
    };
    let same = before == config.place;
    if !same && !same_bucket(&before, &config.place) && holds_objects(records).await? {
        return Err(elsewhere(&before, &config.place));
    }
    fs::create_dir_all(&config.dir).map_err(Error::io("make the folder", &config.dir))?;
    let files = Files::open(&config.dir, config.reserve_bytes, chosen).await?;
    if same {
        return Ok(files);
    }
    let installation = written.map_or_else(uuid::Uuid::now_v7, |written| written.installation);
    if let Files::Remote(bucket) = &files {
        try_out(bucket, &config.place).await?;
        let fresh = !holds_objects(records).await?;
        take(bucket, installation, fresh, &config.place).await?;
    }
    let text = serde_json::to_vec(&Written { installation, place: config.place.clone() });
    let text = text.map_err(|error| Error::Record(FILE.to_owned(), error))?;
    blocking(move || file::replace(&path, &text).map_err(Error::io("write", &path))).await?;
    Ok(files)
}

/// Opens the files as [`settle`] does, and speaks to a bucket in any case: it can be written and read, and is ours.
pub(super) async fn check(config: &Config, records: &Records) -> Result<(), Error> {
    let files = settle(config, records).await?;
    if let Files::Remote(bucket) = &files {
        try_out(bucket, &config.place).await?;
        let written = read(&config.dir.join(FILE))?;
        let installation = written.map(|written| written.installation).unwrap_or_default();
        take(bucket, installation, false, &config.place).await?;
    }
    Ok(())
}

/// Whether both say the same bucket, by another address or region perhaps: then the bucket itself tells whose it is.
fn same_bucket(before: &Place, now: &Place) -> bool {
    match (before, now) {
        (Place::S3(before), Place::S3(now)) => (&before.bucket, &before.prefix) == (&now.bucket, &now.prefix),
        _ => false,
    }
}

fn elsewhere(before: &Place, now: &Place) -> Error {
    let flags = match before {
        Place::Local => "without --objects".to_owned(),
        Place::S3(place) => format!(
            "with --objects s3://{}/{}{}",
            place.bucket,
            place.prefix.trim_end_matches('/'),
            place.endpoint.iter().map(|url| format!(" --objects-endpoint {url}")).collect::<String>()
        ),
    };
    Error::Place(format!(
        "the objects of this state folder lie in another place: {before}, not {now}\n\
         hint: start {flags}; to move, copy the objects with a client of S3 to a platform with another state folder"
    ))
}

async fn holds_objects(records: &Records) -> Result<bool, Error> {
    for namespace in [OBJECTS, PARTS, MANIFESTS] {
        if !records.scan(namespace, "", None, 1).await?.records.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes, reads, lists and deletes.
async fn try_out(bucket: &super::files::Bucket, place: &Place) -> Result<(), Error> {
    let name = format!("probe-{}", uuid::Uuid::now_v7().as_simple());
    let tried = async {
        bucket.set_text(&name, &name).await?;
        let read = bucket.text(&name).await?;
        let listed = bucket.lists(&name).await?;
        bucket.remove_text(&name).await?;
        let gone = bucket.text(&name).await?.is_none();
        Ok::<_, Error>(read.as_deref() == Some(&name) && listed && gone)
    };
    let hint = "see to the bucket, the endpoint, and that the access key may put, get, list and delete there";
    match tried.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Place(format!(
            "{place} does not give back what was written, or lists what is not there\nhint: {hint}"
        ))),
        Err(error) => Err(Error::Place(format!("{place} cannot be used: {}\nhint: {hint}", causes(&error)))),
    }
}

/// An error with all that led to it; what a later one says again is left out.
fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

/// Sees to it that the bucket is this installation's; takes it if it is nobody's and may be new.
async fn take(
    bucket: &super::files::Bucket,
    installation: uuid::Uuid,
    fresh: bool,
    place: &Place,
) -> Result<(), Error> {
    let ours = serde_json::json!({ "installation": installation }).to_string();
    match bucket.text(OWNER).await? {
        Some(found) if found == ours => Ok(()),
        None if fresh => bucket.set_text(OWNER, &ours).await,
        None => Err(Error::Place(format!(
            "{place} is not the place where the objects of this state folder lie: {OWNER} is not there\n\
             hint: see to the endpoint; if the file was deleted, put it back with this content: {ours}"
        ))),
        Some(_) => Err(Error::Place(format!(
            "{place} belongs to another platform, whose objects lie there\nhint: name another prefix"
        ))),
    }
}

fn read(path: &Path) -> Result<Option<Written>, Error> {
    match fs::read(path) {
        Ok(bytes) => {
            let read = serde_json::from_slice(&bytes);
            read.map(Some).map_err(|error| Error::Record(path.display().to_string(), error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_and_perhaps_a_prefix_and_an_endpoint() {
        let place = S3Place::parse("s3://photos/a/b/", Some("https://s3.example.com/"), None).unwrap();
        assert_eq!((&*place.bucket, &*place.prefix, &*place.region), ("photos", "a/b/", "us-east-1"));
        assert_eq!(place.endpoint.as_deref(), Some("https://s3.example.com"));
        assert_eq!(S3Place::parse("s3://photos", None, Some("eu-1")).unwrap().prefix, "");
        for url in ["photos", "s3://", "s3://Photos", "s3://photos/a//b", "s3://photos/../b", "s3://photos/ä"]
        {
            assert!(S3Place::parse(url, None, None).is_err(), "{url}");
        }
        for endpoint in ["s3.example.com", "ftp://a", "https://key:secret@host", "https://a/b", "https://a?b"]
        {
            let refused = S3Place::parse("s3://photos", Some(endpoint), None).unwrap_err().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn credentials_come_back_as_written_and_a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        for session_token in [None, Some("token==".to_owned())] {
            let written = Credentials {
                access_key_id: "id".to_owned(),
                secret_access_key: "se=cret".to_owned(),
                session_token,
            };
            written.write(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(Credentials::read(&path).unwrap(), written);
            assert!(!format!("{written:?}").contains("cret"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Credentials::read(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_file_of_credentials_is_read_as_clients_read_it_and_told_without_its_content() {
        let text =
            "# mine\n[default]\naws_access_key_id=a\n aws_secret_access_key = b\n\n[other]\nregion = x\n";
        let read = Credentials::parse(text).unwrap();
        assert_eq!((&*read.access_key_id, &*read.secret_access_key), ("a", "b"));
        for text in ["aws_access_key_id = a", "secret", "secret = x", ""] {
            let what = Credentials::parse(text).unwrap_err();
            assert!(!what.contains("secret = x") && !what.ends_with("secret"), "{what}");
        }
    }
}
