// A client of the AWS Lambda Runtime API for Node.js, without dependencies: finds the handler that _HANDLER
// names, asks for invocations one after the other, posts what the handler gives.
//
// Handlers: async, callback, and awslambda.streamifyResponse; CommonJS and ES modules.
//
// With AWS_LAMBDA_MAX_CONCURRENCY several invocations run at once, side by side in this one event loop. Then a
// callback answers at once, and what goes to the console begins with its invocation's id, so that it can be told whose
// it is.
//
// With ROUSE_STARTS_AHEAD it is started before it is known which function it is: it says `ready` on descriptor 3, and is
// told there what a plain start would have found in its environment, its working folder and its files. The messages are
// described in the spawner's `zygotes.rs`. Before, it does once all that it can do without knowing.
import { AsyncLocalStorage } from 'node:async_hooks';
import { Agent, createServer, request } from 'node:http';
import { createRequire } from 'node:module';
import { closeSync, readSync, writeSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { resolve, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { finished } from 'node:stream/promises';
import { format } from 'node:util';

const WORD = 3;
const MESSAGE_BYTES = 128 * 1024;
const base = '/2018-06-01/runtime';

// Does what the first invocation will: then its parts are compiled, and the threads that look into files have begun.
async function rehearse() {
  const server = createServer((asked, answer) => asked.resume().on('end', () => answer.end('{}')));
  // Without an address: to look at one would load what reads the name servers, which are the spec's to say.
  await new Promise((done, fail) => server.on('error', fail).listen(0, done));
  const own = new Agent({ keepAlive: true, noDelay: true });
  const to = { host: '127.0.0.1', port: server.address().port, agent: own };
  try {
    for (const method of ['GET', 'POST']) {
      JSON.parse((await callAt(to, method, '/', method === 'POST' ? '{}' : undefined)).body);
    }
    await firstThere('/var/task/nothing');
    await import('data:text/javascript,');
  } finally {
    own.destroy();
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
}

// Waits for the spec: parts with a zero byte after each, which are the working folder, the limit of open files, the number
// of arguments, the arguments, and the environment. Limits and arguments are what they are already.
function becomeTheCode() {
  writeSync(WORD, 'ready');
  const bytes = Buffer.allocUnsafeSlow(MESSAGE_BYTES);
  const length = readSync(WORD, bytes);
  // Nobody needs it any more.
  if (length === 0) process.exit(0);
  closeSync(WORD);
  const [cwd, , count, ...rest] = bytes.toString('utf8', 0, length - 1).split('\0');
  const { env } = process;
  const told = new Map();
  for (const one of rest.slice(Number(count))) {
    const at = one.indexOf('=');
    told.set(one.slice(0, at), one.slice(at + 1));
  }
  // What stays the same is not touched: without `TZ`, if only for a moment, the zone is looked for among all files of zones.
  for (const name of Object.keys(env)) if (!told.has(name)) delete env[name];
  for (const [name, value] of told) if (env[name] !== value) env[name] = value;
  process.chdir(cwd);
}

if (process.env.ROUSE_STARTS_AHEAD) {
  // One that fails leaves a start that is slower.
  await rehearse().catch(() => {});
  becomeTheCode();
}

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const atOnce = Math.max(1, Number.parseInt(process.env.AWS_LAMBDA_MAX_CONCURRENCY ?? '1', 10) || 1);
const several = atOnce > 1;
// The ids of those that run, and of the one that this code runs for.
const running = new Set();
const current = new AsyncLocalStorage();
// One kept connection to ask, and one to answer: an answer does not wait for a connection.
const agent = new Agent({ keepAlive: true, maxSockets: 2 * atOnce, noDelay: true, timeout: 0 });

const call = (...what) => callAt({ host, port, agent }, ...what);

function callAt(to, method, path, body, headers = {}) {
  return new Promise((done, fail) => {
    const bytes = body === undefined ? undefined : Buffer.from(body);
    if (bytes) headers = { 'content-type': 'application/json', 'content-length': bytes.length, ...headers };
    const sent = request({ ...to, method, path: base + path, headers }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => done({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts).toString() }));
      answer.on('error', fail);
    });
    sent.on('error', fail);
    sent.end(bytes);
  });
}

