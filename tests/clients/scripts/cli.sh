# Creates, calls and deletes a function with the aws command line; the first argument is the folder that it is in.
set -eu
aws() { "$BIN/python" "$BIN/aws" "$@"; }
BIN=$1
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
printf 'def handler(event, context):\n    return {"hello": event["name"]}\n' > app.py
"$BIN/python" -m zipfile -c code.zip app.py
aws lambda create-function --function-name from-cli --runtime "$RUNTIME" --handler app.handler \
    --role arn:aws:iam::000000000000:role/r --zip-file fileb://code.zip > made.json
aws lambda wait function-active-v2 --function-name from-cli
aws lambda invoke --function-name from-cli --payload '{"name":"cli"}' --log-type Tail answer.json > told.json
grep -q LogResult told.json
cat answer.json
aws lambda list-functions --query 'Functions[].FunctionName' --output text | grep -q from-cli
aws logs describe-log-groups --log-group-name-prefix /aws/lambda/from-cli | grep -q from-cli
aws sts get-caller-identity | grep -q 000000000000
aws lambda delete-function --function-name from-cli
