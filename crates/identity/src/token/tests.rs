//! Tokens as hostile people write them, against keys as providers publish them.

use std::process::Command;

use ::ring::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, PublicKeyComponents},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;

const CLAIMS: &str = r#"{"iss":"https://id","sub":"me"}"#;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(CLAIMS));
    let signature = encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn read(token: &str, keys: &Keys) -> Result<Claims, Error> {
    verify(token, &Head::read(token)?, keys)
}

fn set(keys: Value) -> Keys {
    Keys::read(json!({ "keys": keys }).to_string().as_bytes()).expect("keys")
}

struct Ec(EcdsaKeyPair);

impl Ec {
    fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        Self(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).expect("a key"),
        )
    }

    fn public(&self, id: &str) -> Value {
        let point = self.0.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encode(&point[1..33]), "y": encode(&point[33..])})
    }

    fn sign(&self, header: &Value) -> String {
        signed(header, |text| self.0.sign(&SystemRandom::new(), text).expect("signed").as_ref().to_vec())
    }
}

#[test]
fn a_token_of_each_algorithm_is_taken_with_its_own_key() {
    let ec = Ec::new();
    let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let ed = Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key");
    let ed_public =
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "x": encode(ed.public_key())});
    let keys = set(
        json!([ec.public("ec"), ed_public, {"kty": "oct", "k": "AAAA", "kid": "oct"}, 7, {"kty": "new"}]),
    );
    let token = ec.sign(&json!({"alg": "ES256", "kid": "ec"}));
    assert_eq!(read(&token, &keys).expect("a token").text("sub"), Some("me"));
    assert_eq!(Head::read(&token).expect("a head").issuer, "https://id");
    let token = signed(&json!({"alg": "EdDSA", "kid": "ed"}), |text| ed.sign(text).as_ref().to_vec());
    read(&token, &keys).expect("a token");
    // The key that has no name of its own is found where there is one alone of the kind.
    let token = ec.sign(&json!({"alg": "ES256"}));
    read(&token, &keys).expect("a token");
    let two = set(json!([ec.public("ec"), Ec::new().public("ec2")]));
    assert_eq!(read(&token, &two), Err(Error::UnknownKey(String::new())));
}

