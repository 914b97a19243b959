# Makes, uses and deletes a queue with the aws command line; the first argument is the folder that it is in.
set -eu
# Version 1 of the command line overrides the variable for SQS.
aws() { "$BIN/python" "$BIN/aws" --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
BIN=$1
url=$(aws sqs create-queue --queue-name from-cli --attributes VisibilityTimeout=60 --query QueueUrl --output text)
aws sqs send-message --queue-url "$url" --message-body hello --message-attributes 'a={DataType=String,StringValue=b}' \
    --query MD5OfMessageBody --output text | grep -q 5d41402abc4b2a76b9719d911017c592
receipt=$(aws sqs receive-message --queue-url "$url" --wait-time-seconds 20 --message-attribute-names All \
    --query 'Messages[0].ReceiptHandle' --output text)
aws sqs get-queue-attributes --queue-url "$url" --attribute-names ApproximateNumberOfMessagesNotVisible --output text | grep -q 1
aws sqs delete-message --queue-url "$url" --receipt-handle "$receipt"
aws sqs list-queues --query 'QueueUrls' --output text | grep -q from-cli
aws sqs delete-queue --queue-url "$url"
if aws sqs get-queue-url --queue-name from-cli 2> /dev/null; then exit 1; fi
echo done
