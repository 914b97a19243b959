// The same handler as benches/hello, for workerd.
export default {
  async fetch(request) {
    return new Response(request.method === "POST" ? await request.text() : "Hello, world!\n");
  },
};