#[test]
fn a_token_that_was_touched_or_is_anothers_is_refused() {
    let (ec, other) = (Ec::new(), Ec::new());
    let keys = set(json!([ec.public("ec")]));
    let header = json!({"alg": "ES256", "kid": "ec"});
    assert_eq!(read(&other.sign(&header), &keys), Err(Error::Signature));
    let token = ec.sign(&header);
    let (head, signature) = token.rsplit_once('.').expect("a token");
    let (head, _) = head.split_once('.').expect("a token");
    let forged = format!("{head}.{}.{signature}", encode(r#"{"iss":"https://id","sub":"you"}"#));
    assert_eq!(read(&forged, &keys), Err(Error::Signature));
    assert_eq!(read(&format!("{token}A"), &keys), Err(Error::Signature));
    assert_eq!(
        read(&ec.sign(&json!({"alg": "ES256", "kid": "old"})), &keys),
        Err(Error::UnknownKey("old".to_owned()))
    );
}

#[test]
fn no_algorithm_but_one_of_public_keys_is_taken_whatever_the_token_says() {
    let ec = Ec::new();
    let keys = set(json!([ec.public("ec")]));
    let public = ec.0.public_key().as_ref().to_vec();
    let hmac = |text: &[u8]| {
        let key = ::ring::hmac::Key::new(::ring::hmac::HMAC_SHA256, &public);
        ::ring::hmac::sign(&key, text).as_ref().to_vec()
    };
    for algorithm in ["HS256", "HS384", "HS512"] {
        let token = signed(&json!({"alg": algorithm, "kid": "ec"}), hmac);
        assert_eq!(read(&token, &keys), Err(Error::Algorithm(algorithm.to_owned())));
    }
    for algorithm in ["none", "None", "", "ES256K", "RS1"] {
        let token = signed(&json!({"alg": algorithm, "kid": "ec"}), |_| Vec::new());
        assert!(matches!(read(&token, &keys), Err(Error::Malformed(_))), "{algorithm}");
    }
    // What it is signed by in truth, under the name of another that is taken.
    for algorithm in ["RS256", "PS256", "EdDSA"] {
        let token = ec.sign(&json!({"alg": algorithm, "kid": "ec"}));
        assert_eq!(read(&token, &keys), Err(Error::Algorithm(algorithm.to_owned())));
    }
    // A provider that publishes a secret, or keys for other ends, has no keys.
    let secret = set(json!([{"kty": "oct", "k": encode(&public), "kid": "ec", "alg": "HS256"}]));
    let token = ec.sign(&json!({"alg": "ES256", "kid": "ec"}));
    assert_eq!(read(&token, &secret), Err(Error::UnknownKey("ec".to_owned())));
    let mut key = ec.public("ec");
    key["use"] = json!("enc");
    assert_eq!(read(&token, &set(json!([key]))), Err(Error::UnknownKey("ec".to_owned())));
    let mut key = ec.public("ec");
    key["alg"] = json!("ES384");
    assert_eq!(read(&token, &set(json!([key]))), Err(Error::UnknownKey("ec".to_owned())));
}

#[test]
fn what_is_no_token_is_refused_before_anything_is_asked() {
    let ec = Ec::new();
    let good = ec.sign(&json!({"alg": "ES256", "kid": "ec"}));
    let (head, rest) = good.split_once('.').expect("a token");
    for wrong in ["", ".", "..", "a.b.c", &format!("{good}.x"), rest, head, &"a".repeat(TOKEN_BYTES_MAX + 1)]
    {
        assert!(matches!(Head::read(wrong), Err(Error::Malformed(_))), "{wrong}");
    }
    let long = ec.sign(&json!({"alg": "ES256", "kid": "k".repeat(300)}));
    assert!(matches!(Head::read(&long), Err(Error::Malformed(_))));
    let nobody = format!("{head}.{}.x", encode("{}"));
    assert_eq!(Head::read(&nobody), Err(Error::Claim("iss")));
    assert!(Keys::read(b"{}").is_err() && Keys::read(b"<html>").is_err());
    assert!(Keys::read(json!({"keys": vec![0; 101]}).to_string().as_bytes()).is_err());
}

#[test]
fn the_signed_part_leaves_out_what_can_be_written_in_two_ways() {
    assert_eq!(signed_part("a.b.c"), "a.b");
}

#[test]
#[expect(clippy::print_stderr, reason = "a test says why it was skipped")]
fn a_token_by_rsa_is_taken_by_either_padding_unless_its_key_is_for_one() {
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"]);
    let Some(made) = command.output().ok().filter(|made| made.status.success()) else {
        eprintln!(
            "SKIPPED a_token_by_rsa_is_taken_by_either_padding_unless_its_key_is_for_one: no openssl: run `cargo xtask setup`"
        );
        return;
    };
    let key =
        RsaKeyPair::from_pkcs8(&made.stdout).or_else(|_| RsaKeyPair::from_der(&made.stdout)).expect("a key");
    let PublicKeyComponents::<Vec<u8>> { n, e } = key.public().into();
    let public = json!({"kty": "RSA", "kid": "rsa", "n": encode(n), "e": encode(e)});
    let sign = |header: Value, by: &'static dyn ::ring::signature::RsaEncoding| {
        signed(&header, |text| {
            let mut out = vec![0; key.public().modulus_len()];
            key.sign(by, &SystemRandom::new(), text, &mut out).expect("signed");
            out
        })
    };
    let rs = sign(json!({"alg": "RS256", "kid": "rsa"}), &::ring::signature::RSA_PKCS1_SHA256);
    let ps = sign(json!({"alg": "PS256", "kid": "rsa"}), &::ring::signature::RSA_PSS_SHA256);
    let keys = set(json!([public]));
    read(&rs, &keys).expect("a token");
    read(&ps, &keys).expect("a token");
    let crossed = sign(json!({"alg": "PS256", "kid": "rsa"}), &::ring::signature::RSA_PKCS1_SHA256);
    assert_eq!(read(&crossed, &keys), Err(Error::Signature));
    let mut only = public;
    only["alg"] = json!("RS256");
    let only = set(json!([only]));
    read(&rs, &only).expect("a token");
    assert_eq!(read(&ps, &only), Err(Error::Algorithm("PS256".to_owned())));
}
