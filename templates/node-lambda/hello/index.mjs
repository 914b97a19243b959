// Answers HTTP requests, and payloads given by `rouse invoke`.

// What is made here is made once and kept for all calls of this instance.
const greeting = "hello";

export const handler = async (event, context) => {
  const name = event.queryStringParameters?.name ?? event.name ?? "world";
  console.log(`greeting ${name}, request ${context.awsRequestId}`);
  const body = { [greeting]: name };
  if (!event.requestContext) return body;
  return {
    statusCode: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body) + "\n",
  };
};
