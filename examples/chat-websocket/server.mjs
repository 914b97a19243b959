// A chat room over WebSockets: what one says, all hear. A plain server on $PORT; nothing in it knows of Rouse.
import http from "node:http";
import { WebSocketServer } from "ws";

const server = http.createServer((request, response) => {
  response.setHeader("content-type", "text/plain");
  response.end(`${room.clients.size} in the room\n`);
});

const room = new WebSocketServer({ server });
room.on("connection", (socket) => {
  console.log(`joined, ${room.clients.size} in the room`);
  socket.on("message", (text) => {
    for (const each of room.clients) each.send(String(text));
  });
});

server.listen(process.env.PORT);
