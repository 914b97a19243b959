//! A real provider of identities, started on a free port, and what stands in for a person's browser.

use std::{
    collections::BTreeMap,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;

use crate::{Answer, call, folder, free_address, skipped, tool};

/// How long the provider may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);
/// Pages and redirects on the way to being signed in.
const PAGES_MAX: usize = 30;

/// The provider: whoever signs in as `NAME` is `NAME@acme.example`.
#[derive(Debug)]
pub struct OidcProvider {
    /// Its identifier.
    pub issuer: String,
    child: Child,
}

impl OidcProvider {
    /// Starts it, and waits until it answers. Nothing, saying so, where it is not installed.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        let Some(modules) = tool("ROUSE_OIDC_PROVIDER") else {
            skipped(test, "oidc-provider is not there: run `cargo xtask setup`");
            return None;
        };
        let address = free_address();
        let child = Command::new("node")
            .arg(folder("tests/e2e/scripts").join("provider.mjs"))
            .arg(address.port().to_string())
            .arg(modules)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start node");
        let provider = Self { issuer: format!("http://{address}"), child };
        let end = Instant::now() + READY_MAX;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "oidc-provider does not answer");
            thread::sleep(Duration::from_millis(50));
        }
        Some(provider)
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser that a person fills forms with.
#[derive(Debug, Default)]
pub struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Opens an address, follows where it leads, and sends each form, as this person: until a page has none. Gives the
    /// address and the text of that page.
    ///
    /// # Panics
    /// When a page cannot be had, or there is no end of them.
    pub async fn sign_in(&mut self, url: &str, name: &str) -> (String, String) {
        let (mut url, mut form) = (url.to_owned(), None);
        for _ in 0..PAGES_MAX {
            let answer = self.open(&url, form.take()).await;
            let location = answer.header("location");
            if answer.status.is_redirection() && !location.is_empty() {
                url = absolute(&url, location);
                continue;
            }
            let page = answer.text();
            let Some((action, fields)) = read_form(&page, name) else { return (url, page) };
            url = absolute(&url, &action);
            form = Some(fields);
        }
        panic!("no end of pages: {url}");
    }

    async fn open(&mut self, url: &str, form: Option<String>) -> Answer {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let method = if form.is_some() { "POST" } else { "GET" };
        let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, "text/html");
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        if form.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request.body(Full::new(Bytes::from(form.unwrap_or_default()))).expect("a request");
        let answer = call::call_on(&call::client(), request).await.expect("a page");
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap_or_default();
            if let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) {
                match value.is_empty() {
                    true => drop(self.cookies.remove(name)),
                    false => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
                }
            }
        }
        answer
    }
}

fn absolute(base: &str, location: &str) -> String {
    if location.starts_with("http") {
        return location.to_owned();
    }
    let origin: Vec<&str> = base.splitn(4, '/').take(3).collect();
    format!("{}{location}", origin.join("/"))
}

/// The first form of a page: where it is sent, and its fields, filled in.
fn read_form(page: &str, name: &str) -> Option<(String, String)> {
    let (_, form) = page.split_once("<form")?;
    let (form, _) = form.split_once("</form>")?;
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!("{name}=\""))?;
        Some(rest.split('"').next()?.replace("&amp;", "&"))
    };
    let action = attribute(form, "action")?;
    let mut fields = Vec::new();
    for tag in form.split("<input").skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        let Some(field) = attribute(tag, "name") else { continue };
        let value = match field.as_str() {
            "login" => name.to_owned(),
            "password" => "a-password".to_owned(),
            _ => attribute(tag, "value").unwrap_or_default(),
        };
        fields.push(format!("{field}={}", rouse_api::percent::encode(&value)));
    }
    Some((action, fields.join("&")))
}
