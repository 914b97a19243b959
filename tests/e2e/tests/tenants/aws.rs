//! AWS' face: a stranger's access keys, with AWS' own client, against Lambda, SQS, S3 and what is beside them.

use std::process::Command;

use rouse_e2e::{environment_of, folder, python, run, skipped, tool};

use crate::world::{World, ZEBRA, plain};

/// A stranger with nothing yet.
const FRESH: &str = "fresh";

/// As an account looks, and nobody's.
const NOBODYS: &str = "765432109876";

const ZEBRAS: &str = "
import sys, json, io, zipfile, boto3
out = io.BytesIO()
with zipfile.ZipFile(out, 'w') as zipped:
    zipped.writestr('app.py', 'def handler(event, context):\\n    return \"zebra-answer\"\\n')
lam = boto3.client('lambda')
lam.create_function(FunctionName='zebra-lambda', Runtime=sys.argv[1], Handler='app.handler',
                    Role='arn:aws:iam::000000000000:role/r', Code={'ZipFile': out.getvalue()})
lam.get_waiter('function_active_v2').wait(FunctionName='zebra-lambda')
told = lam.invoke(FunctionName='zebra-lambda')['Payload'].read().decode()
print(json.dumps([boto3.client('sts').get_caller_identity()['Account'], told]))
";

pub(crate) async fn a_strangers_access_key_gets_nothing_of_another_tenant_from_any_service(
    world: &World,
    test: &str,
) {
    let Some(tools) = tool("ROUSE_AWS_CLIENTS_PYTHON") else {
        return skipped(test, "boto3 is not there: run `cargo xtask setup`");
    };
    let client = || Command::new(tools.join("bin/python"));
    let runtime = python().expect("a Python");
    let mut zebras = client();
    zebras.args(["-c", ZEBRAS, &runtime]);
    let told = run(zebras, environment_of(&world.platform, ZEBRA).await).await;
    let told: (String, String) = serde_json::from_str(told.trim()).expect("json");
    let (account, answered) = told;
    assert_eq!(answered, "\"zebra-answer\"", "what is zebra's is there");
    let made = world.platform.rouse(&["tenant", "create", FRESH]).await;
    assert!(made.ok, "{}", made.err);
    let mut strangers = client();
    strangers.arg(folder("tests/e2e/scripts").join("stranger.py")).args([&account, NOBODYS, &runtime]);
    let told = run(strangers, environment_of(&world.platform, FRESH).await).await;
    let mut walked = 0;
    for line in told.lines() {
        let (what, real, never): (String, serde_json::Value, serde_json::Value) =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let of_nobody = |value: &serde_json::Value| plain(&value.to_string().replace(&account, NOBODYS));
        assert_eq!(
            world.nowhere(&of_nobody(&real)),
            of_nobody(&never),
            "{what}: an answer tells what is there"
        );
        assert!(
            !real.to_string().contains("zebra-answer") && !real.to_string().contains("zebra-content"),
            "{what}"
        );
        walked += 1;
    }
    assert!(walked > 90, "{walked}");
}
