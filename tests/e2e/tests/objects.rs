//! Objects in the whole platform: clients of S3 reach them, and uploads rouse functions of each contract from nothing.

use std::time::Duration;

use rouse_e2e::{App, Boto3, Platform, Seen, folder, need, state_folder, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
/// Calls in quick succession are a history that says that no more will come after a pause.
const CALLS: usize = 12;

/// Tells the test's listener what the event was.
const TRIGGER: &str = "name = \"photo\"\nobject = { bucket = \"photos\", events = [\"created\", \"removed\"], prefix = \"in/\", suffix = \".jpg\" }";

fn lines(name: &str, port: u16, trigger: &str) -> String {
    format!("{}[[functions.{name}.triggers]]\n{trigger}", tell::lines(port))
}

#[tokio::test]
async fn clients_of_s3_put_list_get_presign_and_are_refused_without_a_key() {
    let platform = Platform::shared();
    let test = "clients_of_s3_put_list_get_presign_and_are_refused_without_a_key";
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let script = "
import io, os, urllib.request, urllib.error
from boto3.s3.transfer import TransferConfig
s3.create_bucket(Bucket='first')
big = os.urandom(11 << 20)
s3.upload_fileobj(io.BytesIO(big), 'first', 'big.bin', Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
assert s3.get_object(Bucket='first', Key='big.bin')['Body'].read() == big
s3.put_object(Bucket='first', Key='a b/ä+c.txt', Body=b'hello', Metadata={'colour': 'blue'})
head = s3.head_object(Bucket='first', Key='a b/ä+c.txt')
assert (head['ContentLength'], head['Metadata']) == (5, {'colour': 'blue'}), head
keys = [o['Key'] for o in s3.list_objects_v2(Bucket='first')['Contents']]
assert keys == ['a b/ä+c.txt', 'big.bin'], keys
url = s3.generate_presigned_url('get_object', Params={'Bucket': 'first', 'Key': 'a b/ä+c.txt'}, ExpiresIn=60)
assert urllib.request.urlopen(url).read() == b'hello'
put = s3.generate_presigned_url('put_object', Params={'Bucket': 'first', 'Key': 'by-url'}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(put, data=b'x' * 100000, method='PUT'))
assert s3.head_object(Bucket='first', Key='by-url')['ContentLength'] == 100000
by_name = boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL'].replace('127.0.0.1', 'localhost'),
                       config=Config(s3={'addressing_style': 'virtual'}, proxies={}))
try:
    import socket
    socket.getaddrinfo('first.localhost', 80)
    assert by_name.head_object(Bucket='first', Key='by-url')['ContentLength'] == 100000
except socket.gaierror:
    pass  # This machine's resolver does not know the names below localhost.
def refused(do):
    try:
        do()
    except Exception as error:
        return error.response['Error']['Code']
    raise AssertionError('it was taken')
wrong = dict(aws_access_key_id=os.environ['AWS_ACCESS_KEY_ID'], aws_secret_access_key='wrong')
assert refused(boto3.client('s3', **wrong).list_buckets) == 'SignatureDoesNotMatch'
wrong = dict(aws_access_key_id='AKIANOBODY', aws_secret_access_key='wrong')
assert refused(boto3.client('s3', **wrong).list_buckets) == 'InvalidAccessKeyId'
old = boto3.client('s3', config=Config(signature_version='s3'))
assert refused(old.list_buckets) == 'InvalidRequest'
assert refused(lambda: s3.get_object(Bucket='first', Key='none')) == 'NoSuchKey'
try:
    urllib.request.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/first/by-url')
except urllib.error.HTTPError as error:
    assert error.code == 403, error
else:
    raise AssertionError('nobody signed it')
print('all hold')
";
    assert_eq!(boto3.run(script, &[]).await, "all hold\n");
    let log = std::fs::read_to_string(platform.state().join("serve.log")).expect("the log");
    assert!(!log.contains("AWS4-HMAC-SHA256"), "the log has nothing of signatures");
}

#[tokio::test]
async fn the_command_line_makes_buckets_and_brings_files_in_and_out() {
    let platform = Platform::shared();
    let rouse = async |args: &[&str]| {
        let cli = platform.rouse(args).await;
        assert!(cli.ok, "rouse {args:?} failed:\n{}{}", cli.out, cli.err);
        cli.out
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    // More than a pipe or a socket holds at once.
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[(n % 4) as usize]).collect();
    std::fs::write(path("in.png"), &bytes).expect("a file");
    assert_eq!(rouse(&["bucket", "create", "drawer"]).await, "drawer\n");
    rouse(&["bucket", "create", "drawer"]).await;
    let put = platform.json(&["object", "put", "drawer", "a b/\u{e4}%2f.png", &path("in.png")]).await;
    assert_eq!((&put["size"], &put["content_type"]), (&3_000_000.into(), &"image/png".into()));
    rouse(&["object", "put", "drawer", "note", &path("in.png"), "--content-type", "text/x-note"]).await;
    let listed = platform.json(&["object", "ls", "drawer", "a "]).await;
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["key"]), (Some(1), &"a b/\u{e4}%2f.png".into()));
    assert!(rouse(&["object", "ls", "drawer"]).await.contains("  note\n"));
    rouse(&["object", "get", "drawer", "a b/\u{e4}%2f.png", &path("out.png")]).await;
    assert_eq!(std::fs::read(path("out.png")).expect("the file"), bytes);
    let refused = async |args: &[&str], said: &[&str]| {
        let cli = platform.rouse(args).await;
        assert!(!cli.ok && said.iter().all(|said| cli.err.contains(said)), "{said:?}: {cli:?}");
    };
    refused(&["object", "get", "drawer", "none", &path("none")], &["object-not-found", "none"]).await;
    assert!(!std::path::Path::new(&path("none")).exists(), "no half of a file is left");
    refused(&["object", "ls", "nowhere"], &["bucket-not-found", "rouse bucket create"]).await;
    refused(&["bucket", "create", "Drawer"], &["3 to 63"]).await;
    refused(&["bucket", "delete", "drawer"], &["not empty"]).await;
    refused(&["object", "ls", "drawer", "--tenant", "other"], &["tenant-not-found"]).await;
    rouse(&["tenant", "create", "other"]).await;
    refused(&["object", "ls", "drawer", "--tenant", "other"], &["bucket-not-found"]).await;
    rouse(&["object", "rm", "drawer", "note"]).await;
    rouse(&["object", "rm", "drawer", "a b/\u{e4}%2f.png"]).await;
    rouse(&["bucket", "delete", "drawer"]).await;
    let left = platform.json(&["bucket", "list"]).await;
    let left = left.as_array().expect("a list");
    assert!(left.iter().all(|bucket| bucket["name"] != "drawer"), "{left:?}");
}

