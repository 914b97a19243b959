// Makes, uses and deletes a queue with the JavaScript SDK; the first argument is where it is installed.
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const sdk = require("@aws-sdk/client-sqs");
const client = new sdk.SQSClient({});
const run = (command) => client.send(command);

const { QueueUrl } = await run(new sdk.CreateQueueCommand({ QueueName: "from-sdk", tags: { a: "b" } }));
// The SDK checks the digests of bodies.
await run(new sdk.SendMessageCommand({
    QueueUrl, MessageBody: "hello", MessageAttributes: { n: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) } },
}));
const batch = await run(new sdk.SendMessageBatchCommand({
    QueueUrl, Entries: [{ Id: "a", MessageBody: "two" }, { Id: "b", MessageBody: "bad\u0001" }],
}));
if (batch.Successful.length !== 1 || batch.Failed[0].Id !== "b") throw new Error(JSON.stringify(batch));
const got = [];
while (got.length < 2) {
    const { Messages } = await run(new sdk.ReceiveMessageCommand({
        QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 20, MessageAttributeNames: ["All"],
    }));
    got.push(...(Messages ?? []));
}
const first = got.find((message) => message.Body === "hello");
if (Buffer.from(first.MessageAttributes.n.BinaryValue).toString("hex") !== "00ff") throw new Error("not the bytes");
for (const { ReceiptHandle } of got) await run(new sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle }));
try {
    await run(new sdk.GetQueueUrlCommand({ QueueName: "none" }));
    throw new Error("it should not be there");
} catch (error) {
    if (!(error instanceof sdk.QueueDoesNotExist)) throw error;
}
const { Tags } = await run(new sdk.ListQueueTagsCommand({ QueueUrl }));
await run(new sdk.DeleteQueueCommand({ QueueUrl }));
console.log("received", got.map((message) => message.Body).sort().join(" "), JSON.stringify(Tags));
