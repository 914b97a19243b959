//! Keeps a thumbnail of each picture below `in/` of a bucket: a component that is told of uploads by CloudEvents, and
//! reads and writes objects by presigned requests of S3.

mod s3;

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits};
use serde_json::Value;
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

/// Pixels of a side that are worked on: bounds the memory that a small file can ask for.
const SIDE_MAX: u32 = 12_000;
const BYTES_MAX: u64 = 256 << 20;

struct Thumbnails;

wasip2::http::proxy::export!(Thumbnails);

impl Guest for Thumbnails {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let status = match handle(&request) {
            Ok(done) => {
                println!("{done}");
                204
            }
            // The platform tries again, and keeps what fails too often.
            Err(error) => {
                eprintln!("{error}");
                500
            }
        };
        let response = OutgoingResponse::new(Fields::new());
        let _ = response.set_status_code(status);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        if let Ok(body) = body {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

fn handle(request: &IncomingRequest) -> Result<String, String> {
    let kind = request.headers().get("ce-type").pop().unwrap_or_default();
    let body = s3::read(request.consume().map_err(|()| "the body was taken already")?)?;
    let event: Value = serde_json::from_slice(&body).map_err(|error| format!("this is no event: {error}"))?;
    let text = |name: &str| event[name].as_str().ok_or_else(|| format!("the event has no {name}"));
    let (bucket, key) = (s3::Bucket::from_environment(text("bucket")?)?, text("name")?);
    // Beside the pictures, not among them: else each thumbnail would rouse this function again.
    let target = format!("thumbnails/{}", key.strip_prefix("in/").unwrap_or(key));
    if kind.ends_with(b".deleted") {
        bucket.delete(&target)?;
        return Ok(format!("{target} is gone"));
    }
    let Some(picture) = bucket.get(key)? else { return Ok(format!("{key} is gone by now")) };
    let side = std::env::var("SIDE").ok().and_then(|side| side.parse().ok()).unwrap_or(256);
    match thumbnail(&picture, side) {
        Ok((small, format)) => {
            bucket.put(&target, format.to_mime_type(), &small)?;
            Ok(format!("{target}: {} bytes of {}", small.len(), picture.len()))
        }
        // Another attempt would find the same.
        Err(error) => Ok(format!("{key} is no picture to make small: {error}")),
    }
}

fn thumbnail(picture: &[u8], side: u32) -> image::ImageResult<(Vec<u8>, ImageFormat)> {
    let mut reader = ImageReader::new(Cursor::new(picture)).with_guessed_format()?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_MAX), Some(SIDE_MAX));
    limits.max_alloc = Some(BYTES_MAX);
    reader.limits(limits);
    let format = reader.format().unwrap_or(ImageFormat::Png);
    let mut decoder = reader.into_decoder()?;
    // Cameras say in the file how it was held.
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let mut small = Cursor::new(Vec::new());
    image.thumbnail(side, side).write_to(&mut small, format)?;
    Ok((small.into_inner(), format))
}
