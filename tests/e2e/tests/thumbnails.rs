//! The examples of thumbnails: an upload by S3 rouses a function that reads it and writes another object, both from inside
//! its sandbox, with a key of its own.

use std::time::Duration;

use rouse_e2e::{App, Boto3, Platform, example, folder, need, skipped, wait_for};

/// pip resolves wheels first, or cargo builds, and the machine is busy.
const LIMIT: Duration = Duration::from_secs(120);

/// The width and height that a JPEG or PNG says it has, by its bytes alone (ITU T.81 §B.2.2; PNG §11.2.1).
const SIZE: &str = "
import struct
def size(data):
    if data[:8] == b'\\x89PNG\\r\\n\\x1a\\n':
        return list(struct.unpack('>II', data[16:24]))
    assert data[:2] == b'\\xff\\xd8', data[:16]
    at = 2
    while True:
        marker, length = struct.unpack('>HH', data[at:at + 4])
        if marker in (0xffc0, 0xffc1, 0xffc2):
            height, width = struct.unpack('>HH', data[at + 5:at + 9])
            return [width, height]
        at += 2 + length
";

/// Whether pip reaches its index.
fn can_resolve(test: &str) -> bool {
    let pip = ["-m", "pip", "download", "-q", "--no-deps", "six==1.17.0", "-d"];
    let folder = tempfile::tempdir().expect("a folder");
    let there = std::process::Command::new("/usr/bin/python3").args(pip).arg(folder.path()).output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        skipped(test, "pip reaches no package index");
    }
    there
}

async fn keys(boto3: &Boto3, bucket: &str) -> Vec<String> {
    let list =
        "print(json.dumps([o['Key'] for o in s3.list_objects_v2(Bucket=sys.argv[1]).get('Contents', [])]))";
    serde_json::from_str(&boto3.run(list, &[bucket]).await).expect("keys")
}

/// Deploys the example, which watches this bucket, and tries it on real pictures.
async fn pictures_are_made_small(platform: &Platform, boto3: &Boto3, app: &str, bucket: &str) {
    platform.deploy(&example(app)).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first upload");
    let pictures = folder("tests/e2e/fixtures/pictures").display().to_string();
    let upload = "
for name in ('upright.jpg', 'drawing.png'):
    s3.upload_file(f'{sys.argv[1]}/{name}', sys.argv[2], f'in/{name}')
s3.put_object(Bucket=sys.argv[2], Key='in/broken.jpg', Body=b'no picture')
s3.put_object(Bucket=sys.argv[2], Key='in/note.txt', Body=b'no picture either')
";
    boto3.run(upload, &[&pictures, bucket]).await;
    let made = ["thumbnails/drawing.png", "thumbnails/upright.jpg"];
    wait_for("the thumbnails are there", LIMIT, async || {
        let keys = keys(boto3, bucket).await;
        made.iter().all(|made| keys.iter().any(|key| key == made))
    })
    .await;
    let look = format!(
        "{SIZE}
found = {{}}
for name in ('upright.jpg', 'drawing.png'):
    got = s3.get_object(Bucket=sys.argv[1], Key=f'thumbnails/{{name}}')
    found[name] = [got['ContentType'], size(got['Body'].read())]
print(json.dumps(found))"
    );
    let found: serde_json::Value = serde_json::from_str(&boto3.run(&look, &[bucket]).await).expect("json");
    // 1200 × 800, and held upright when it was taken; 900 × 300.
    let expected = serde_json::json!({ "upright.jpg": ["image/jpeg", [171, 256]], "drawing.png": ["image/png", [256, 85]] });
    assert_eq!(found, expected);
    wait_for("what is no picture is left alone, and said", LIMIT, async || {
        platform.rouse(&["logs", app]).await.out.contains("in/broken.jpg is no picture")
    })
    .await;
    boto3.run("s3.delete_object(Bucket=sys.argv[1], Key='in/upright.jpg')", &[bucket]).await;
    wait_for("its thumbnail goes with a picture", LIMIT, async || {
        !keys(boto3, bucket).await.contains(&made[1].to_owned())
    })
    .await;
    let left = keys(boto3, bucket).await;
    assert_eq!(left, ["in/broken.jpg", "in/drawing.png", "in/note.txt", made[0]]);
}

