// Serves HTTP until SIGTERM, with files, a child process, a worker thread and compression: server.js PORT DIRECTORY
"use strict";
const { execFile } = require("child_process");
const { mkdtemp, readFile, rm, writeFile } = require("fs/promises");
const http = require("http");
const path = require("path");
const { promisify } = require("util");
const { Worker } = require("worker_threads");
const zlib = require("zlib");

const [port, directory] = process.argv.slice(2);

async function work() {
    const place = await mkdtemp(path.join(directory, "up-"));
    await writeFile(path.join(place, "file"), "content");
    const text = await readFile(path.join(place, "file"), "utf8");
    await rm(place, { recursive: true });
    const { stdout } = await promisify(execFile)("/usr/bin/id", ["-u"]);
    const worker = new Worker("require('worker_threads').parentPort.postMessage(7)", { eval: true });
    const seven = await new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
    await promisify(zlib.gzip)(Buffer.alloc(100000));
    return `${text} ${stdout.trim()} ${seven}`;
}

http.createServer((request, response) => {
    work().then(
        (text) => response.end(text),
        (error) => response.writeHead(500).end(String(error)),
    );
}).listen(Number(port), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
