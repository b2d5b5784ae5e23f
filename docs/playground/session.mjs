// The package in a Python of WebAssembly: what is unpacked into it, and the one function to ask it. Used by the page's
// worker, and by tests in Node.

// `read` gives the bytes of a file beside this one. Returns a function from a call and its arguments to the answer.
export async function startSession(pyodide, read) {
  const archives = JSON.parse(new TextDecoder().decode(await read("archives.json")));
  for (const name of archives) pyodide.unpackArchive(await read(name), "wheel");
  pyodide.unpackArchive(await read("images.zip"), "zip", { extractDir: "/images" });
  const session = pyodide.runPython(`
import importlib
importlib.invalidate_caches()
from vmsnap_nb.playground.session import Session
Session("/images")
`);
  return (call, given = {}) => {
    const { answer, error } = JSON.parse(session.call(JSON.stringify({ call, with: given })));
    if (error) throw new Refused(error);
    return answer;
  };
}

// An error that the package explains; its text is HTML.
export class Refused extends Error {
  constructor(html) {
    super(html.replace(/<[^>]*>/g, " "));
    this.html = html;
  }
}