#[tokio::test]
async fn a_python_handler_makes_uploaded_pictures_small() {
    let test = "a_python_handler_makes_uploaded_pictures_small";
    let platform = Platform::start();
    need!(platform, "a_python_handler_makes_uploaded_pictures_small", "python");
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    if can_resolve(test) {
        pictures_are_made_small(&platform, &boto3, "thumbnails", "photos").await;
    }
}

#[tokio::test]
async fn a_rust_component_makes_uploaded_pictures_small() {
    let test = "a_rust_component_makes_uploaded_pictures_small";
    let platform = Platform::start();
    need!(platform, "a_rust_component_makes_uploaded_pictures_small", "component");
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    pictures_are_made_small(&platform, &boto3, "thumbnails-rust", "pictures").await;
    assert_eq!(platform.functions(), [], "a component has no process");
}

#[tokio::test]
async fn a_functions_key_acts_for_its_tenant_alone_and_goes_with_its_app() {
    let test = "a_functions_key_acts_for_its_tenant_alone_and_goes_with_its_app";
    let platform = Platform::start();
    need!(platform, "a_functions_key_acts_for_its_tenant_alone_and_goes_with_its_app", "python");
    let Some(boto3) = Boto3::of(&platform, test).await else { return };
    let tell = "return {name: os.environ.get(name) for name in \
                ('AWS_ENDPOINT_URL', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY')}";
    let app = App::new("keyed")
        .python("with", tell, "egress = [\"rouse.internal:4566\"]")
        .python("without", tell, "")
        .python("own", tell, "egress = [\"rouse.internal:4566\"]\nenv = { AWS_ACCESS_KEY_ID = \"mine\" }");
    let made = platform.rouse(&["tenant", "create", "other"]).await;
    assert!(made.ok, "{}", made.err);
    let other = ["deploy", &app.path().display().to_string(), "--tenant", "other"];
    let cli = platform.rouse(&other).await;
    assert!(cli.ok, "{}", cli.err);
    platform.deploy(app.path()).await;
    let told = async |args: &[&str]| {
        let cli = platform.rouse(&[&["invoke"], args].concat()).await;
        assert!(cli.ok, "{}", cli.err);
        let line = cli.out.lines().find(|line| line.starts_with('{')).unwrap_or(&cli.out).to_owned();
        serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|_| panic!("{}", cli.out))
    };
    let key = told(&["with", "{}"]).await;
    assert_eq!(key["AWS_ENDPOINT_URL"], "http://127.6.0.1:4566");
    assert_eq!(key["AWS_ACCESS_KEY_ID"], "ROUSE_default_keyed_with");
    assert_eq!(told(&["without", "{}"]).await["AWS_ACCESS_KEY_ID"], serde_json::Value::Null);
    let own = told(&["own", "{}"]).await;
    assert_eq!(
        (&own["AWS_ACCESS_KEY_ID"], &own["AWS_SECRET_ACCESS_KEY"]),
        (&"mine".into(), &serde_json::Value::Null)
    );
    let others = told(&["with", "{}", "--tenant", "other"]).await;
    assert_ne!(others["AWS_SECRET_ACCESS_KEY"], key["AWS_SECRET_ACCESS_KEY"]);

    boto3.run("s3.create_bucket(Bucket='mine')", &[]).await;
    let list = "
try:
    print(json.dumps([b['Name'] for b in s3.list_buckets()['Buckets']]))
except Exception as error:
    print(json.dumps(error.response['Error']['Code']))
";
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().expect("a text").to_owned();
    let as_function = async |of: &serde_json::Value, id: &str| {
        let secret = text(of, "AWS_SECRET_ACCESS_KEY");
        let boto3 = Boto3::of(&platform, test).await.expect("boto3");
        let boto3 = boto3.with(&[("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", &secret)]);
        serde_json::from_str::<serde_json::Value>(&boto3.run(list, &[]).await).expect("json")
    };
    let id = "ROUSE_default_keyed_with";
    assert_eq!(as_function(&key, id).await, serde_json::json!(["mine"]));
    assert_eq!(as_function(&others, "ROUSE_other_keyed_with").await, serde_json::json!([]));
    assert_eq!(as_function(&others, id).await, "SignatureDoesNotMatch", "the id alone makes nobody another");
    let deleted = platform.rouse(&["delete", "keyed", "--yes"]).await;
    assert!(deleted.ok, "{}", deleted.err);
    assert_eq!(as_function(&key, id).await, "InvalidAccessKeyId", "it went with its app");
}
