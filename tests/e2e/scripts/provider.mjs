// A provider of identities, by panva's certified `oidc-provider`, with its own forms for people: whoever signs in as NAME is
// NAME@acme.example. Beside it, at /ci-token, tokens as a CI signs them for its builds, by the same key.
//
//   node provider.mjs PORT FOLDER-WITH-node_modules
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, folder] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/x.js`));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Provider } = await load('oidc-provider');
const { SignJWT, exportJWK, generateKeyPair } = await load('jose');

const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = await generateKeyPair('RS256', { extractable: true });
const key = { ...(await exportJWK(privateKey)), kid: 'k1', alg: 'RS256', use: 'sig' };

const account = (id) => ({
  accountId: id,
  claims: () => ({
    sub: id,
    email: `${id}@acme.example`,
    email_verified: id !== 'mallory',
    groups: id === 'ben' ? ['all', 'viewers'] : ['all'],
  }),
});

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'rouse',
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    redirect_uris: ['http://127.0.0.1/callback'],
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  }],
  jwks: { keys: [key] },
  scopes: ['openid', 'offline_access', 'email', 'groups'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
  // What the scopes grant stands in the ID token itself.
  conformIdTokenClaims: false,
  cookies: { keys: ['a-key-of-a-test'] },
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true }, revocation: { enabled: true } },
  findAccount: (_, id) => account(id),
});

const rest = provider.callback();
http.createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname !== '/ci-token') {
    rest(request, response);
    return;
  }
  if (request.headers.authorization !== 'Bearer of-this-build') {
    response.writeHead(401).end();
    return;
  }
  const { audience, sub, ...claims } = Object.fromEntries(url.searchParams);
  const token = await new SignJWT({ ...claims, jti: crypto.randomUUID() })
    .setProtectedHeader({ alg: 'RS256', kid: 'k1', typ: 'JWT' })
    .setIssuer(issuer).setAudience(audience).setSubject(sub)
    .setIssuedAt().setNotBefore('0s').setExpirationTime('5m')
    .sign(privateKey);
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ value: token }));
}).listen(Number(port), '127.0.0.1');