#[tokio::test]
async fn an_upload_rouses_a_lambda_function_and_it_goes_to_nothing() {
    let platform = Platform::start();
    need!(platform, "an_upload_rouses_a_lambda_function_and_it_goes_to_nothing", "python");
    let test = "an_upload_rouses_a_lambda_function_and_it_goes_to_nothing";
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let seen = Seen::listen().await;
    let filter = "filter = { s3 = { object = { size = [{ numeric = [\">\", 3] }] } } }";
    let small = format!(
        "{}\n[[functions.photo.triggers]]\nname = \"large\"\nobject = {{ bucket = \"large\", events = [\"created\"] }}\n{filter}",
        lines("photo", seen.port(), TRIGGER)
    );
    platform.deploy(App::new("photo").python("photo", tell::PYTHON, &small).path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first upload");
    let put = "s3.put_object(Bucket=sys.argv[1], Key=sys.argv[2], Body=sys.argv[3].encode())";
    for n in 0..CALLS {
        // What it does not want costs nothing.
        boto3.run(put, &["photos", &format!("out/{n}.jpg"), "x"]).await;
        boto3.run(put, &["large", "small", "xxx"]).await;
        boto3.run(put, &["photos", &format!("in/a b{n}.jpg"), "pixels"]).await;
        wait_for("the upload is handled", LIMIT, async || seen.count() > n).await;
        let record = &seen.lines()[n]["event"]["Records"][0];
        assert_eq!(
            (&record["eventSource"], &record["eventName"], &record["s3"]["bucket"]["name"]),
            (&"aws:s3".into(), &"ObjectCreated:Put".into(), &"photos".into())
        );
        assert_eq!(record["s3"]["object"]["key"], format!("in/a+b{n}.jpg"), "as S3 writes keys there");
        assert_eq!(record["s3"]["object"]["size"], 6);
    }
    boto3.run("s3.delete_object(Bucket='photos', Key='in/a b0.jpg')", &[]).await;
    wait_for("the deletion is handled", LIMIT, async || seen.count() > CALLS).await;
    assert_eq!(seen.lines()[CALLS]["event"]["Records"][0]["eventName"], "ObjectRemoved:Delete");
    boto3.run(put, &["large", "large", "four"]).await;
    wait_for("what the filter takes is handled", LIMIT, async || seen.count() > CALLS + 1).await;
    assert_eq!(seen.lines()[CALLS + 1]["event"]["Records"][0]["s3"]["object"]["size"], 4);
    platform.goes_to_nothing().await;
    assert_eq!(seen.count(), CALLS + 2, "each was handled once, and nothing else");
}

#[tokio::test]
async fn an_upload_rouses_a_server_and_it_goes_to_nothing() {
    let platform = Platform::start();
    need!(platform, "an_upload_rouses_a_server_and_it_goes_to_nothing", "node");
    let test = "an_upload_rouses_a_server_and_it_goes_to_nothing";
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let seen = Seen::listen().await;
    let lines = format!(
        "source = \"photo\"\nruntime = \"provided\"\ncontract = \"http\"\ncommand = [\"node\", \"server.mjs\"]\n{}",
        lines("photo", seen.port(), TRIGGER)
    );
    let app = App::new("photo").file("photo/server.mjs", tell::NODE).function("photo", &lines);
    platform.deploy(app.path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first upload");
    for n in 0..CALLS {
        let put = "s3.put_object(Bucket='photos', Key=sys.argv[1], Body=b'pixels', ContentType='image/jpeg')";
        boto3.run(put, &[&format!("in/{n}.jpg")]).await;
        wait_for("the upload is handled", LIMIT, async || seen.count() > n).await;
        let told = &seen.lines()[n];
        assert_eq!(
            (&told["method"], &told["headers"]["ce-type"], &told["headers"]["ce-subject"]),
            (
                &"POST".into(),
                &"google.cloud.storage.object.v1.finalized".into(),
                &format!("objects/in/{n}.jpg").into()
            )
        );
        let body: serde_json::Value =
            serde_json::from_str(told["body"].as_str().expect("text")).expect("JSON");
        assert_eq!(
            (&body["bucket"], &body["size"], &body["contentType"]),
            (&"photos".into(), &"6".into(), &"image/jpeg".into())
        );
    }
    platform.goes_to_nothing().await;
}

#[tokio::test]
async fn an_upload_rouses_a_component() {
    let platform = Platform::start();
    need!(platform, "an_upload_rouses_a_component", "component");
    let Some(boto3) = Boto3::of(&platform, "an_upload_rouses_a_component").await else { return };
    // Built where it lies, and copied: an app's code lies in its folder.
    let probe = folder("tests/guests/probe").display().to_string();
    let lines = format!(
        "source = \"probe\"\nruntime = \"component\"\n[functions.photo.build]\ncommand = \"cargo build --quiet \
         --release --target wasm32-wasip2 --manifest-path {probe}/Cargo.toml --target-dir {probe}/target && cp \
         {probe}/target/wasm32-wasip2/release/probe.wasm .\"\noutput = \"probe.wasm\"\n\
         [[functions.photo.triggers]]\n{TRIGGER}"
    );
    let app = App::new("photo").function("photo", &lines).file("probe/README", "built elsewhere");
    platform.deploy(app.path()).await;
    boto3.run("s3.put_object(Bucket='photos', Key='in/1.jpg', Body=b'pixels')", &[]).await;
    let expected = "told of google.cloud.storage.object.v1.finalized objects/in/1.jpg photos";
    wait_for("the component says what it was told", LIMIT, async || {
        platform.rouse(&["logs", "photo"]).await.out.contains(expected)
    })
    .await;
    assert_eq!(platform.functions(), [], "a component has no process");
}

#[tokio::test]
async fn a_trigger_of_objects_that_cannot_act_is_refused_with_its_reason() {
    let platform = Platform::shared();
    let refused = async |trigger: &str| {
        let app = App::new("f").python("f", "return {}", &format!("[[functions.f.triggers]]\n{trigger}"));
        let cli = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
        assert!(!cli.ok, "{trigger} was taken");
        cli.err
    };
    let said = refused("object = { bucket = \"My_Photos\", events = [\"created\"] }").await;
    assert!(said.contains("My_Photos") && said.contains("3 to 63"), "{said}");
    let said =
        refused("object = { bucket = \"photos\", events = [\"created\"] }\nfilter = { s3 = [] }").await;
    assert!(said.contains("filter"), "{said}");
}

#[tokio::test]
async fn an_upload_that_was_acknowledged_is_handled_once_whatever_is_killed() {
    let state = state_folder();
    let mut platform = Platform::start_in(state.path());
    need!(platform, "an_upload_that_was_acknowledged_is_handled_once_whatever_is_killed", "python");
    let test = "an_upload_that_was_acknowledged_is_handled_once_whatever_is_killed";
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let seen = Seen::listen().await;
    let app = App::new("photo").python("photo", tell::PYTHON, &lines("photo", seen.port(), TRIGGER));
    platform.deploy(app.path()).await;
    // Many at once, so that a kill finds some of them in each place.
    let put = "
from concurrent.futures import ThreadPoolExecutor
def put(n):
    key = f'in/{sys.argv[1]}-{n}.jpg'
    for _ in range(200):
        try:
            s3.put_object(Bucket='photos', Key=key, Body=b'pixels', IfNoneMatch='*')
            return key
        except s3.exceptions.ClientError as error:
            # An earlier try was taken before its answer was lost.
            if error.response['ResponseMetadata']['HTTPStatusCode'] == 412:
                return key
        except Exception:
            pass
        import time; time.sleep(0.1)
    raise AssertionError(key)
with ThreadPoolExecutor(8) as pool:
    print(json.dumps(list(pool.map(put, range(40)))))
";
    let mut keys = Vec::new();
    for round in 0..2_usize {
        let name = round.to_string();
        let args = [name.as_str()];
        let killing = async {
            for kill in 0..3 {
                wait_for("some are there", LIMIT, async || seen.count() >= round * 30 + kill * 8).await;
                let role = ["objects", "events"][(round + kill) % 2];
                wait_for("it is there", LIMIT, async || !platform.role(role).is_empty()).await;
                platform.kill(role);
            }
        };
        let (told, ()) = tokio::join!(boto3.run(put, &args), killing);
        keys.extend(serde_json::from_str::<Vec<String>>(&told).expect("keys"));
    }
    // The power goes, as far as processes can tell; what was taken waits on the disk.
    platform.kill_supervisor();
    drop(platform);
    platform = Platform::start_in(state.path());
    let key = |line: &serde_json::Value| {
        line["event"]["Records"][0]["s3"]["object"]["key"].as_str().unwrap_or_default().to_owned()
    };
    wait_for("all are handled", Duration::from_secs(240), async || {
        let seen: std::collections::HashSet<_> = seen.lines().iter().map(key).collect();
        keys.iter().all(|key| seen.contains(key))
    })
    .await;
    // The same event may run again when its function or gateway dies; no upload may become two events.
    assert_eq!(seen.ids().len(), keys.len(), "each upload is one event");
    assert_eq!(platform.role("objects").len(), 1);
}
