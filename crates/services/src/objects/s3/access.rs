//! Who asks, and what no request may ask for.

use http::{HeaderMap, Method};
use s3s::{
    S3Error, S3ErrorCode, S3Request, S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};

use rouse_api::operation::{self, Id};
use rouse_store::access_keys::Ring;
use rouse_types::Role;

use crate::objects::Caller;

pub(super) struct Auth(pub(super) Ring);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let unknown = || s3_error!(InvalidAccessKeyId, "the access key is not known here");
        let key = self.0.find(access_key).ok_or_else(unknown)?;
        Ok(SecretKey::from(key.secret))
    }
}

pub(super) struct Access(pub(super) Ring);

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let access_key = context.credentials().map(|credentials| credentials.access_key.clone());
        let Some(requester) = access_key else {
            return Err(s3_error!(
                AccessDenied,
                "unsigned requests are refused: sign with AWS Signature Version 4"
            ));
        };
        // It may have been removed since the signature was checked.
        let gone = || s3_error!(InvalidAccessKeyId, "the access key is not known here");
        let key = self.0.find(&requester).ok_or_else(gone)?;
        check_role(&requester, key.role, context.method())?;
        let tenant = key.tenant;
        check_headers(context.headers(), tenant.as_str())?;
        check_version(context.uri().query().unwrap_or_default())?;
        context.extensions_mut().insert(Caller { tenant, requester });
        Ok(())
    }
}

/// Refuses what a key of this role may not do at the control API either: who reads may read, who deploys may do all.
fn check_role(key: &str, role: Role, method: &Method) -> S3Result<()> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if operation::access(if reads { Id::GetObject } else { Id::PutObject }).allows(role) {
        return Ok(());
    }
    let text = format!(
        "{key} has the role {role}, which may not: an owner of the tenant makes a key with `rouse access-key create --role`"
    );
    Err(S3Error::with_message(S3ErrorCode::AccessDenied, text))
}

/// Who asks, as [`Access`] found out.
pub(super) fn caller<T>(request: &S3Request<T>) -> S3Result<Caller> {
    let unknown = || s3_error!(AccessDenied, "nobody signed this request");
    request.extensions.get::<Caller>().cloned().ok_or_else(unknown)
}

/// Refuses headers that ask for what is not there, rather than to do something else than was asked.
fn check_headers(headers: &HeaderMap, tenant: &str) -> S3Result<()> {
    for (name, value) in headers {
        let (name, value) = (name.as_str(), value.to_str().unwrap_or_default());
        let lacking = match name {
            "x-amz-acl" if !matches!(value, "private" | "bucket-owner-full-control") => {
                "access control lists"
            }
            "x-amz-storage-class" if value != "STANDARD" => "storage classes other than STANDARD",
            "x-amz-website-redirect-location" => "websites",
            "x-amz-write-offset-bytes" => "appending to objects",
            "x-amz-mfa" => "MFA",
            "x-amz-expected-bucket-owner" | "x-amz-source-expected-bucket-owner" if value != tenant => {
                return Err(s3_error!(AccessDenied, "the bucket's owner is another than {name} says"));
            }
            _ if name.starts_with("x-amz-grant-") => "access control lists",
            _ if name.starts_with("x-amz-server-side-encryption") => "server-side encryption",
            _ if name.starts_with("x-amz-copy-source-server-side-encryption") => "server-side encryption",
            _ if name.starts_with("x-amz-object-lock-") || name == "x-amz-bucket-object-lock-enabled" => {
                "object locks"
            }
            _ => continue,
        };
        let text = format!("{lacking} are not implemented: leave out the header {name}");
        return Err(S3Error::with_message(S3ErrorCode::NotImplemented, text));
    }
    Ok(())
}

fn check_version(query: &str) -> S3Result<()> {
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "versionId");
    match asked {
        Some((_, version)) if !matches!(&*version, "" | "null") => {
            Err(s3_error!(NoSuchVersion, "versions are not kept: leave out versionId"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn refused(name: &'static str, value: &'static str) -> Option<S3ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        check_headers(&headers, "acme").err().map(|error| error.code().clone())
    }

    #[test]
    fn a_key_reads_and_writes_objects_as_its_role_may() {
        for (role, reads, writes) in [
            (Role::Owner, true, true),
            (Role::Deployer, true, true),
            (Role::Viewer, true, false),
            (Role::Invoker, false, false),
        ] {
            let may = |method: Method| check_role("AKIA", role, &method).is_ok();
            assert_eq!((may(Method::GET), may(Method::HEAD)), (reads, reads), "{role}");
            assert_eq!(
                (may(Method::PUT), may(Method::DELETE), may(Method::POST)),
                (writes, writes, writes),
                "{role}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_refused_and_the_rest_is_not() {
        assert_eq!(refused("x-amz-acl", "private"), None);
        assert_eq!(refused("x-amz-acl", "public-read"), Some(S3ErrorCode::NotImplemented));
        assert_eq!(refused("x-amz-server-side-encryption", "AES256"), Some(S3ErrorCode::NotImplemented));
        assert_eq!(refused("x-amz-storage-class", "STANDARD"), None);
        assert_eq!(refused("x-amz-storage-class", "GLACIER"), Some(S3ErrorCode::NotImplemented));
        assert_eq!(refused("x-amz-expected-bucket-owner", "acme"), None);
        assert_eq!(refused("x-amz-expected-bucket-owner", "other"), Some(S3ErrorCode::AccessDenied));
        assert_eq!(refused("x-amz-meta-colour", "blue"), None);
        assert!(check_version("versionId=null").is_ok());
        assert!(check_version("a=b&versionId=7").is_err());
    }
}
