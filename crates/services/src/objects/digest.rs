//! What is computed over bytes as they pass: the MD5 that becomes the entity tag, and the checksum that the client
//! asked for.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use serde::{Deserialize, Serialize};

use super::Error;

/// A checksum that S3 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// CRC-32 of ISO-HDLC.
    Crc32,
    /// CRC-32 of Castagnoli.
    Crc32c,
    /// CRC-64 of NVMe.
    Crc64nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What a multipart upload's checksum is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumKind {
    /// All of the object's bytes.
    Full,
    /// The checksums of the parts.
    Composite,
}

/// A checksum in base64, with `-<parts>` if it is composite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it is computed.
    pub algorithm: Algorithm,
    /// What it is over.
    pub kind: ChecksumKind,
    /// The value.
    pub value: String,
}

/// What a client announces about the bytes that it sends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// How many there are.
    pub bytes: Option<u64>,
    /// Their MD5 in base64 (`Content-MD5`).
    pub md5: Option<String>,
    /// The checksum to compute and keep.
    pub algorithm: Option<Algorithm>,
    /// What it must come to, in base64.
    pub checksum: Option<String>,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64nvme, Self::Sha1, Self::Sha256];

    /// As in headers, without `x-amz-checksum-`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// What a multipart upload's checksum is over if its client does not say (as S3).
    pub(super) fn kind(self) -> ChecksumKind {
        if self == Self::Crc64nvme { ChecksumKind::Full } else { ChecksumKind::Composite }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Whether this checksum of a whole can be had from those of its parts.
    pub(super) fn combines(self) -> bool {
        self.crc().is_some()
    }

    fn hasher(self) -> Hasher {
        match self {
            Self::Crc32 => Hasher::Crc32(Crc32::new()),
            Self::Crc32c => Hasher::Crc32c(Crc32c::new()),
            Self::Crc64nvme => Hasher::Crc64nvme(Crc64Nvme::new()),
            Self::Sha1 => Hasher::Sha1(Sha1::new()),
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

enum Hasher {
    Crc32(Crc32),
    Crc32c(Crc32c),
    Crc64nvme(Crc64Nvme),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Crc32c(hasher) => hasher.update(bytes),
            Self::Crc64nvme(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Crc32(hasher) => STANDARD.encode(hasher.finalize()),
            Self::Crc32c(hasher) => STANDARD.encode(hasher.finalize()),
            Self::Crc64nvme(hasher) => STANDARD.encode(hasher.finalize()),
            Self::Sha1(hasher) => STANDARD.encode(hasher.finalize()),
            Self::Sha256(hasher) => STANDARD.encode(hasher.finalize()),
        }
    }
}

/// Digests of bytes that pass.
pub(super) struct Digests {
    md5: Md5,
    checksum: Option<(Algorithm, Hasher)>,
}

impl Digests {
    pub(super) fn new(algorithm: Option<Algorithm>) -> Self {
        Self { md5: Md5::new(), checksum: algorithm.map(|algorithm| (algorithm, algorithm.hasher())) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some((_, hasher)) = &mut self.checksum {
            hasher.update(bytes);
        }
    }

    /// The entity tag and the checksum, if they are what was announced.
    pub(super) fn finish(self, expected: &Expected) -> Result<(String, Option<Checksum>), Error> {
        let md5 = self.md5.finalize();
        if let Some(announced) = &expected.md5 {
            agree("Content-MD5", announced, &STANDARD.encode(md5))?;
        }
        let checksum = self.checksum.map(|(algorithm, hasher)| Checksum {
            algorithm,
            kind: ChecksumKind::Full,
            value: hasher.finish(),
        });
        if let (Some(announced), Some(checksum)) = (&expected.checksum, &checksum) {
            agree(&format!("the {} checksum", checksum.algorithm), announced, &checksum.value)?;
        }
        Ok((hex::encode(md5), checksum))
    }
}

fn agree(what: &str, expected: &str, found: &str) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    let expected = expected.chars().take(100).collect();
    Err(Error::BadDigest { what: what.to_owned(), expected, found: found.to_owned() })
}

/// The entity tag of a multipart upload: the MD5 of its parts' MD5s, and how many there are.
pub(super) fn combined_etag<'a>(etags: impl Iterator<Item = &'a str>) -> String {
    let (mut md5, mut count) = (Md5::new(), 0);
    for etag in etags {
        md5.update(&hex::decode(etag).unwrap_or_default());
        count += 1;
    }
    format!("{}-{count}", hex::encode(md5.finalize()))
}

/// The checksum of a whole from those of its parts with their sizes; none if a part has none or a wrong one.
pub(super) fn combined<'a>(
    algorithm: Algorithm,
    kind: ChecksumKind,
    parts: impl Iterator<Item = (Option<&'a Checksum>, u64)>,
) -> Option<Checksum> {
    let mut hasher = algorithm.hasher();
    let (mut count, mut crc) = (0, 0);
    for (checksum, size) in parts {
        let checksum = checksum.filter(|checksum| checksum.algorithm == algorithm)?;
        let bytes = STANDARD.decode(&checksum.value).ok()?;
        if kind == ChecksumKind::Full {
            let part = bytes.iter().fold(0, |crc, byte| crc << 8 | u64::from(*byte));
            crc =
                if count == 0 { part } else { crc_fast::checksum_combine(algorithm.crc()?, crc, part, size) };
        }
        hasher.update(&bytes);
        count += 1;
    }
    let value = match (kind, algorithm) {
        (ChecksumKind::Composite, _) => format!("{}-{count}", hasher.finish()),
        (ChecksumKind::Full, Algorithm::Crc64nvme) => STANDARD.encode(crc.to_be_bytes()),
        (ChecksumKind::Full, _) => STANDARD.encode(u32::try_from(crc).ok()?.to_be_bytes()),
    };
    Some(Checksum { algorithm, kind, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut digests = Digests::new(Some(algorithm));
        digests.update(bytes);
        digests.finish(&Expected::default()).expect("nothing announced").1.expect("a checksum")
    }

    proptest! {
        #[test]
        fn a_whole_has_the_checksum_that_its_parts_come_to(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)) {
            for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.combines()) {
                let sums: Vec<Checksum> = parts.iter().map(|part| of(algorithm, part)).collect();
                let pairs = sums.iter().zip(&parts).map(|(sum, part)| (Some(sum), part.len() as u64));
                prop_assert_eq!(combined(algorithm, ChecksumKind::Full, pairs), Some(of(algorithm, &parts.concat())));
            }
        }
    }

    #[test]
    fn known_values_come_out() {
        // The check values of the catalogue of parametrised CRC algorithms, over "123456789".
        assert_eq!(of(Algorithm::Crc32, b"123456789").value, STANDARD.encode(0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(of(Algorithm::Crc32c, b"123456789").value, STANDARD.encode(0xe306_9283_u32.to_be_bytes()));
        let nvme = STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes());
        assert_eq!(of(Algorithm::Crc64nvme, b"123456789").value, nvme);
    }

    #[test]
    fn what_is_not_as_announced_is_refused() {
        let expected = Expected { md5: Some("AAAA".to_owned()), ..Expected::default() };
        assert!(matches!(Digests::new(None).finish(&expected), Err(Error::BadDigest { .. })));
    }
}
