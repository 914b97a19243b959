// The least that a Lambda handler can do.
export const handler = async () => ({ statusCode: 200, body: "Hello, world!\n" });
