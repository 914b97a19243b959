//! An issuer of tokens on a free port: its configuration, its keys, and tokens as a test wants them.

#![allow(dead_code, reason = "one test file uses it")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

/// The name of its key.
pub(crate) const KEY: &str = "k1";

pub(crate) struct Issuer {
    pub(crate) url: String,
    key: EcdsaKeyPair,
    /// How often it was asked for its keys.
    asked: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the platform under test has the system's clock")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        let key = key.expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let point = key.public_key().as_ref();
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": KEY, "use": "sig", "alg": "ES256",
            "x": encode(&point[1..33]), "y": encode(&point[33..])}]});
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (keys, document, counted) = (keys.clone(), document.clone(), Arc::clone(&counted));
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let found = match request.uri().path() {
                            "/.well-known/openid-configuration" => Some(document.clone()),
                            "/keys" => {
                                counted.fetch_add(1, Ordering::SeqCst);
                                Some(keys.clone())
                            }
                            _ => None,
                        };
                        let mut answer = Response::new(Full::new(Bytes::from(
                            found.as_ref().map(Value::to_string).unwrap_or_default(),
                        )));
                        if found.is_none() {
                            *answer.status_mut() = http::StatusCode::NOT_FOUND;
                        }
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, key, asked, tasks }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A token that holds now, with these claims besides.
    pub(crate) fn token(&self, claims: Value) -> String {
        self.signed(&json!({"alg": "ES256", "kid": KEY}), claims)
    }

    pub(crate) fn signed(&self, header: &Value, claims: Value) -> String {
        let mut all = json!({"iss": self.url, "iat": now(), "exp": now() + 300});
        for (name, value) in claims.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let message = format!("{}.{}", encode(header.to_string()), encode(all.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).expect("signed");
        format!("{message}.{}", encode(signature))
    }
}
