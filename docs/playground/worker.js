// Python runs here, so that the page stays alive. Files that are dropped are read in place, only where they are needed.
import { loadPyodide } from "./pyodide/pyodide.mjs";
import { startSession } from "./session.mjs";

const DROPPED = "/dropped";
let pyodide;
let ask;
let mounted = null;

async function read(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.arrayBuffer();
}

async function begin(given) {
  pyodide = await loadPyodide({ indexURL: new URL("./pyodide/", import.meta.url).href });
  ask = await startSession(pyodide, read);
  return ask("begin", given);
}

function mount(files, folder) {
  const { FS } = pyodide;
  if (mounted) FS.unmount(mounted);
  FS.mkdirTree(folder);
  FS.mount(FS.filesystems.WORKERFS, { files }, folder);
  mounted = folder;
}

function drop({ files }) {
  mount(files, DROPPED);
  const folder = ask("folder", { folder: DROPPED });
  if (folder !== DROPPED) mount(files, folder);
  return ask("dropped", { folder });
}

self.addEventListener("message", async ({ data: { id, call, given } }) => {
  try {
    const answer = await (call === "begin" ? begin(given) : call === "drop" ? drop(given) : ask(call, given));
    self.postMessage({ id, answer });
  } catch (error) {
    self.postMessage({ id, error: { html: error.html ?? null, text: String(error) } });
  }
});