function describe(error) {
  if (!(error instanceof Error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
  return { errorType: error.name, errorMessage: error.message, trace: (error.stack ?? '').split('\n') };
}

async function postError(path, error) {
  const told = describe(error);
  console.error(told.trace.length ? told.trace.join('\n') : `${told.errorType}: ${told.errorMessage}`);
  // A header takes visible ASCII alone.
  const type = told.errorType.replace(/[^\x21-\x7e]/g, '?').slice(0, 200);
  await call('POST', path, JSON.stringify(told), { 'lambda-runtime-function-error-type': type });
}

class HttpResponseStream {
  // The first bytes of the stream say status and headers: JSON, then eight zero bytes.
  static from(stream, prelude) {
    stream.setContentType('application/vnd.awslambda.http-integration-response');
    stream.write(Buffer.concat([Buffer.from(JSON.stringify(prelude)), Buffer.alloc(8)]));
    return stream;
  }
}

globalThis.awslambda = {
  streamifyResponse(handler) {
    handler[STREAMING] = 'response';
    return handler;
  },
  HttpResponseStream,
};

async function load() {
  const name = process.argv[2] ?? process.env._HANDLER ?? '';
  const file = name.slice(name.lastIndexOf('/') + 1);
  const dot = file.indexOf('.');
  if (dot < 1) throw Object.assign(new Error(`'${name}' is no handler: write file.function`), { name: 'Runtime.MalformedHandlerName' });
  const root = process.env.LAMBDA_TASK_ROOT;
  const path = resolve(root, name.slice(0, name.length - file.length), file.slice(0, dot));
  const found = await firstThere(path);
  let module;
  if (found === undefined) {
    throw Object.assign(new Error(`Cannot find module '${path}' (.js, .mjs, .cjs)`), { name: 'Runtime.ImportModuleError' });
  }
  if (found.endsWith('.mjs')) module = await import(pathToFileURL(found));
  else {
    try {
      module = createRequire(join(root, 'x.js'))(found);
    } catch (error) {
      // A .js file of a package with "type": "module".
      const esm = ['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE'].includes(error?.code) || error instanceof SyntaxError;
      if (!esm) throw error;
      module = await import(pathToFileURL(found));
    }
  }
  let handler = module;
  for (const key of file.slice(dot + 1).split('.')) handler = handler?.[key] ?? handler?.default?.[key];
  if (typeof handler !== 'function') {
    throw Object.assign(new Error(`${name} is undefined or not exported`), { name: 'Runtime.HandlerNotFound' });
  }
  return handler;
}

async function firstThere(path) {
  for (const end of ['.js', '.mjs', '.cjs']) {
    if (await access(path + end).then(() => true, () => false)) return path + end;
  }
  return undefined;
}

// Calls a handler that may give a promise, or call back: whichever comes first. After a callback the answer waits
// until the event loop is empty, unless the handler set callbackWaitsForEmptyEventLoop to false.
function run(handler, event, context) {
  return new Promise((done, fail) => {
    const settle = (error, result) => {
      const end = () => (error === undefined || error === null ? done(result) : fail(error));
      // With several, those that ask for work keep the event loop from ever being empty.
      if (several || !context.callbackWaitsForEmptyEventLoop) return end();
      process.removeAllListeners('beforeExit');
      process.once('beforeExit', end);
    };
    context.done = settle;
    context.succeed = (result) => settle(null, result);
    context.fail = (error) => settle(error ?? new Error('handler failed'));
    // A handler that neither gives a promise nor ever calls back ends with an empty event loop: its answer is null.
    if (!several) {
      process.removeAllListeners('beforeExit');
      process.once('beforeExit', () => done(null));
    }
    const given = handler(event, context, settle);
    if (typeof given?.then === 'function') given.then(done, fail);
  });
}

async function stream(handler, event, context, id) {
  const body = new PassThrough();
  let sent;
  const headers = { 'lambda-runtime-function-response-mode': 'streaming', 'transfer-encoding': 'chunked' };
  let type = 'application/octet-stream';
  const answered = new Promise((done, fail) => {
    // Begun with the first byte, so that the content type can still be set until then.
    const begin = () => {
      if (sent) return;
      const all = { ...headers, 'content-type': type, trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body' };
      sent = request({ host, port, method: 'POST', path: `${base}/invocation/${id}/response`, headers: all, agent }, (answer) => {
        answer.resume();
        answer.on('end', done);
      });
      sent.on('error', fail);
      body.pipe(sent);
    };
    body.setContentType = (value) => { type = value; };
    body.once('readable', begin);
    body.begin = begin;
  });
  answered.catch(() => {});
  try {
    await handler(event, body, context);
    if (!body.writableEnded) body.end();
    body.begin();
    await finished(body);
  } catch (error) {
    if (!sent) return postError(`/invocation/${id}/error`, error);
    const told = describe(error);
    console.error(told.trace.join('\n'));
    body.unpipe(sent);
    sent.addTrailers({
      'Lambda-Runtime-Function-Error-Type': told.errorType.replace(/[^\x21-\x7e]/g, '?'),
      'Lambda-Runtime-Function-Error-Body': Buffer.from(JSON.stringify(told)).toString('base64'),
    });
    sent.end();
  }
  await answered;
}

function contextOf(headers) {
  const env = process.env;
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const parsed = (name) => (headers[name] === undefined ? undefined : JSON.parse(headers[name]));
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    clientContext: parsed('lambda-runtime-client-context'),
    identity: parsed('lambda-runtime-cognito-identity'),
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    xRayTraceId: headers['lambda-runtime-trace-id'],
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

// Puts the id of the invocation before each line, as AWS' own text format has it.
function nameLines() {
  for (const [method, level] of [['debug', 'DEBUG'], ['log', 'INFO'], ['info', 'INFO'], ['warn', 'WARN'], ['error', 'ERROR']]) {
    const plain = console[method].bind(console);
    console[method] = (...args) => {
      const id = current.getStore();
      if (id === undefined) return plain(...args);
      const head = `${new Date().toISOString()}\t${id}\t${level}\t`;
      plain('%s', format(...args).split('\n').map((line) => head + line).join('\n'));
    };
  }
}

async function answer(handler, next, id) {
  try {
    const context = contextOf(next.headers);
    const event = JSON.parse(next.body);
    if (handler[STREAMING]) return await stream(handler, event, context, id);
    const result = await run(handler, event, context);
    await call('POST', `/invocation/${id}/response`, JSON.stringify(result === undefined ? null : result));
  } catch (error) {
    await postError(`/invocation/${id}/error`, error);
  }
}

async function serve(handler) {
  for (;;) {
    const next = await call('GET', '/invocation/next');
    if (next.status !== 200) throw new Error(`the Runtime API refused: ${next.status} ${next.body}`);
    const id = next.headers['lambda-runtime-aws-request-id'];
    running.add(id);
    if (several) await current.run(id, answer, handler, next, id);
    else {
      process.env._X_AMZN_TRACE_ID = next.headers['lambda-runtime-trace-id'] ?? '';
      await answer(handler, next, id);
    }
    running.delete(id);
  }
}

async function main() {
  let handler;
  try {
    handler = await load();
  } catch (error) {
    await postError('/init/error', error);
    process.exit(1);
  }
  const fatal = async (error) => {
    const paths = running.size ? [...running].map((id) => `/invocation/${id}/error`) : ['/init/error'];
    await Promise.all(paths.map((path) => postError(path, error).catch(() => {})));
    process.exit(129);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  if (several) nameLines();
  await Promise.all(Array.from({ length: atOnce }, () => serve(handler)));
}

await main();
