//! As much of S3 as this needs: get, put and delete, signed in the query, over wasi:http.

use std::time::Duration;

use rusty_s3::{Credentials, S3Action as _, UrlStyle};
use wasip2::{
    http::{
        outgoing_handler,
        types::{Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, Scheme},
    },
    io::streams::StreamError,
};

const GOOD_FOR: Duration = Duration::from_secs(60);

/// A bucket, and who asks.
pub(crate) struct Bucket(rusty_s3::Bucket, Credentials);

impl Bucket {
    /// At the address and with the key that the environment tells.
    pub(crate) fn from_environment(name: &str) -> Result<Self, String> {
        let variable = |name: &str| {
            std::env::var(name).map_err(|_| format!("{name} is not set: see `egress` in rouse.toml"))
        };
        let endpoint =
            variable("AWS_ENDPOINT_URL")?.parse().map_err(|error| format!("AWS_ENDPOINT_URL: {error}"))?;
        let key = Credentials::new(variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
        let bucket = rusty_s3::Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), "us-east-1");
        Ok(Self(bucket.map_err(|error| error.to_string())?, key))
    }

    /// An object's bytes, if it is there.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let url = self.0.get_object(Some(&self.1), key).sign(GOOD_FOR);
        match exchange(&Method::Get, url.as_str(), None)? {
            (200, body) => Ok(Some(body)),
            (404, _) => Ok(None),
            (status, body) => Err(format!("getting {key}: {status} {}", String::from_utf8_lossy(&body))),
        }
    }

    /// Puts an object.
    pub(crate) fn put(&self, key: &str, media: &str, bytes: &[u8]) -> Result<(), String> {
        let url = self.0.put_object(Some(&self.1), key).sign(GOOD_FOR);
        match exchange(&Method::Put, url.as_str(), Some((media, bytes)))? {
            (200, _) => Ok(()),
            (status, body) => Err(format!("putting {key}: {status} {}", String::from_utf8_lossy(&body))),
        }
    }

    /// Deletes an object, whether it is there or not.
    pub(crate) fn delete(&self, key: &str) -> Result<(), String> {
        let url = self.0.delete_object(Some(&self.1), key).sign(GOOD_FOR);
        match exchange(&Method::Delete, url.as_str(), None)? {
            (204, _) => Ok(()),
            (status, body) => Err(format!("deleting {key}: {status} {}", String::from_utf8_lossy(&body))),
        }
    }
}

/// One request, and the whole of its answer.
fn exchange(method: &Method, url: &str, body: Option<(&str, &[u8])>) -> Result<(u16, Vec<u8>), String> {
    let wrong = |()| format!("{url} cannot be asked for");
    let (authority, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or(()).map_err(wrong)?;
    let headers = Fields::new();
    let length = body.map_or(0, |(_, bytes)| bytes.len()).to_string();
    for (name, value) in
        [("content-length", length.as_str()), ("content-type", body.map_or("", |(media, _)| media))]
    {
        if body.is_some() {
            headers.set(name, &[value.as_bytes().to_vec()]).map_err(|error| error.to_string())?;
        }
    }
    let request = OutgoingRequest::new(headers);
    request.set_method(method).map_err(wrong)?;
    request.set_scheme(Some(&Scheme::Http)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(wrong)?;
    let sending = request.body().map_err(wrong)?;
    let answer = outgoing_handler::handle(request, None).map_err(|error| error.to_string())?;
    if let Some((_, bytes)) = body {
        let stream = sending.write().map_err(wrong)?;
        for chunk in bytes.chunks(4096) {
            stream.blocking_write_and_flush(chunk).map_err(|error| error.to_string())?;
        }
    }
    OutgoingBody::finish(sending, None).map_err(|error| error.to_string())?;
    answer.subscribe().block();
    let answer =
        answer.get().ok_or("the answer was taken already")?.map_err(|()| "the answer was taken already")?;
    let answer = answer.map_err(|error| error.to_string())?;
    let body = read(answer.consume().map_err(|()| "the body was taken already")?)?;
    Ok((answer.status(), body))
}

/// The whole of a body.
pub(crate) fn read(body: IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "the body was taken already")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}
