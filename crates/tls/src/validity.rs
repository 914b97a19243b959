//! From when until when a certificate holds (RFC 5280 §4.1.2.5), of which neither rustls nor webpki tell.

use rouse_types::Timestamp;
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, Tag, tags::TAG_UTCTIME};

/// `notBefore` and `notAfter`.
pub(crate) fn validity(der: &[u8]) -> ASN1Result<(Timestamp, Timestamp)> {
    yasna::parse_der(der, |certificate| {
        certificate.read_sequence(|certificate| {
            let found = certificate.next().read_sequence(|fields| {
                fields.read_optional(|version| {
                    version.read_tagged(Tag::context(0), |number| number.read_u8())
                })?;
                fields.next().read_der()?; // serialNumber
                fields.next().read_der()?; // signature
                fields.next().read_der()?; // issuer
                let found = fields
                    .next()
                    .read_sequence(|validity| Ok((time(validity.next())?, time(validity.next())?)))?;
                while fields.read_optional(|other| other.read_der())?.is_some() {}
                Ok(found)
            })?;
            certificate.next().read_der()?; // signatureAlgorithm
            certificate.next().read_der()?; // signatureValue
            Ok(found)
        })
    })
}

fn time(reader: BERReader<'_, '_>) -> ASN1Result<Timestamp> {
    let seconds = if reader.lookahead_tag()? == TAG_UTCTIME {
        reader.read_utctime()?.datetime().unix_timestamp()
    } else {
        reader.read_generalized_time()?.datetime().unix_timestamp()
    };
    let seconds = u64::try_from(seconds).map_err(|_| ASN1Error::new(ASN1ErrorKind::Invalid))?;
    Ok(Timestamp::from_millis(seconds.saturating_mul(1_000)))
}
