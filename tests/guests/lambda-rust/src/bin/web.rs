//! A Lambda function on `lambda_http`: an HTTP service that knows nothing of Lambda but its `main`.

use lambda_http::{Body, Error, Request, RequestExt, Response, run_concurrent, service_fn, tracing};

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    run_concurrent(service_fn(answer)).await
}

async fn answer(request: Request) -> Result<Response<Body>, Error> {
    let name = request.query_string_parameters().first("name").unwrap_or("world").to_owned();
    let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or("?");
    let text = format!(
        "{} {} from {agent}: hello, {name}; {} bytes",
        request.method(),
        request.raw_http_path(),
        request.body().len(),
    );
    Ok(Response::builder().status(201).header("x-made-by", "lambda_http").body(text.into())?)
}
