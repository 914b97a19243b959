//! HTTPS of the control API and of AWS' address: what people and AWS' clients do there, and plain HTTP refused to all but the
//! platform's own machine.

use std::{fs, path::Path, time::Duration};

use http::Request;
use rouse_e2e::{
    App, Authority, Boto3, Cli, Https, Network, Platform, free_address, need, program, state_folder, wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A folder of certificates, with the authority's own in `ca.txt`.
struct Certificates {
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Certificates {
    fn of(names: &[&str]) -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
        authority.sign(names).write(folder.path(), "a");
        fs::write(folder.path().join("ca.txt"), authority.pem()).expect("written");
        Self { authority, folder }
    }

    fn ca(&self) -> String {
        self.folder.path().join("ca.txt").display().to_string()
    }

    fn args(&self, listen: &str) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        ["--tls-listen", listen, "--tls-folder", &folder].map(str::to_owned).to_vec()
    }
}

/// `rouse` as someone with the operator's token has it elsewhere.
async fn rouse(url: &str, state: &Path, ca: Option<&str>, args: &[&str]) -> Cli {
    let mut command = program();
    command.args(args).args(["--url", url]).arg("--state").arg(state).env_remove("ROUSE_CA");
    command.args(ca.map(|file| ["--ca", file]).into_iter().flatten());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task");
    let output = output.expect("run rouse");
    Cli {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test]
async fn all_that_people_do_goes_over_https_and_a_newer_certificate_needs_no_restart() {
    let test = "all_that_people_do_goes_over_https_and_a_newer_certificate_needs_no_restart";
    let (state, certificates) = (state_folder(), Certificates::of(&["localhost"]));
    let platform = Platform::start_with(state.path(), &certificates.args(&free_address().to_string()));
    need!(platform, test, "python");
    let url = format!("https://localhost:{}", platform.control.port());
    let ca = certificates.ca();
    let secure = async |args: &[&str]| rouse(&url, state.path(), Some(&ca), args).await;

    let body = "print('it was said')\nreturn {'n': event['n'] + 1}";
    let app = App::new("shop").python("adds", body, "");
    let deployed = secure(&["deploy", &app.path().display().to_string()]).await;
    assert!(deployed.ok && deployed.out.contains("https://"), "{deployed:?}");
    let called = secure(&["invoke", "adds", "{\"n\": 1}"]).await;
    assert!(called.ok && called.out.replace(' ', "").contains("\"n\":2"), "{called:?}");
    wait_for("the line is in the log", LIMIT, async || {
        secure(&["logs", "adds"]).await.out.contains("it was said")
    })
    .await;

    // HTTP/2 as well as HTTP/1.1, and plain HTTP for this machine.
    let client = Https::trusting(&certificates.authority.pem());
    for protocol in ["h2", "http/1.1"] {
        let answer =
            client.get(platform.control, "localhost", "/healthz", protocol).await.expect("an answer");
        assert_eq!((answer.answer.status.as_u16(), answer.protocol.as_str()), (200, protocol));
    }
    assert!(platform.rouse(&["list"]).await.ok, "this machine needs no certificate");

    // What is wrong is said, with the next step.
    for (url, ca, said, next) in [
        (url.clone(), None, "an authority that is not trusted", "--ca"),
        (
            format!("https://127.0.0.1:{}", platform.control.port()),
            Some(&*ca),
            "not for '127.0.0.1'",
            "--url",
        ),
        (url.clone(), Some("/nowhere.pem"), "/nowhere.pem", "PEM"),
    ] {
        let refused = rouse(&url, state.path(), ca, &["list"]).await;
        assert!(!refused.ok && refused.err.contains(said) && refused.err.contains(next), "{refused:?}");
    }

    // A newer certificate, of another authority, is in force without a restart.
    let newer = Authority::new();
    newer.sign(&["localhost"]).write(certificates.folder.path(), "a");
    fs::write(certificates.folder.path().join("newer.txt"), newer.pem()).expect("written");
    let file = certificates.folder.path().join("newer.txt").display().to_string();
    wait_for("the newer certificate is in force", LIMIT, async || {
        rouse(&url, state.path(), Some(&file), &["list"]).await.ok
    })
    .await;
    assert!(!secure(&["list"]).await.ok, "the older one is not shown any more");
}

#[tokio::test]
async fn boto3_speaks_https_and_is_told_urls_with_it() {
    let test = "boto3_speaks_https_and_is_told_urls_with_it";
    let (state, certificates) = (state_folder(), Certificates::of(&["localhost"]));
    let platform = Platform::start_with(state.path(), &certificates.args(&free_address().to_string()));
    let endpoint = format!("https://localhost:{}", platform.aws_address().port());
    let ca = certificates.ca();
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let boto3 = boto3.with(&[("AWS_ENDPOINT_URL", &endpoint), ("AWS_CA_BUNDLE", &ca)]);
    let script = "
sqs = boto3.client('sqs')
url = sqs.create_queue(QueueName='q')['QueueUrl']
assert url.startswith('https://localhost:'), url
sqs.send_message(QueueUrl=url, MessageBody='hello')
got = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)['Messages'][0]['Body']
s3.create_bucket(Bucket='pictures')
s3.put_object(Bucket='pictures', Key='a', Body=b'x' * 100000)
print(got, len(s3.get_object(Bucket='pictures', Key='a')['Body'].read()), boto3.client('lambda').list_functions()['Functions'])
";
    assert_eq!(boto3.run(script, &[]).await.trim(), "hello 100000 []");
}

