import http from "node:http";

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  const name = url.searchParams.get("name") ?? "world";
  console.log(`greeting ${name}`);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ greeting: `Hello, ${name}!` }) + "\n");
});

server.listen(process.env.PORT);
