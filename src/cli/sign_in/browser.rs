//! Signing in as a person: by a browser on this machine, or by a code that is typed in elsewhere.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use rouse_identity::{device, flow::Attempt};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::Provider;
use crate::cli::{args::Global, out, report};

/// How long a person has: as long as providers let one type.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a browser may take to send its request's first line, and its length.
const REQUEST_TIME: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: u64 = 16 << 10;

/// Sends a browser to the provider, and waits for it to come back.
pub(crate) async fn here(global: &Global, provider: &Provider, open: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on the loopback")?;
    let port = listener.local_addr().context("listen on the loopback")?.port();
    let attempt = Attempt::new(format!("http://127.0.0.1:{port}/callback"))?;
    let option = &provider.option;
    let url = attempt.url(&provider.said, &option.client_id, &option.scopes)?;
    out::note(&format!("sign in with a browser on this machine:\n{url}"));
    if open {
        // It is shown above, should there be no such program.
        let browser = tokio::process::Command::new("xdg-open")
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        drop(browser);
    }
    let waited = timeout(PATIENCE, comes_back(&listener, &attempt, &option.issuer)).await;
    let Ok(code) = waited else {
        return Err(report::hinted(
            "nobody signed in within ten minutes",
            "on a machine without a browser use `rouse login --device`",
        ));
    };
    let code = code?;
    let answer = attempt.tokens(&provider.http, &provider.said, &option.client_id, &code);
    match Box::pin(answer).await? {
        Ok(tokens) => provider.finish(global, tokens, Some(attempt.nonce())).await,
        Err(declined) => bail!("{} declined: {declined}", option.issuer),
    }
}

/// Answers requests to the loopback until one is the browser that comes back.
async fn comes_back(listener: &TcpListener, attempt: &Attempt, issuer: &str) -> anyhow::Result<String> {
    loop {
        let (mut stream, _) = listener.accept().await.context("listen on the loopback")?;
        let Ok(Some(request)) = timeout(REQUEST_TIME, first_line(&mut stream)).await else { continue };
        let (told, result) = match attempt.code(issuer, &request) {
            Ok(None) => ("There is nothing here.", None),
            Ok(Some(code)) => ("You are signed in. This window can be closed.", Some(Ok(code))),
            Err(declined) => (
                "You are not signed in. This window can be closed.",
                Some(Err(anyhow::anyhow!("{issuer} declined: {declined}"))),
            ),
        };
        let status = if result.is_some() { "200 OK" } else { "404 Not Found" };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\n{told}",
            told.len()
        );
        let _ = timeout(REQUEST_TIME, stream.write_all(answer.as_bytes())).await;
        if let Some(result) = result {
            return result;
        }
    }
}

/// The path and query of a GET. The rest of the request is of no interest, but is read: a browser whose request is not
/// taken sees no answer.
async fn first_line(stream: &mut TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream.take(REQUEST_BYTES_MAX));
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    let mut rest = String::new();
    while reader.read_line(&mut rest).await.ok()? > 2 {
        rest.clear();
    }
    let mut words = line.split(' ');
    (words.next() == Some("GET")).then(|| words.next().map(str::to_owned))?
}

/// Shows a code, and waits until it was typed in elsewhere.
pub(crate) async fn elsewhere(global: &Global, provider: &Provider) -> anyhow::Result<()> {
    let option = &provider.option;
    let begun = device::begin(&provider.http, &provider.said, &option.client_id, &option.scopes);
    let device = Box::pin(begun).await?;
    // What others wrote goes to a terminal.
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    out::note(&format!(
        "sign in at {} with the code {}",
        plain(&device.verification_uri),
        plain(&device.user_code)
    ));
    if let Some(whole) = &device.verification_uri_complete {
        out::note(&format!("or at {}", plain(whole)));
    }
    let end = Instant::now() + device.holds();
    let mut pause = device.pause();
    loop {
        let over =
            || report::hinted("the code was not typed in in time", "`rouse login --device` shows another");
        timeout_at(end, sleep(pause)).await.map_err(|_| over())?;
        let asked = device.ask(&provider.http, &provider.said, &option.client_id, pause);
        match Box::pin(asked).await? {
            device::Step::Done(tokens) => return provider.finish(global, tokens, None).await,
            device::Step::Again(next) => pause = next,
            device::Step::Over(declined) => bail!("{} declined: {declined}", option.issuer),
        }
    }
}
