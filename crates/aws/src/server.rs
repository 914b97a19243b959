//! Listens and serves HTTP/1.1, for clients on a port and for functions on a unix socket: finds out who asks, reads the body within bounds, and hands the request to the
//! service that it is for.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rouse_store::access_keys::Ring;
use rouse_tls::{Door, Guest};
use rouse_types::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Body,
    access::{self, Operation},
    audit,
    auth::Auth,
    error::AwsError,
    face::{self, Around, Face},
    function_keys, header_case, iam, lambda, logs,
    names::{self, Scope},
    query, s3,
    sigv4::Signed,
    sqs, sts,
    url::{self, Asked},
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 1_024;
/// What is waited after an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A request's body: the largest archive that AWS takes in a request (50 MB), in base64, and its settings.
const BODY_BYTES_MAX: usize = 72 << 20;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// How long requests under way may go on after the end was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// Bodies larger than this are read one at a time: bounds the memory of all together.
const LARGE_BYTES: u64 = 7 << 20;

/// Listens on a unix socket, to which the platform's own processes bring what functions say. Whoever can connect there is
/// asked for a key as everyone is.
pub(crate) fn bind(state: &Path) -> io::Result<UnixListener> {
    let path = state.join("run").join("aws.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection as it was accepted.
enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// How requests come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) peer: IpAddr,
    /// What URLs begin with that are told to the client: `http` or `https`.
    pub(crate) scheme: &'static str,
    /// In the clear over a network, though the platform has certificates.
    exposed: bool,
}

/// Finds out what a connection speaks. Nothing of one that failed: who does not trust the certificate is no news.
async fn enter(door: &Door, accepted: Accepted) -> Option<(Box<dyn Io>, Way)> {
    let (stream, peer) = match accepted {
        // A function is nobody's loopback: it is never believed without a key.
        Accepted::Unix(stream) => {
            let way = Way { peer: Ipv4Addr::UNSPECIFIED.into(), scheme: "http", exposed: false };
            return Some((Box::new(stream), way));
        }
        Accepted::Tcp(stream, peer) => (stream, peer),
    };
    let guest = door.open(stream, peer).await;
    let guest =
        guest.inspect_err(|error| tracing::debug!(%error, %peer, "a connection was not let in")).ok()?;
    Some(match guest {
        Guest::Secure(stream) => (Box::new(*stream), Way { peer, scheme: "https", exposed: false }),
        Guest::Plain(stream) => (Box::new(stream), Way { peer, scheme: "http", exposed: false }),
        Guest::Exposed(stream) => (Box::new(stream), Way { peer, scheme: "http", exposed: true }),
    })
}

struct Server {
    face: Arc<Face>,
    auth: Auth,
    large: Semaphore,
    /// How the names of headers are written.
    case: Extensions,
}

/// Serves until told to stop.
pub(crate) async fn serve(
    face: &Arc<Face>,
    (tcp, door): (TcpListener, Door),
    unix: UnixListener,
    stop: CancellationToken,
) {
    let auth = Auth::new(Ring::new(&face.config.state), face.config.any_key);
    let case = header_case::spelled().await;
    let server = Arc::new(Server { face: Arc::clone(face), auth, large: Semaphore::new(2), case });
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted.map(|(stream, peer)| {
                let _ = stream.set_nodelay(true);
                Accepted::Tcp(stream, peer.ip())
            }),
            accepted = unix.accept() => accepted.map(|(stream, _)| Accepted::Unix(stream)),
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => {
                let (server, door, stop) = (Arc::clone(&server), door.clone(), stop.clone());
                connections.spawn(async move {
                    let entered = stop.run_until_cancelled(enter(&door, accepted)).await.flatten();
                    let Some((stream, way)) = entered else { return };
                    let service = service_fn(move |request| {
                        let server = Arc::clone(&server);
                        async move { Ok::<_, Infallible>(server.answer(request, way).await) }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(limits::HEADER_TIMEOUT * 6)
                        .max_headers(limits::HEADERS_MAX)
                        .max_buf_size(limits::HEADER_BYTES_MAX)
                        .serve_connection(TokioIo::new(stream), service);
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ = connection.as_mut() => {}
                        () = stop.cancelled() => {
                            connection.as_mut().graceful_shutdown();
                            let _ = connection.await;
                        }
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, way: Way) -> Response<Body> {
        let target = request.headers().get("x-amz-target").map(HeaderValue::as_bytes).unwrap_or_default();
        let queues = target.starts_with(sqs::TARGET.as_bytes());
        let signed_for = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let speaks_query = signed_for.is_some_and(|value| {
            ["/sts/aws4_request", "/iam/aws4_request"].iter().any(|scope| value.contains(scope))
        });
        let mut response = match Box::pin(self.route(request, way)).await {
            Ok(response) => response,
            Err(error) if queues => sqs::refused(&error),
            Err(error) if speaks_query => sts::refused(&error),
            Err(error) => error.rest_json(),
        };
        let id = HeaderValue::try_from(face::uuid()).unwrap_or(HeaderValue::from_static("-"));
        response.headers_mut().entry(HeaderName::from_static("x-amzn-requestid")).or_insert(id);
        response.extensions_mut().extend(self.case.clone());
        response
    }

    async fn route(&self, request: Request<Incoming>, way: Way) -> Result<Response<Body>, AwsError> {
        let (parts, body) = request.into_parts();
        if way.exposed {
            return exposed(&parts);
        }
        if parts.method == Method::GET
            && let Some(hex) = parts.uri.path().strip_prefix("/_rouse/code/")
        {
            return self.code(hex, parts.uri.query().unwrap_or_default()).await;
        }
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        if let Some((id, path)) = url::target(host.as_deref(), parts.uri.path()) {
            let (id, path) = (id.to_owned(), path.to_owned());
            return self.url(&id, &Asked { parts: &parts, path: &path, way }, body).await;
        }
        let signed = Signed {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
        };
        if s3::is_meant(&signed) {
            return Ok(s3::pass_on(&self.face.config.state, parts, body).await);
        }
        let claimed = self.auth.claimed(&signed, way.peer)?;
        let path = parts.uri.path();
        let (most, told) = lambda::body_bytes_max(path, BODY_BYTES_MAX);
        let payload = self.body(body, most, told).await?;
        let now = self.face.config.clock.now();
        let seconds = i64::try_from(now.as_millis() / 1_000).unwrap_or(i64::MAX);
        self.auth.prove(&claimed, &signed, &payload, seconds)?;
        let account = names::account(&claimed.tenant);
        let scope = Scope { tenant: claimed.tenant, account, region: claimed.claim.region };
        let url = format!("{}://{}", way.scheme, host.as_deref().unwrap_or("127.0.0.1:4566"));
        let key = claimed.claim.key;
        let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let target = target.and_then(|target| target.split_once('.'));
        let form = if target.is_none() { form(&parts, &payload) } else { Vec::new() };
        let action = form.iter().find(|(name, _)| name == "Action").map(|(_, value)| value.as_str());
        let operation = match (target, claimed.claim.service.as_str()) {
            (Some((sqs::TARGET, name)), _) => Operation { service: "sqs", name },
            // It is served whatever it says that it is signed for.
            (Some((service, name)), _) if service.starts_with("Logs_") => Operation { service: "logs", name },
            (None, "lambda") => access::lambda(&parts.method, path, parts.uri.query().unwrap_or_default()),
            (None, service @ ("sts" | "iam")) => Operation { service, name: action.unwrap_or_default() },
            (_, other) => {
                return Err(AwsError::new(
                    "UnknownOperationException",
                    format!(
                        "Rouse does not offer the service '{other}' here: it has lambda, sqs, sts, iam and logs"
                    ),
                ));
            }
        };
        let allowed = function_keys::check(&key, operation.service, &parts.method, path)
            .and_then(|()| access::check(&key, claimed.role, operation));
        if let Err(error) = allowed {
            return match operation.service {
                // Its clients read XML alone.
                "iam" => Ok(sts::error("AccessDenied", &error.message, StatusCode::FORBIDDEN)),
                _ => Err(error),
            };
        }
        let around = Around { scope, url, now };
        if !access::is_logged(operation) {
            return dispatch(&self.face, &around, &key, operation, &parts, &form, payload).await;
        }
        let about = audit::about(operation.service, path, &payload, &form);
        let begun =
            self.face.begin_action(&audit::begins(&around.scope, &key, way.peer, operation, about)).await?;
        let (face, (service, name)) =
            (Arc::clone(&self.face), (operation.service.to_owned(), operation.name.to_owned()));
        // To its end, whether or not the client waits for it: what is done is written down.
        let done = self.face.tasks.spawn(async move {
            let operation = Operation { service: &service, name: &name };
            let answered = dispatch(&face, &around, &key, operation, &parts, &form, payload).await;
            face.end_action(begun, audit::ended(&answered)).await;
            answered
        });
        done.await.unwrap_or_else(|error| Err(AwsError::service(error.to_string())))
    }

    /// Answers a request to a function URL.
    async fn url(&self, id: &str, asked: &Asked<'_>, body: Incoming) -> Result<Response<Body>, AwsError> {
        let Some(found) = url::find(&self.face, id).await? else { return Ok(url::forbidden()) };
        if let Some(response) = found.preflight(asked) {
            return Ok(response);
        }
        if !found.is_signed() && !found.is_open() {
            return Ok(url::forbidden());
        }
        let parts = asked.parts;
        let signed = Signed {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
        };
        let claimed = match found.is_signed().then(|| self.auth.claimed(&signed, asked.way.peer)) {
            None => None,
            Some(Ok(claimed)) if found.is_of(&claimed.tenant) => Some(claimed),
            Some(_) => return Ok(url::forbidden()),
        };
        let payload = self.body(body, lambda::PAYLOAD_BYTES_MAX, None).await?;
        if let Some(claimed) = &claimed {
            let seconds = i64::try_from(self.face.config.clock.now().as_millis() / 1_000).unwrap_or(i64::MAX);
            self.auth.prove(claimed, &signed, &payload, seconds)?;
            let call = Operation { service: "lambda", name: "Invoke" };
            if access::check(&claimed.claim.key, claimed.role, call).is_err() {
                return Ok(url::forbidden());
            }
        }
        Ok(found.call(&self.face, asked, claimed.map(|claimed| claimed.claim.key), &payload).await)
    }

    /// Reads a body of at most so many bytes; `told` is what is said of one that is larger.
    async fn body(&self, body: Incoming, most: usize, told: Option<AwsError>) -> Result<Bytes, AwsError> {
        let too_large = || {
            told.clone().unwrap_or_else(|| {
                let text = format!("Request must be smaller than {most} bytes");
                AwsError::new("RequestEntityTooLargeException", text)
            })
        };
        let said = http_body::Body::size_hint(&body).exact();
        if said.is_some_and(|bytes| bytes > most as u64) {
            return Err(too_large());
        }
        let _large = match said {
            Some(bytes) if bytes <= LARGE_BYTES => None,
            _ => self.large.acquire().await.ok(),
        };
        let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await;
        match read {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            _ => Err(AwsError::new("RequestTimeoutException", "The request's body did not come in time")),
        }
    }

    /// Code that was uploaded, to whoever was given its address.
    async fn code(&self, hex: &str, query: &str) -> Result<Response<Body>, AwsError> {
        let pairs = query::pairs(query);
        let get = |name: &str| {
            pairs.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str())
        };
        if !self.face.code_url_is_good(hex, get("expires"), get("signature")) {
            return Err(AwsError::new("AccessDeniedException", "This address of code is not good any more"));
        }
        let digest = format!("sha256:{hex}").parse().or_else(|_| hex.parse());
        let digest = digest.map_err(|_| AwsError::not_found("There is no such code"))?;
        let bytes =
            self.face.kept(digest).await?.ok_or_else(|| AwsError::not_found("There is no such code"))?;
        let mut response = Response::new(body_of(bytes));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
        Ok(response)
    }
}

/// What is told whoever comes in the clear over a network, in the words of the service that is meant. Nothing of the request is
/// believed.
fn exposed(parts: &Parts) -> Result<Response<Body>, AwsError> {
    const TOLD: &str =
        "This address takes plain HTTP from its own machine alone: write https:// in the endpoint's URL";
    let signed = Signed {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
    };
    if s3::is_meant(&signed) {
        return Ok(s3::refused(StatusCode::FORBIDDEN, "AccessDenied", TOLD));
    }
    Err(AwsError::new("AccessDeniedException", TOLD))
}

/// Has the service answer that the request is for.
async fn dispatch(
    face: &Arc<Face>,
    around: &Around,
    key: &str,
    operation: Operation<'_>,
    parts: &Parts,
    form: &[(String, String)],
    payload: Bytes,
) -> Result<Response<Body>, AwsError> {
    match operation.service {
        "sqs" => Ok(Box::pin(sqs::answer(face, around, operation.name, &payload)).await),
        "logs" => Ok(logs::answer(face, around, operation.name, &payload).await),
        "sts" => {
            let token = parts.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
            Ok(sts::answer(&face.config.state, around, sts::Caller { key, token }, form))
        }
        "iam" => Ok(iam::answer(face, around, form).await),
        _ => Box::pin(lambda::answer(face, around, parts, payload)).await,
    }
}

/// The members of a request in form encoding: its query and its body.
fn form(parts: &Parts, payload: &[u8]) -> Vec<(String, String)> {
    let mut pairs = query::pairs(parts.uri.query().unwrap_or_default());
    pairs.extend(query::pairs(&String::from_utf8_lossy(payload)));
    pairs
}

/// A whole body.
pub(crate) fn body_of(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of a status with a body of a type.
pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(body_of(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
