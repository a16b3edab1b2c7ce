// nodemailer's server: `node nodemailer.js CACHE PORT [CHAIN KEY]`, where CACHE has the node_modules.
"use strict";

const { readFileSync } = require("fs");
const [cache, port, chain, key] = process.argv.slice(2);
const { SMTPServer } = require(require.resolve("smtp-server", { paths: [cache] }));

const server = new SMTPServer({
    ...(chain ? { secure: true, cert: readFileSync(chain), key: readFileSync(key) } : {}),
    name: "mx.example.org",
    banner: "ready",
    disabledCommands: ["AUTH", "STARTTLS"],
    disableReverseLookup: true,
    size: 1000000000,
    socketTimeout: 600000,
    onData(stream, session, callback) {
        stream.on("data", () => {});
        stream.on("end", () => callback(null, "Thrown away"));
    },
});

server.on("error", () => {});
server.listen(Number(port), "127.0.0.1");
