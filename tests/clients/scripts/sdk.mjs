// Creates, calls and deletes a function with the JavaScript SDK; the first argument is where it is installed.
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const sdk = require("@aws-sdk/client-lambda");
const client = new sdk.LambdaClient({});

// An archive of one file that is stored as it is.
function archive(name, text) {
    const file = Buffer.from(name), data = Buffer.from(text), table = [];
    for (let n = 0; n < 256; n++) {
        let c = n;
        for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
        table[n] = c >>> 0;
    }
    let crc = 0xffffffff;
    for (const byte of data) crc = table[(crc ^ byte) & 0xff] ^ (crc >>> 8);
    crc = (crc ^ 0xffffffff) >>> 0;
    const head = (signature, size) => {
        const out = Buffer.alloc(size);
        out.writeUInt32LE(signature, 0);
        return out;
    };
    const common = (out, at) => {
        out.writeUInt16LE(20, at);
        out.writeUInt32LE(crc, at + 10);
        out.writeUInt32LE(data.length, at + 14);
        out.writeUInt32LE(data.length, at + 18);
        out.writeUInt16LE(file.length, at + 22);
        return out;
    };
    const local = common(head(0x04034b50, 30), 4);
    const central = common(head(0x02014b50, 46), 6);
    const end = head(0x06054b50, 22);
    end.writeUInt16LE(1, 8);
    end.writeUInt16LE(1, 10);
    end.writeUInt32LE(central.length + file.length, 12);
    end.writeUInt32LE(local.length + file.length + data.length, 16);
    return Buffer.concat([local, file, data, central, file, end]);
}

const FunctionName = "from-sdk";
const code = "exports.handler = async (event) => 'hello ' + event.name;\n";
await client.send(new sdk.CreateFunctionCommand({
    FunctionName, Runtime: `nodejs${process.versions.node.split(".")[0]}.x`, Handler: "index.handler",
    Role: "arn:aws:iam::000000000000:role/r", Code: { ZipFile: archive("index.js", code) },
}));
await sdk.waitUntilFunctionActiveV2({ client, maxWaitTime: 60 }, { FunctionName });
const answer = await client.send(new sdk.InvokeCommand({ FunctionName, Payload: JSON.stringify({ name: "sdk" }) }));
console.log(JSON.parse(Buffer.from(answer.Payload).toString()));
const stream = await client.send(new sdk.InvokeWithResponseStreamCommand({ FunctionName, Payload: '{"name":"x"}' }));
let streamed = "";
for await (const event of stream.EventStream) {
    if (event.PayloadChunk) streamed += Buffer.from(event.PayloadChunk.Payload).toString();
}
if (JSON.parse(streamed) !== "hello x") throw new Error(streamed);
try {
    await client.send(new sdk.GetFunctionCommand({ FunctionName: "none" }));
    throw new Error("it should not be there");
} catch (error) {
    if (!(error instanceof sdk.ResourceNotFoundException)) throw error;
}
await client.send(new sdk.DeleteFunctionCommand({ FunctionName }));
