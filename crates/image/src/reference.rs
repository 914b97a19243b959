//! Names of images: `registry.example.com:5000/shop/api:1.4`, `python:3.11-slim`, with or without `@sha256:…`.
//! Grammar: OCI distribution specification 1.1, "Pulling manifests"; what is left out is filled in as Docker does.

use std::{fmt, str::FromStr};

use rouse_types::{Digest, Refusal};

use crate::{invalid, shown};

/// Docker's own registry, as people and its configuration write it, and where it answers.
pub const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry as people write it: a host, or `host:port`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host, or `host:port`, that answers for the registry.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_HOST } else { &self.registry }
    }

    /// The repository below it.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest, where one was named.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What to ask for: the digest, else the tag.
    #[must_use]
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        }
    }

    /// The same image for ever: with this digest.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, None) => f.write_str(":latest")?,
            (None, Some(_)) => {}
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = Refusal;
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = |what: &str| {
            invalid(format!("'{}' is no name of an image: {what}", shown(text.as_bytes())))
                .hint("write registry/name:tag, such as registry.example.com/shop/api:1.4")
        };
        if text.len() > 512 {
            return Err(wrong("it is too long"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| wrong("its digest is no sha256"))?))
            }
            None => (text, None),
        };
        // A colon before a slash belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest.to_owned())
            }
            Some(_) => (DOCKER_HUB, name.to_owned()),
            None => (DOCKER_HUB, format!("library/{name}")),
        };
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        let begins = registry.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'[');
        if !begins || registry.bytes().any(|b| !b.is_ascii_alphanumeric() && !b".-:[]".contains(&b)) {
            return Err(wrong("its registry is no host"));
        }
        let part = |part: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            let ends = part.bytes().next().zip(part.bytes().last());
            ends.is_some_and(|(first, last)| plain(first) && plain(last))
                && part.bytes().all(|b| plain(b) || b"._-".contains(&b))
        };
        if !repository.split('/').all(part) {
            return Err(wrong("a repository has a-z, 0-9 and '.', '_', '-' between them"));
        }
        let is_tag = |tag: &str| {
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            tag.len() <= 128
                && tag.bytes().next().is_some_and(word)
                && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("its tag is none"));
        }
        Ok(Self { registry: registry.to_ascii_lowercase(), repository, tag: tag.map(str::to_owned), digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_docker_reads_them() {
        let digest = Digest::of(b"x");
        for (text, host, shown) in [
            ("python", "registry-1.docker.io", "docker.io/library/python:latest".to_owned()),
            ("shop/api:1.4", "registry-1.docker.io", "docker.io/shop/api:1.4".to_owned()),
            ("localhost/a", "localhost", "localhost/a:latest".to_owned()),
            ("127.0.0.1:5000/a/b:v", "127.0.0.1:5000", "127.0.0.1:5000/a/b:v".to_owned()),
            (&format!("ghcr.io/a/b@{digest}"), "ghcr.io", format!("ghcr.io/a/b@{digest}")),
            (&format!("ghcr.io/a/b:1@{digest}"), "ghcr.io", format!("ghcr.io/a/b:1@{digest}")),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!((reference.host(), reference.to_string()), (host, shown), "{text}");
        }
        let pinned = "a.example.com/b:1".parse::<Reference>().expect("a name").pinned(digest);
        assert_eq!(pinned.wanted(), digest.to_string());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "/",
            "a b",
            "A/b",
            "a//b",
            "../a",
            "a:",
            "a:b c",
            "a@sha256:1",
            "h.example/../x",
            "a/-b",
            "x.y/",
            "a\n",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }
}
