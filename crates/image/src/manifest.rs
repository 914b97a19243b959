//! The documents of an image: which manifest of an index, which layers, how it is run. OCI image specification 1.1 and
//! Docker's manifest v2, schema 2, which differ in names alone.

use rouse_types::{Digest, Image, Refusal, limits};
use serde::Deserialize;

use crate::invalid;

/// The types of manifests and indexes that are read, as `Accept` has them.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// Bytes of a document: the specification's own recommendation is 4 MiB.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// An index may name an index: bounds the way down.
pub(crate) const INDEXES_MAX: usize = 3;
/// Words of a program and its arguments, and variables: more than any real image has.
const WORDS_MAX: usize = 1_024;

/// What is named by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Of its bytes.
    pub digest: Digest,
    /// How many these are.
    pub size: u64,
    /// What a manifest is made for, within an index.
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// Of one image.
    Manifest(Manifest),
    /// The manifest or index to read next.
    Index(Descriptor),
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// How it is run.
    pub config: Descriptor,
    /// Its layers as they are stored, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// This machine's architecture, in Go's words.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Reads a manifest or an index. `name` is said in refusals.
pub(crate) fn document(bytes: &[u8], name: &str) -> Result<Document, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        schema_version: u32,
        manifests: Option<Vec<Descriptor>>,
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
    }
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("the manifest of {name} cannot be read: {error}")))?;
    if raw.schema_version != 2 {
        let version = raw.schema_version;
        return Err(invalid(format!("the manifest of {name} has the old schema {version}"))
            .hint("push it again with a current tool: it will be schema 2"));
    }
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) => choose(manifests, name).map(Document::Index),
        (None, Some(config), Some(layers)) => {
            if layers.len() > limits::IMAGE_LAYERS_MAX {
                let (has, most) = (layers.len(), limits::IMAGE_LAYERS_MAX);
                return Err(invalid(format!("{name} has {has} layers; at most {most} are taken")));
            }
            Ok(Document::Manifest(Manifest { config, layers }))
        }
        _ => Err(invalid(format!("{name} is no image"))),
    }
}

/// The manifest of an index that is made for this machine.
fn choose(manifests: Vec<Descriptor>, name: &str) -> Result<Descriptor, Refusal> {
    let ours = |each: &&Descriptor| {
        // A layout's index says nothing of platforms where it has one image; its config does.
        each.platform.as_ref().is_none_or(|it| it.os == "linux" && it.architecture == architecture())
    };
    let mut fitting = manifests.iter().filter(ours);
    let Some(first) = fitting.next() else {
        let all = manifests.iter().filter_map(|each| each.platform.as_ref());
        let mut all: Vec<String> = all.map(|it| format!("{}/{}", it.os, it.architecture)).collect();
        // Attestations of builds stand there as "unknown/unknown".
        all.retain(|each| !each.starts_with("unknown"));
        all.truncate(20);
        return Err(wrong_architecture(name, &all.join(", ")));
    };
    if first.platform.is_none() && fitting.any(|other| other.digest != first.digest) {
        return Err(invalid(format!("{name} holds several images"))
            .hint("take one of them out: `skopeo copy oci:FOLDER:TAG oci:OTHER`"));
    }
    Ok(first.clone())
}

fn wrong_architecture(name: &str, made_for: &str) -> Refusal {
    let ours = architecture();
    let made_for = if made_for.is_empty() { "nothing that is known" } else { made_for };
    invalid(format!("{name} is made for {made_for}; this machine is linux/{ours}")).hint(format!(
        "build it for this architecture too, such as by `docker buildx build --platform linux/{ours}`"
    ))
}

/// How an image is run, and what its layers are once uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Without layers and reference yet.
    pub image: Image,
    /// The digest of each layer, uncompressed, the lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Reads an image's configuration.
pub(crate) fn config(bytes: &[u8], name: &str) -> Result<Config, Refusal> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        architecture: String,
        #[serde(default)]
        os: String,
        #[serde(default)]
        config: Option<Run>,
        rootfs: RootFs,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Run {
        user: Option<String>,
        env: Option<Vec<String>>,
        entrypoint: Option<Vec<String>>,
        cmd: Option<Vec<String>>,
        working_dir: Option<String>,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<Digest>,
    }
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("the configuration of {name} cannot be read: {error}")))?;
    if !raw.architecture.is_empty() && (raw.architecture != architecture() || raw.os != "linux") {
        return Err(wrong_architecture(name, &format!("{}/{}", raw.os, raw.architecture)));
    }
    if raw.rootfs.diff_ids.len() > limits::IMAGE_LAYERS_MAX {
        return Err(invalid(format!("{name} has more than {} layers", limits::IMAGE_LAYERS_MAX)));
    }
    let run = raw.config.unwrap_or_default();
    let words = |words: Option<Vec<String>>| {
        let words = words.unwrap_or_default();
        let bad = words.len() > WORDS_MAX || words.iter().any(|word| word.contains('\0'));
        if bad {
            Err(invalid(format!("the configuration of {name} has words that are none")))
        } else {
            Ok(words)
        }
    };
    let env = words(run.env)?.into_iter();
    let env =
        env.filter_map(|one| one.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
    let image = Image {
        entrypoint: words(run.entrypoint)?,
        cmd: words(run.cmd)?,
        env: env.filter(|(name, _)| !name.is_empty()).collect(),
        workdir: run.working_dir.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        ..Image::default()
    };
    Ok(Config { image, diff_ids: raw.rootfs.diff_ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(os: &str, architecture: &str) -> String {
        let digest = Digest::of(architecture.as_bytes());
        format!(
            r#"{{"digest":"{digest}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}","variant":"v8"}}}}"#
        )
    }

    fn index(manifests: &[String]) -> String {
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","))
    }

    #[test]
    fn the_manifest_of_this_architecture_is_taken_from_an_index() {
        let text = index(&[
            manifest("linux", "s390x"),
            manifest("windows", architecture()),
            manifest("linux", architecture()),
        ]);
        let Ok(Document::Index(chosen)) = document(text.as_bytes(), "x") else { panic!("no index") };
        assert_eq!(chosen.digest, Digest::of(architecture().as_bytes()));
        let text = index(&[manifest("linux", "s390x"), manifest("unknown", "unknown")]);
        let refusal = document(text.as_bytes(), "shop/api:1").expect_err("none of ours");
        assert!(
            refusal.message.starts_with("shop/api:1 is made for linux/s390x; this machine is linux/"),
            "{refusal}"
        );
    }

    #[test]
    fn a_configuration_tells_how_it_is_run() {
        let digest = Digest::of(b"layer");
        let text = format!(
            r#"{{"architecture":"{}","os":"linux","config":{{"User":"1000","Env":["A=b=c","bad"],"Entrypoint":null,
            "Cmd":["nginx"],"WorkingDir":"/srv","Labels":{{}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[]}}"#,
            architecture()
        );
        let Config { image, diff_ids } = config(text.as_bytes(), "x").expect("read");
        assert_eq!(image.argv(&[]), ["nginx"]);
        assert_eq!((image.cwd().as_str(), image.user.as_str()), ("/srv", "1000"));
        assert_eq!(image.env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(diff_ids, [digest]);
        let other = text.replace(architecture(), "mips");
        assert!(config(other.as_bytes(), "x").expect_err("wrong").message.contains("linux/mips"));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"manifests":[]}"#,
        ] {
            assert!(document(text.as_bytes(), "x").is_err(), "{text}");
        }
        assert!(config(b"{}", "x").is_err());
    }
}
