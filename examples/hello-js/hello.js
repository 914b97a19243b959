// A component in JavaScript: greets, in the language that the caller asks for.
//
// `GET /?name=Ada&lang=de` greets one and echoes the query; `POST /` with {"name": "Ada"} or
// {"names": ["Ada", "Grace"]} greets them all.

const GREETINGS = { en: "Hello", de: "Hallo", fr: "Bonjour", es: "Hola", it: "Ciao" };
const NAMES_MAX = 1000;

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const query = Object.fromEntries(new URL(request.url).searchParams);
  const language = query.lang ?? request.headers.get("accept-language")?.slice(0, 2);
  const word = GREETINGS[language] ?? GREETINGS.en;
  const greet = (name) => `${word}, ${name}!`;

  if (request.method === "GET" || request.method === "HEAD") {
    return json(200, { greeting: greet(query.name ?? "world"), from: "javascript", query });
  }
  if (request.method !== "POST") {
    return json(405, { error: "GET greets one, POST greets many" });
  }
  let body;
  try {
    body = JSON.parse(await request.text());
  } catch (error) {
    return json(400, { error: `the body is not JSON: ${error.message}` });
  }
  if (Array.isArray(body?.names) && body.names.length <= NAMES_MAX) {
    return json(200, { greetings: body.names.map(greet), from: "javascript" });
  }
  return json(200, { greeting: greet(body?.name ?? "world"), from: "javascript" });
}

function json(status, value) {
  return new Response(JSON.stringify(value) + "\n", {
    status,
    headers: { "content-type": "application/json" },
  });
}
