// Answers HTTP requests. Every call gets a fresh instance, so nothing is kept between calls.

async function handle(request) {
  const url = new URL(request.url);
  const name = url.searchParams.get("name") ?? "world";
  console.log(`${request.method} ${url.pathname}`);
  const body = request.method === "POST" ? await request.text() : "";
  return Response.json({ hello: name, ...(body && { received: body.length }) });
}

addEventListener("fetch", (event) => event.respondWith(handle(event.request)));