#[tokio::test]
async fn over_a_network_plain_http_is_told_to_come_by_https_and_gets_nothing() {
    let test = "over_a_network_plain_http_is_told_to_come_by_https_and_gets_nothing";
    let Some(network) = Network::make(test, 1) else { return };
    let host = &network.hosts()[0];
    let address = host.address().to_string();
    let (state, certificates) = (state_folder(), Certificates::of(&["rouse.example", &address]));
    let args = certificates.args(&host.free_address().to_string());
    let platform = Platform::start_on(host, state.path(), &args);
    let (plain, secure) = (format!("http://{}", platform.control), format!("https://{}", platform.control));

    let served =
        rouse(&secure, state.path(), Some(&certificates.ca()), &["access-key", "create", "--json"]).await;
    assert!(served.ok, "{served:?}");
    let refused = rouse(&plain, state.path(), None, &["list"]).await;
    assert!(!refused.ok && refused.err.contains("https-required"), "{refused:?}");
    assert!(refused.err.contains("https://"), "{refused:?}");
    // Whoever probes needs no certificate, and learns no more than that it works.
    assert_eq!(platform.ask("/readyz").await.status, 200);
    for path in ["/v1/info", "/metrics", "/v1/tenants"] {
        let answer = platform.ask(path).await;
        assert!(
            answer.status == 403 && answer.text().contains("https-required"),
            "{path}: {}",
            answer.text()
        );
    }

    // AWS' clients, too: in the words of each service, whatever the key.
    let ask = async |service: &str, target: Option<&str>| {
        let scope = format!("A/20261121/us-east-1/{service}/aws4_request");
        let mut request = Request::post(format!("http://{}/", platform.aws_address()))
            .header("x-amz-date", "20261121T000000Z")
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"),
            );
        if let Some(target) = target {
            request = request.header("x-amz-target", target);
        }
        platform.send(request.body(Default::default()).expect("a request")).await
    };
    for (service, target) in
        [("s3", None), ("lambda", None), ("sqs", Some("AmazonSQS.ListQueues")), ("iam", None)]
    {
        let answer = ask(service, target).await;
        assert_eq!(answer.status, 403, "{service}");
        assert!(answer.text().contains("https://"), "{service}: {}", answer.text());
    }
}
