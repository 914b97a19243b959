//! Simulated code: a server on `$PORT` that does what each request's path tells it to.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{FuturesUnordered, unfold},
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rouse_sandbox::{Exit, Listener, Stream, sim::Inside};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::sleep,
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a request asks of the server beside its answer.
enum Order {
    Exit(i32),
    /// It lives on, but neither listens nor keeps a connection.
    Deafen,
    Run(BoxFuture<'static, ()>),
}

type Orders = mpsc::Sender<Order>;

/// Runs until its sandbox ends. The variable `INIT` says what goes wrong at its start.
pub(crate) async fn run(mut inside: Inside) -> Exit {
    match inside.env("INIT") {
        Some("hang") => return std::future::pending().await,
        Some("exit") => {
            inside.print_error("no such module\n").await;
            return Exit::Code(1);
        }
        _ => {}
    }
    let deaf = inside.env("INIT") == Some("deaf");
    let mut listener = Some(inside.listen("127.0.0.1:8080".parse().expect("an address")));
    let inside = Arc::new(inside);
    let (orders, mut ordered) = mpsc::channel(16);
    let mut work = FuturesUnordered::<BoxFuture<'static, ()>>::new();
    loop {
        tokio::select! {
            stream = accept(&mut listener) => if deaf {
                listener = None;
            } else {
                work.push(Box::pin(connection(stream, Arc::clone(&inside), orders.clone())));
            },
            Some(()) = work.next(), if !work.is_empty() => {}
            Some(order) = ordered.recv() => match order {
                Order::Exit(code) => return Exit::Code(code),
                Order::Deafen => {
                    listener = None;
                    work.clear();
                }
                Order::Run(task) => work.push(task),
            },
        }
    }
}

async fn accept(listener: &mut Option<Listener>) -> Stream {
    match listener {
        Some(listener) => listener.accept().await.expect("it lives"),
        None => std::future::pending().await,
    }
}

async fn connection(stream: Stream, inside: Arc<Inside>, orders: Orders) {
    let service = service_fn(move |request| {
        let (inside, orders) = (Arc::clone(&inside), orders.clone());
        async move { Ok::<_, io::Error>(answer(request, &inside, orders).await) }
    });
    // A caller that goes away breaks it.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await);
}

async fn answer(mut request: Request<Incoming>, inside: &Inside, orders: Orders) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let number = || request.uri().query().and_then(|query| query.parse().ok()).unwrap_or(0);
    match path.as_str() {
        "/echo" => {
            let mut response = Response::builder().header("x-address", request.uri().to_string());
            for name in ["host", "x-forwarded-for", "traceparent", "x-rouse-invocation", "content-length"] {
                if let Some(value) = request.headers().get(name) {
                    response = response.header(format!("x-seen-{name}"), value);
                }
            }
            let body = request.into_body().map_err(io::Error::other).boxed_unsync();
            response.body(body).expect("a response")
        }
        "/sleep" => {
            sleep(Duration::from_millis(number())).await;
            text("slept")
        }
        "/cpu" => {
            inside.use_cpu_us(number());
            text("worked")
        }
        "/exit" => {
            drop(orders.send(Order::Exit(3)).await);
            std::future::pending().await
        }
        "/deafen" => {
            let told = orders.clone();
            let later = async move {
                sleep(Duration::from_millis(1)).await;
                drop(told.send(Order::Deafen).await);
            };
            drop(orders.send(Order::Run(Box::pin(later))).await);
            text("bye")
        }
        "/events" => frames(3, |at| Ok(Frame::data(format!("event {at}\n").into()))),
        "/half" => frames(2, |at| match at {
            0 => Ok(Frame::data("half".into())),
            _ => Err(io::Error::other("broken")),
        }),
        "/trailers" => {
            let mut response = frames(2, |at| match at {
                0 => Ok(Frame::data("sum".into())),
                _ => Ok(Frame::trailers(HeaderMap::from_iter([(
                    http::HeaderName::from_static("x-sum"),
                    http::HeaderValue::from_static("42"),
                )]))),
            });
            response.headers_mut().insert("trailer", "x-sum".parse().expect("ascii"));
            response
        }
        "/large" => text(&"x".repeat(usize::try_from(number()).expect("small"))),
        "/switch" => {
            let upgraded = hyper::upgrade::on(&mut request);
            drop(orders.send(Order::Run(Box::pin(shout(upgraded)))).await);
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            let response = response.header("connection", "upgrade").header("upgrade", "shout");
            response.body(Body::default()).expect("a response")
        }
        _ => {
            let mut response = text("nothing here");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

/// Gives all back in capitals.
async fn shout(upgraded: hyper::upgrade::OnUpgrade) {
    let Ok(upgraded) = upgraded.await else { return };
    let mut stream = TokioIo::new(upgraded);
    let mut buffer = [0; 1_024];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        buffer[..bytes].make_ascii_uppercase();
        if stream.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
    drop(stream.shutdown().await);
}

fn text(text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {});
    Response::new(body.boxed_unsync())
}

/// So many frames, one each 100 ms.
fn frames(count: u32, frame: fn(u32) -> io::Result<Frame<Bytes>>) -> Response<Body> {
    let frames = unfold(0, move |at| async move {
        sleep(Duration::from_millis(if at == 0 { 0 } else { 100 })).await;
        (at < count).then(|| (frame(at), at + 1))
    });
    Response::new(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames))))
}
