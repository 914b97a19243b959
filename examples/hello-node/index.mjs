// A Lambda handler for Node.js: greets, and adds up a shopping cart.
//
// Called over HTTP (a function URL event): `GET /?name=Ada` greets and echoes the query; `POST /` with
// {"items": [{"name": "tea", "price": "3.50", "count": 2}]} answers the total.
// Called directly, the event itself is that JSON, or {"name": "Ada"}.

export const handler = async (event) => {
  const http = event?.requestContext?.http;
  if (!http) return job(event);

  const query = event.queryStringParameters ?? {};
  if (http.method !== "POST") return respond(200, { ...greet(query.name), query });

  try {
    const body = event.isBase64Encoded ? Buffer.from(event.body, "base64").toString() : event.body;
    return respond(200, job(JSON.parse(body)));
  } catch (error) {
    return respond(400, { error: error.message });
  }
};

function job(value) {
  if (!Array.isArray(value?.items)) return greet(value?.name);
  const cents = value.items.reduce((sum, { price, count = 1 }) => sum + toCents(price) * count, 0);
  return { from: "node", items: value.items.length, total: (cents / 100).toFixed(2) };
}

/** Money is counted in whole cents: 0.1 + 0.2 must be 0.30. */
function toCents(price) {
  const cents = Math.round(Number(price) * 100);
  if (!Number.isSafeInteger(cents)) throw new Error(`'${price}' is not a price`);
  return cents;
}

function greet(name = "world") {
  console.log(`greeting ${name}`);
  return { greeting: `Hello, ${name}!`, from: "node" };
}

function respond(statusCode, value) {
  return {
    statusCode,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(value) + "\n",
  };
}
