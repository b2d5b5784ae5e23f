// Ask the playground of a built site in Node: node playground.mjs FOLDER < requests, each a line of JSON [call, given].
// Prints one line of JSON for each: the answer, or {"error": HTML}.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const folder = path.resolve(process.argv[2]);
const module = (name) => import(pathToFileURL(path.join(folder, name)));
const [{ loadPyodide }, { startSession }] = await Promise.all([module("pyodide/pyodide.mjs"), module("session.mjs")]);
const pyodide = await loadPyodide({ indexURL: path.join(folder, "pyodide") + path.sep });
const ask = await startSession(pyodide, (name) => new Uint8Array(fs.readFileSync(path.join(folder, name))));
for (const line of fs.readFileSync(0, "utf8").trim().split("\n")) {
  const [call, given] = JSON.parse(line);
  let answer;
  try {
    answer = ask(call, given);
  } catch (error) {
    if (!error.html) throw error;
    answer = { error: error.html };
  }
  console.log(JSON.stringify(answer));
}
